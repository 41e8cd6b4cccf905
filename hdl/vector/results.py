"""From results to the result stream: clear what lies beyond a row, count what was clamped, queue, number."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.vector_cycles import in_flight
from ..common.countdown import Countdown
from ..common.delay import delay
from ..common.fifo import Fifo
from ..common.ports import layout

__all__ = ["Results"]


class Results(Component):
    """Takes beats of results and delivers them with row and beat.

    *Members*: ``y``, ``clamped`` with ``put`` and a row's ``last``; ``early``: so many arguments were clamped in this cycle, no
    later than their results come; ``issued``: a beat will come; ``credit``: there is room for another, a register; ``job`` with
    ``start``; ``o_y``; ``finish``: two cycles after the last beat was taken; ``saturated``; ``stall``: a result is refused.
    """

    def __init__(self, build):
        self.build = build
        output, = build.outputs
        super().__init__({
            "y": In(data.ArrayLayout(signed(32), build.lanes)), "clamped": In(build.lanes), "put": In(1), "last": In(1),
            "early": In(range(build.lanes + 1)), "issued": In(1), "credit": Out(1),
            "job": In(layout(build.job_record)), "start": In(1), "o_y": Out(stream.Signature(layout(output.record))),
            "finish": Out(1), "saturated": Out(32), "stall": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, job, out = self.build, self.job, self.o_y
        depth = 1 << (in_flight(build) - 1).bit_length()
        m.submodules.queue = queue = Fifo(data.ArrayLayout(signed(32), build.lanes), depth)
        put, over = delay(m, self.put, 1, "put", reset_less=False), Signal(build.lanes, reset_less=True)
        for lane in range(build.lanes):
            value, inside = Signal(signed(32), name=f"value_{lane}", reset_less=True), ~self.last | (lane < job.tail)
            m.d.sync += [value.eq(Mux(inside, self.y[lane], 0)), over[lane].eq(inside & self.clamped[lane])]
            m.d.comb += queue.i.payload[lane].eq(value)
        taken = out.valid & out.ready
        lanes = out.payload.data if build.lanes > 1 else [out.payload.data]
        m.d.comb += [
            queue.i.valid.eq(put), out.valid.eq(queue.o.valid), queue.o.ready.eq(out.ready),
            self.stall.eq(out.valid & ~out.ready),
            *(lanes[lane].eq(queue.o.payload[lane]) for lane in range(build.lanes)),
        ]
        count = Signal(range(2 * build.lanes + 1))
        m.d.sync += count.eq(Mux(put, sum(over), 0) + self.early)
        with m.If(self.start):
            m.d.sync += self.saturated.eq(0)
        with m.Else():
            m.d.sync += self.saturated.eq(self.saturated + count)
        self._place(m, taken)
        free, after = Signal(range(depth + 1), init=depth), Signal(range(depth + 2))
        m.d.comb += after.eq(free + taken - self.issued)
        m.d.sync += [free.eq(after), self.credit.eq(after.any())]
        return m

    def _place(self, m, taken):
        """Row and beat of the beat on offer."""
        build, job, out = self.build, self.job, self.o_y.payload
        rows, beats = Countdown(build.max_m, "result_row"), Countdown(build.max_beats, "result_beat")
        row, beat = Signal.like(out.row), Signal.like(out.beat)
        m.d.comb += [
            Cat(out.row, out.beat).eq(Cat(row, beat)),
            self.finish.eq(delay(m, taken & rows.last & beats.last, 2, "finish", reset_less=False)),
        ]
        with m.If(taken):
            m.d.sync += [*beats.advance(), beat.eq(beat + 1)]
            with m.If(beats.last):
                m.d.sync += [*beats.load(job.beats), beat.eq(0), *rows.advance(), row.eq(row + 1)]
        with m.If(self.start):
            m.d.sync += [*rows.load(job.m), *beats.load(job.beats), row.eq(0), beat.eq(0)]
