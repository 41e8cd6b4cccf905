"""The left edge of a row of PEs: its words of A, its part of the order of work."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from .pe import WORD_BITS, step_layout

__all__ = ["LAYOUTS", "Row", "command_layout", "words_layout"]

LAYOUTS = (1, 4, 8, 16)
"""Values of A that a row has of a period: the group, output-stationary a word of 16."""
_STEP = ("go", "slot", "parity", "half", "base", "zero", "above")


def command_layout(build):
    """The order of work, the same for all rows, a cycle later for each. ``pulse``: a period begins after this cycle; ``take``:
    the row takes its words for the next one, from ``half``. The rest is the step of :func:`~.pe.step_layout`, ``entry`` within a
    half of the weights."""
    step = step_layout(build)
    return data.StructLayout({"pulse": 1, "take": 1, **{name: step[name].shape for name in _STEP},
                              "entry": step["entry"].width - 1})


def words_layout(build):
    """A beat of A on its way down: which ``beat`` of its period, the period's ``half``."""
    return data.StructLayout({"valid": 1, "half": 1, "beat": range(max(2, build.rows)),
                              "data": data.ArrayLayout(16, 16 * build.words)})


class Row(Component):
    """Takes its words from the beats that pass, and gives its PEs a value a cycle while they work on those before.

    *Members*: ``command``, ``words`` in, a cycle later out with ``_out``; ``token`` sampled with a pulse: the half of the weights
    from then on, ``token_out`` the one before, for the row below; ``layout`` one-hot of :data:`LAYOUTS`; ``ws``; ``step`` out,
    to the first PE.
    *Latency*: a step in the cycle of its command; values from the cycle after their pulse on. *Limits*: ``first`` (top row):
    steps begin from the sums that come in where they are not the first.
    """

    def __init__(self, build, row):
        self.build, self.row = build, row
        super().__init__({
            "command": In(command_layout(build)), "command_out": Out(command_layout(build)),
            "words": In(words_layout(build)), "words_out": Out(words_layout(build)), "token": In(1), "token_out": Out(1),
            "layout": In(len(LAYOUTS)), "ws": In(1), "step": Out(step_layout(build)),
        })

    def elaborate(self, platform):
        m = Module()
        command, step, word = self.command, self.step, data.ArrayLayout(16, 16)
        halves = [Signal(word, name=f"half_{half}", reset_less=True) for half in range(2)]
        moving, left, address = Signal(word, reset_less=True), Signal(range(17)), Signal(WORD_BITS, reset_less=True)
        token = Signal()
        m.d.sync += [self.words_out.eq(self.words), self.command_out.eq(command)]
        for size, chosen in zip(LAYOUTS, self.layout, strict=True):
            beat, at = divmod(self.row * size, 16 * self.build.words)
            for half in range(2):
                with m.If(self.words.valid & chosen & (self.words.beat == beat) & (self.words.half == half)):
                    m.d.sync += [halves[half][i].eq(self.words.data[at + i]) for i in range(size)]
        m.d.sync += [*(moving[i].eq(moving[i + 1]) for i in range(15)), address.eq(address + 1)]
        with m.If(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.If(command.pulse):
            count = sum(Mux(chosen, size, 0) for size, chosen in zip(LAYOUTS, self.layout, strict=True))
            m.d.sync += [address.eq(0), left.eq(Mux(command.take, count, 0)), self.token_out.eq(token), token.eq(self.token),
                         moving.eq(Mux(command.half, halves[1].as_value(), halves[0].as_value()))]
        m.d.comb += [
            *(step[name].eq(command[name]) for name in _STEP if name != "zero"),
            # Only the top row begins from nothing, weight-stationary: the others from what comes down.
            step.zero.eq(command.zero & (~self.ws | (self.row == 0))),
            step.entry.eq(Cat(command.entry, token)), step.write.eq(left != 0), step.address.eq(address),
            step.value.eq(moving[0]),
        ]
        return m
