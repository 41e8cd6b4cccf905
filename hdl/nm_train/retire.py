"""Sums on their way out: when each leaves its PE, and where it belongs."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..common.delay import delay
from ..common.fifo import Fifo
from ..common.ports import layout
from .pe import ROWS_BITS, SLOT_BITS, order_layout
from .sequence import period_layout

__all__ = ["Retire", "result_layout"]

_SETTLE = 6
"""Cycles from a tile's last step until its results may be asked for, the queue of tiles not counted."""
_REPLACED = 4
"""Cycles from the first step of a period until the sum that it replaces is asked for: after the row above has made it, before
the step's own is there."""


def result_layout(build):
    """A beat of results: of ``row`` from ``column`` on, leaves the array (``out``) or waits on chip, where the ``first`` of a
    tile begins anew."""
    period = period_layout(build)
    return data.StructLayout({"out": 1, "first": 1, "row": period["row"].shape, "column": period["column"].shape})


class Retire(Component):
    """Output-stationary: a tile's results row by row, slot by slot, once its last step is through, while there is room.
    Weight-stationary: those of the bottom row, as many periods after they began in the top row as there are rows.

    *Members*: ``job`` with ``start``; ``pulse``, ``computes``, ``next`` of the issue, its ``go`` with ``first`` (of the sums of a
    period) and ``slot``, ``closing`` with ``now``; ``room`` for a result; ``order`` to the array with ``result``, what it will
    bring; ``freed`` with a tile's last result; ``ended`` from the job's last result on.
    """

    def __init__(self, build):
        self.build = build
        period = period_layout(build)
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1), "pulse": In(1), "computes": In(1), "next": In(period),
            "go": In(1), "first": In(1), "slot": In(SLOT_BITS), "closing": In(1), "now": In(period), "room": In(1),
            "order": Out(order_layout()), "result": Out(result_layout(build)), "freed": Out(1), "ended": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        tile, stationary = self._tiles(m), self._periods(m)
        with m.If(self.start):
            m.d.sync += self.ended.eq(0)
        with m.Elif(Mux(self.job.ws, stationary, tile)):
            m.d.sync += self.ended.eq(1)
        return m

    def _tiles(self, m):
        """Output-stationary; returns whether the job's last result is asked for."""
        build, job, order, result = self.build, self.job, self.order, self.result
        period = period_layout(build)
        m.submodules.tiles = tiles = Fifo(period, 2)
        m.d.comb += [tiles.i.payload.eq(delay(m, self.now.as_value(), _SETTLE, "closed")),
                     tiles.i.valid.eq(delay(m, self.closing, _SETTLE, "closing", reset_less=False))]
        tile, slot, row, parity = tiles.o.payload, Signal(SLOT_BITS), Signal(ROWS_BITS), Signal(init=1)
        column, token = Signal.like(result.column), Signal()
        slot_end, end = Signal(), Signal()
        m.d.comb += [
            token.eq(tiles.o.valid & self.room & ~job.ws), slot_end.eq(token & (slot == tile.used - 1)),
            end.eq(slot_end & (row == tile.rows - 1)), tiles.o.ready.eq(end), self.freed.eq(end),
        ]
        with m.If(token):
            m.d.sync += [slot.eq(slot + 1), column.eq(column + build.cols)]
        with m.If(slot_end):
            m.d.sync += [slot.eq(0), column.eq(0), row.eq(row + 1)]
        with m.If(end):
            m.d.sync += [row.eq(0), parity.eq(~parity)]
        with m.If(self.start):
            m.d.sync += [slot.eq(0), row.eq(0), column.eq(0), parity.eq(1)]
        with m.If(~job.ws):
            m.d.comb += [
                order.valid.eq(token), order.row.eq(row), order.parity.eq(parity), order.slot.eq(slot), result.out.eq(1),
                result.row.eq(tile.row + row), result.column.eq(tile.column + column),
            ]
        return end & tile.ends

    def _periods(self, m):
        """Weight-stationary; returns whether the job's last result is asked for."""
        build, job, order, result = self.build, self.job, self.order, self.result
        period = period_layout(build)
        m.submodules.way = way = Memory(shape=period, depth=build.rows, init=[])
        read, write = way.read_port(domain="comb"), way.write_port()
        at, pulse, ahead = Signal(range(build.rows)), Signal(), Signal(range(build.rows + 1))
        last_at = at == build.rows - 1
        m.d.comb += [
            pulse.eq(self.pulse & self.computes & job.ws), read.addr.eq(at), write.addr.eq(at), write.en.eq(pulse),
            write.data.eq(self.next),
        ]
        with m.If(pulse):
            m.d.sync += at.eq(Mux(last_at, 0, at + 1))
            with m.If(ahead != 0):
                m.d.sync += ahead.eq(ahead - 1)
        with m.If(self.start):
            m.d.sync += [at.eq(0), ahead.eq(build.rows)]
        old = Signal(period)
        m.d.comb += [old.eq(read.data), old.valid.eq(read.data.valid & (ahead == 0))]
        came, what = delay(m, pulse, _REPLACED, "came", reset_less=False), delay(m, old.as_value(), _REPLACED, "old")
        now = Signal(period)
        with m.If(came):
            m.d.sync += now.eq(what)
        go = delay(m, self.go & self.first & job.ws, _REPLACED, "go", reset_less=False)
        slot, leaves = delay(m, self.slot, _REPLACED, "slot"), Signal()
        m.d.comb += leaves.eq(go & now.valid & (slot < Mux(now.out, now.used, now.slots)))
        with m.If(job.ws):
            m.d.comb += [
                order.valid.eq(leaves), order.row.eq(build.rows - 1), order.slot.eq(slot), result.out.eq(now.out),
                result.first.eq(now.opens & (slot == 0)), result.row.eq(now.row),
                result.column.eq(now.column + Cat([0] * (build.cols.bit_length() - 1), slot)),
            ]
        return leaves & now.out & now.ends & (slot == now.used - 1)
