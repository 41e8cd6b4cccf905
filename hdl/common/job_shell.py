"""The part of an engine that is the same for all families: job queue, counters, completion."""

from amaranth.hdl import Module
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from .fifo import Fifo
from .ports import layout

__all__ = ["JobShell", "QUEUE_DEPTH", "ACCEPT_CYCLES"]

QUEUE_DEPTH = 2
ACCEPT_CYCLES = 2
"""A job accepted in cycle 0 by an idle engine has ``start`` high in this cycle."""


class JobShell(Component):
    """Takes jobs one at a time, counts their cycles and hands out their completion records.

    *Members*: ``job``, ``done`` the engine's ports; ``current`` the fields of the job at work, stable from ``start`` on;
    ``start`` high in its first cycle; ``running`` high from there through ``finish``; ``finish`` in, high in the job's last
    cycle; ``illegal`` in, with ``finish``; ``overflow`` in, with ``finish``; ``stall_i``/``stall_x``/``stall_o`` in, this
    cycle's stalls (first match counts);
    ``saturated`` in, the count for the record.
    *Latency*: ``start`` comes ``ACCEPT_CYCLES`` cycles after acceptance, ``done`` one cycle after ``finish``; a waiting job
    starts one cycle after ``done`` was accepted.
    """

    def __init__(self, build):
        self.build = build
        job, done = layout(build.job_record), layout(build.done_record)
        super().__init__({
            "job": In(stream.Signature(job)), "done": Out(stream.Signature(done)),
            "current": Out(job), "start": Out(1), "running": Out(1), "finish": In(1), "illegal": In(1), "overflow": In(1),
            "stall_i": In(1), "stall_x": In(1), "stall_o": In(1), "saturated": In(32),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = Fifo(layout(self.build.job_record), QUEUE_DEPTH)
        m.d.comb += [queue.i.payload.eq(self.job.payload), queue.i.valid.eq(self.job.valid), self.job.ready.eq(queue.i.ready)]
        done = self.done.payload
        with m.If(~self.running & (~self.done.valid | self.done.ready)):
            m.d.comb += queue.o.ready.eq(1)
            m.d.sync += self.done.valid.eq(0)
            with m.If(queue.o.valid):
                m.d.sync += [
                    self.current.eq(queue.o.payload), self.start.eq(1), self.running.eq(1), done.tag.eq(queue.o.payload.tag),
                    done.cycles.eq(ACCEPT_CYCLES), done.busy.eq(ACCEPT_CYCLES),
                    done.stall_i.eq(0), done.stall_x.eq(0), done.stall_o.eq(0),
                ]
        with m.If(self.running):
            m.d.sync += [self.start.eq(0), done.cycles.eq(done.cycles + 1)]
            with m.If(self.stall_i):
                m.d.sync += done.stall_i.eq(done.stall_i + 1)
            with m.Elif(self.stall_x):
                m.d.sync += done.stall_x.eq(done.stall_x + 1)
            with m.Elif(self.stall_o):
                m.d.sync += done.stall_o.eq(done.stall_o + 1)
            with m.Else():
                m.d.sync += done.busy.eq(done.busy + 1)
            with m.If(self.finish):
                m.d.sync += [
                    self.running.eq(0), self.done.valid.eq(1), done.saturated.eq(self.saturated),
                    done.status.eq(self.overflow << 1),
                ]
                with m.If(self.illegal):
                    m.d.sync += done.status.eq(1)
        return m
