"""Results out of the array: to the output, or back to its top, where the next weights wait for them."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..common.delay import delay
from ..common.fifo import Fifo
from ..common.ports import layout
from .array import SUMS_AFTER, command_latency
from .pe import order_layout
from .retire import result_layout
from .round_bf16 import round_bf16

__all__ = ["Results"]


class Results(Component):
    """*Members*: ``job`` with ``start``; ``order`` to the array with ``result``; ``valid``, ``beat`` what it brings; ``room`` for
    a result, ``roomy`` for all of a period and more; ``read``: a step of the top row begins from a sum that was brought, in
    their order, ``again`` from the first on; ``sums`` there, in time for it; ``o_y`` the engine's results; ``empty``:
    none is under way; ``stall`` high while one is refused.
    """

    def __init__(self, build):
        self.build = build
        beat = data.ArrayLayout(32, build.cols)
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1), "order": In(order_layout()), "result": In(result_layout(build)),
            "valid": In(1), "beat": In(beat), "room": Out(1), "roomy": Out(1), "read": In(1), "again": In(1), "sums": Out(beat),
            "o_y": Out(stream.Signature(layout(build.outputs[0].record))), "empty": Out(1), "stall": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, job, result = self.build, self.job, self.result
        record = layout(build.outputs[0].record)
        m.submodules.queue = queue = Fifo(record, build.queue_depth)
        m.d.comb += [
            self.o_y.payload.eq(queue.o.payload), self.o_y.valid.eq(queue.o.valid), queue.o.ready.eq(self.o_y.ready),
            self.stall.eq(queue.o.valid & ~self.o_y.ready),
        ]
        # The order passes a register on its way into the array, the beat one on its way out.
        wait = command_latency(build) + 2
        soon = data.View(result_layout(build), delay(m, result.as_value(), wait - 1, "result"))
        came, columns = Signal(result_layout(build), reset_less=True), Signal(len(job.n), reset_less=True)
        m.d.sync += [came.eq(soon), columns.eq(job.n - soon.column)]
        valid, beat = Signal(), Signal.like(self.beat, reset_less=True)
        m.d.sync += [valid.eq(self.valid), beat.eq(self.beat)]
        out = queue.i.payload
        m.d.comb += [
            out.row.eq(came.row), out.column.eq(came.column), queue.i.valid.eq(valid & came.out),
            *(out.data[j].eq(Mux(columns > j, Mux(job.narrow, round_bf16(beat[j]), beat[j]), 0)) for j in range(build.cols)),
        ]
        self._count(m)
        self._waiting(m, valid & ~came.out, came.first, beat)
        return m

    def _count(self, m):
        """Results asked for that have not left yet."""
        build, depth = self.build, self.build.queue_depth
        under_way = Signal(range(depth + 1))
        m.d.sync += under_way.eq(under_way + (self.order.valid & self.result.out) - (self.o_y.valid & self.o_y.ready))
        m.d.comb += [self.room.eq(under_way < depth - 1), self.roomy.eq(under_way < depth - 3 * build.slots),
                     self.empty.eq(under_way == 0)]

    def _waiting(self, m, came, first, beat):
        """Sums of a tile of weights, until the next one has come."""
        size = 1 << (self.build.ws_rows * self.build.slots - 1).bit_length()
        m.submodules.waiting = waiting = Memory(shape=len(beat.as_value()), depth=size, init=[])
        write, read = waiting.write_port(), waiting.read_port()
        put, get = Signal(range(size)), Signal(range(size))
        m.d.comb += [
            write.addr.eq(Mux(first, 0, put)), write.data.eq(beat), write.en.eq(came), read.addr.eq(Mux(self.again, 0, get)),
            self.sums.eq(delay(m, read.data, SUMS_AFTER, "sums")),
        ]
        with m.If(came):
            m.d.sync += put.eq(write.addr + 1)
        with m.If(self.read):
            m.d.sync += get.eq(read.addr + 1)
