"""A transposer of blocks of 16 x 16: words go in along one axis while the block before comes out along the other."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.nm_load_job import WORD
from ..common.countdown import Countdown

__all__ = ["LoadTurn"]


class LoadTurn(Component):
    """Turns blocks of 16 words of 16 values, ``words`` words a beat, without a pause.

    The registers are a square that shifts up while a block enters as rows and left while the next one enters as columns; what
    falls out at the other end is the block before, transposed.
    *Members*: ``start`` a job; ``step`` with ``i``: a beat goes in; ``o``, in the same cycle, comes out.
    *Latency*: a block, 16 / ``words`` beats.
    """

    def __init__(self, build):
        self.build = build
        beat = data.ArrayLayout(16 * WORD, build.words)
        super().__init__({"start": In(1), "step": In(1), "i": In(beat), "o": Out(beat)})

    def elaborate(self, platform):
        m = Module()
        words, beats = self.build.words, Countdown(WORD // self.build.words, "turn_beat")
        cells = [[Signal(16, name=f"cell_{row}_{column}", reset_less=True) for column in range(WORD)] for row in range(WORD)]
        columns = Signal()

        def value(lane, place):
            return self.i[lane][16 * place : 16 * (place + 1)]

        with m.If(self.step):
            m.d.sync += beats.advance()
            with m.If(beats.last):
                m.d.sync += [*beats.load(WORD // words), columns.eq(~columns)]
            for row in range(WORD):
                for column in range(WORD):
                    up = cells[row + words][column] if row + words < WORD else value(row + words - WORD, column)
                    left = cells[row][column + words] if column + words < WORD else value(column + words - WORD, row)
                    m.d.sync += cells[row][column].eq(Mux(columns, left, up))
        with m.If(self.start):
            m.d.sync += [*beats.load(WORD // words), columns.eq(0)]
        for lane in range(words):
            for place in range(WORD):
                m.d.comb += self.o[lane][16 * place : 16 * (place + 1)].eq(
                    Mux(columns, cells[place][lane], cells[lane][place]))
        return m
