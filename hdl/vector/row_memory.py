"""Rows that wait for what is made of all their elements."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.vector_cycles import ROW_READ, ROWS
from ..common.countdown import Countdown
from ..common.delay import delay
from ..common.fifo import Fifo
from ..common.ports import layout

__all__ = ["RowMemory"]


class RowMemory(Component):
    """A ring of beats, and beside it a queue of statistics, one a row; a row is read once its statistic is there.

    *Parameters*: ``build``; ``width`` of an element; ``depth`` in beats, a power of two; ``statistic``, a shape; ``reads``:
    cycles from a request to the beat, ``ROW_READ`` or more. Block RAM.
    *Members*: ``took``, ``took_last``: a beat will be put, a row's last; ``room`` for another, a register. ``put`` with ``data``.
    ``known`` with ``statistic``. ``offers``: the next beat may be asked for, a register; ``go``: it is, in the same cycle;
    ``beat``: its number in its row, ``last``: its end. ``reads`` cycles later ``o_put``, ``o_first``, ``o_last``, ``o_data`` and
    ``o_statistic``.
    *Limits*: ``ROWS`` rows at a time between ``took_last`` and the request of their last beat.
    """

    def __init__(self, build, width, depth, statistic, reads=ROW_READ):
        self.build, self.depth, self.statistic_shape, self.reads = build, depth, statistic, reads
        self.row = data.ArrayLayout(width, build.lanes)
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1), "took": In(1), "took_last": In(1), "room": Out(1),
            "put": In(1), "data": In(self.row), "known": In(1), "statistic": In(statistic), "offers": Out(1), "go": In(1),
            "beat": Out(range(max(2, build.max_beats))), "last": Out(1), "o_put": Out(1), "o_first": Out(1), "o_last": Out(1),
            "o_data": Out(self.row), "o_statistic": Out(statistic),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=len(self.data.as_value()), depth=self.depth, init=[])
        m.submodules.rows = rows = Fifo(data.StructLayout({"statistic": self.statistic_shape}), ROWS)
        write, read = memory.write_port(), memory.read_port()
        beats = Countdown(self.build.max_beats, "beat")
        put, get = Signal(range(self.depth)), Signal(range(self.depth))
        m.d.sync += put.eq(put + self.put)
        m.d.comb += [
            write.addr.eq(put), write.data.eq(self.data), write.en.eq(self.put), read.addr.eq(get),
            rows.i.valid.eq(self.known), rows.i.payload.statistic.eq(self.statistic), self.offers.eq(rows.o.valid),
            rows.o.ready.eq(self.go & beats.last),
        ]
        first = Signal()
        m.d.comb += [first.eq(self.beat == 0), self.last.eq(beats.last)]
        with m.If(self.go):
            m.d.sync += [*beats.advance(), self.beat.eq(self.beat + 1), get.eq(get + 1)]
            with m.If(beats.last):
                m.d.sync += [*beats.load(self.job.beats), self.beat.eq(0)]
        with m.If(self.start):
            m.d.sync += [*beats.load(self.job.beats), self.beat.eq(0)]
        later = self.reads - 1
        m.d.comb += [
            self.o_data.as_value().eq(delay(m, read.data, later, "data")),
            self.o_put.eq(delay(m, self.go, self.reads, "put", reset_less=False)),
            Cat(self.o_first, self.o_last).eq(delay(m, Cat(first, beats.last), self.reads, "ends")),
            Cat(self.o_statistic).eq(delay(m, Cat(rows.o.payload.statistic), self.reads, "statistic")),
        ]
        self._give_room(m, self.go, self.go & beats.last)
        return m

    def _give_room(self, m, freed, freed_row):
        """``room``: there is a place for one beat and one row more than those of this cycle."""
        free, rows = Signal(range(self.depth + 1), init=self.depth), Signal(range(ROWS + 1), init=ROWS)
        after, rows_after = Signal(range(self.depth + 2)), Signal(range(ROWS + 2))
        m.d.comb += [after.eq(free + freed - self.took), rows_after.eq(rows + freed_row - self.took_last)]
        m.d.sync += [free.eq(after), rows.eq(rows_after), self.room.eq(after.any() & rows_after.any())]
