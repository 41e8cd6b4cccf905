"""The part of an engine that is the same for all families: job queue, counters, completion."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.engine import Status
from .fifo import Fifo
from .ports import layout

__all__ = ["JobShell", "QUEUE_DEPTH", "ACCEPT_CYCLES"]

QUEUE_DEPTH = 2
ACCEPT_CYCLES = 2
"""A job accepted in cycle 0 by an idle engine has ``start`` high in this cycle."""


class JobShell(Component):
    """Takes jobs one at a time, counts their cycles and hands out their completion records.

    *Members*: ``job``, ``done`` the engine's ports; ``waiting`` out, the job at the queue's head, with ``refuse`` in, in the same
    cycle: it is illegal and only gets a completion; ``current`` the job at work, stable from ``start`` on; ``start`` high in a
    legal job's first cycle; ``finish`` in, high in its last, in which nothing stalls; ``overflow`` in, with ``finish``;
    ``stall_i``/``stall_x``/``stall_o`` in, this cycle's stalls (first match counts); ``saturated`` in, the count for the record.
    *Latency*: ``start`` comes ``ACCEPT_CYCLES`` cycles after acceptance, ``done`` one cycle after ``finish`` (illegal job:
    after what would be ``start``); a waiting job starts one cycle after ``done`` was accepted.
    """

    def __init__(self, build):
        self.build = build
        job, done = layout(build.job_record), layout(build.done_record)
        super().__init__({
            "job": In(stream.Signature(job)), "done": Out(stream.Signature(done)), "waiting": Out(job), "refuse": In(1),
            "current": Out(job), "start": Out(1), "finish": In(1), "overflow": In(1),
            "stall_i": In(1), "stall_x": In(1), "stall_o": In(1), "saturated": In(32),
        })

    def ports(self, engine):
        """Statements that make the shell's ``job`` and ``done`` those of ``engine``."""
        job, done = engine.job, engine.done
        return [self.job.payload.eq(job.payload), self.job.valid.eq(job.valid), job.ready.eq(self.job.ready),
                done.payload.eq(self.done.payload), done.valid.eq(self.done.valid), self.done.ready.eq(done.ready)]

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = Fifo(layout(self.build.job_record), QUEUE_DEPTH)
        done, running, refused = self.done.payload, Signal(), Signal()
        m.d.comb += [
            queue.i.payload.eq(self.job.payload), queue.i.valid.eq(self.job.valid), self.job.ready.eq(queue.i.ready),
            self.waiting.eq(queue.o.payload),
        ]
        # Stalls are counted a cycle late, which keeps the counters' enables out of the way of the handshakes. None is lost: the
        # cycle of ``finish`` has none.
        stalls = [Signal(name=f"{cause}_before") for cause in ("stall_i", "stall_x", "stall_o")]
        m.d.sync += [before.eq(now) for before, now in zip(stalls, (self.stall_i, self.stall_x, self.stall_o), strict=True)]
        with m.If(~running & (~self.done.valid | self.done.ready)):
            m.d.comb += queue.o.ready.eq(1)
            m.d.sync += self.done.valid.eq(0)
            with m.If(queue.o.valid):
                m.d.sync += [
                    self.current.eq(queue.o.payload), running.eq(1), self.start.eq(~self.refuse), refused.eq(self.refuse),
                    done.tag.eq(queue.o.payload.tag), done.cycles.eq(ACCEPT_CYCLES), done.busy.eq(ACCEPT_CYCLES),
                    done.stall_i.eq(0), done.stall_x.eq(0), done.stall_o.eq(0),
                ]
        with m.If(running):
            m.d.sync += [self.start.eq(0), done.cycles.eq(done.cycles + 1)]
            with m.If(stalls[0]):
                m.d.sync += done.stall_i.eq(done.stall_i + 1)
            with m.Elif(stalls[1]):
                m.d.sync += done.stall_x.eq(done.stall_x + 1)
            with m.Elif(stalls[2]):
                m.d.sync += done.stall_o.eq(done.stall_o + 1)
            with m.Else():
                m.d.sync += done.busy.eq(done.busy + 1)
            with m.If(self.finish | refused):
                m.d.sync += [
                    running.eq(0), self.done.valid.eq(1), done.saturated.eq(self.saturated),
                    done.status.eq(Mux(refused, Status.ILLEGAL, Mux(self.overflow, Status.OVERFLOW, Status.OK))),
                ]
        return m
