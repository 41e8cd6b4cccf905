"""From the operand stream to rows: counts beats, clears what lies beyond a row."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ..common.countdown import Countdown
from ..common.ports import layout

__all__ = ["Intake"]


class Intake(Component):
    """Takes a job's beats while there is ``room`` and shows each in the next cycle.

    *Members*: ``i_x``; ``job`` with ``start``; ``room`` in, a register; ``took``: a beat was taken, ``took_last``: a row's last;
    a cycle later ``put``, ``first``, ``last`` of a row, ``inside``: which elements are of the row, ``x``: they, the others 0;
    ``stall``: nothing was offered that was wanted.
    """

    def __init__(self, build):
        self.build = build
        operand, = build.inputs
        super().__init__({
            "i_x": In(stream.Signature(layout(operand.record))), "job": In(layout(build.job_record)), "start": In(1),
            "room": In(1), "took": Out(1), "took_last": Out(1), "put": Out(1), "first": Out(1), "last": Out(1),
            "inside": Out(build.lanes), "x": Out(data.ArrayLayout(signed(32), build.lanes)), "stall": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, job, source = self.build, self.job, self.i_x
        rows, beats = Countdown(build.max_m, "row"), Countdown(build.max_beats, "beat")
        running, fresh = Signal(), Signal()
        m.d.comb += [
            source.ready.eq(running & self.room), self.took.eq(source.ready & source.valid),
            self.took_last.eq(self.took & beats.last), self.stall.eq(source.ready & ~source.valid),
        ]
        m.d.sync += self.put.eq(self.took)
        with m.If(self.took):
            m.d.sync += [*beats.advance(), fresh.eq(beats.last)]
            with m.If(beats.last):
                m.d.sync += [*beats.load(job.beats), *rows.advance(), running.eq(~rows.last)]
        with m.If(self.start):
            m.d.sync += [*rows.load(job.m), *beats.load(job.beats), running.eq(1), fresh.eq(1)]
        m.d.sync += [self.first.eq(fresh), self.last.eq(beats.last)]
        lanes = source.payload.data if build.lanes > 1 else [source.payload.data]
        for lane, value in enumerate(lanes):
            inside = ~beats.last | (lane < job.tail)
            m.d.sync += [self.inside[lane].eq(inside), self.x[lane].eq(Mux(inside, value, 0))]
        return m
