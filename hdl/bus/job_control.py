"""The way of a job through a kernel: waiting, handed to the engine, finished, read by software."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ..common.fifo import Fifo
from ..common.ports import layout

__all__ = ["JobControl"]


class JobControl(Component):
    """*Behaviour*: jobs go to the engine in order, while there is room for their completions. A job that loads buffers goes
    when all of them are loaded and the engine has at most one job, and takes them as that one's ``done`` is first offered;
    others go at once. A completion shows when the last result of its job has left the kernel.

    *Members*: ``push`` in: a job and the buffers it loads, a bit each; ``job``, ``done`` the engine's; ``completion`` out, the
    oldest not yet read; ``loaded``/``take`` a bit a buffer; ``close`` high as ``done`` is accepted; ``held``/``sent`` a bit a
    result stream: a result of the job is on its way, its TLAST was accepted; ``finished`` high as a completion begins to show;
    ``idle``; ``queue_level``, ``done_level``.
    *Latency*: a job is offered 1 cycle after ``push``. *Limits*: a job's reads lie between the first offers of the previous
    job's ``done`` and of its own, as the engine contract has it.
    """

    def __init__(self, spec):
        self.spec = spec
        build, depth = spec.build, spec.queue
        self.entry = data.StructLayout({"job": layout(build.job_record), "load": len(spec.loads)})
        super().__init__({
            "push": In(stream.Signature(self.entry)), "job": Out(stream.Signature(layout(build.job_record))),
            "done": In(stream.Signature(layout(build.done_record))),
            "completion": Out(stream.Signature(layout(build.done_record))),
            "loaded": In(len(spec.loads)), "take": Out(len(spec.loads)),
            "close": Out(1), "held": In(len(spec.results)), "sent": In(len(spec.results)), "finished": Out(1), "idle": Out(1),
            "queue_level": Out(range(depth + 1)), "done_level": Out(range(depth + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        depth = self.spec.queue
        m.submodules.queue = queue = Fifo(self.entry, depth)
        m.submodules.completions = completions = Fifo(layout(self.spec.build.done_record), depth)
        running, unread = Signal(range(depth + 1)), Signal(range(depth + 1))
        sent_off, ended, offered, finished, popped = Signal(), Signal(), Signal(), Signal(), Signal()
        _count(m, running, sent_off, ended)
        _count(m, unread, sent_off, popped)
        m.d.comb += [
            sent_off.eq(self.job.valid & self.job.ready), popped.eq(self.completion.valid & self.completion.ready),
            ended.eq(self.done.valid & ~offered),
        ]
        m.d.sync += offered.eq(self.done.valid & ~self.done.ready)

        head, later = queue.o.payload, Signal(len(self.spec.loads))
        ready = ~head.load.any() | ((running <= 1) & ((head.load & ~self.loaded) == 0))
        m.d.comb += [
            queue.i.payload.eq(self.push.payload), queue.i.valid.eq(self.push.valid), self.push.ready.eq(queue.i.ready),
            self.job.payload.eq(head.job), self.job.valid.eq(queue.o.valid & (unread != depth) & ready),
            queue.o.ready.eq(sent_off), self.queue_level.eq(queue.level),
        ]
        with m.If(ended):
            m.d.comb += self.take.eq(later)
            m.d.sync += later.eq(0)
        with m.If(sent_off & head.load.any()):
            with m.If((running == 0) | ended):
                m.d.comb += self.take.eq(head.load)
            with m.Else():
                m.d.sync += later.eq(head.load)

        # A completion is kept as soon as the engine offers it, which closes the packets, and shows when these have left.
        waits = Signal(len(self.held))
        m.d.comb += [
            completions.i.payload.eq(self.done.payload), completions.i.valid.eq(self.close),
            self.done.ready.eq(~waits.any()), self.close.eq(self.done.valid & self.done.ready),
            finished.eq((waits.any() & ((waits & ~self.sent) == 0)) | (self.close & ~self.held.any())),
            self.finished.eq(finished), completions.o.ready.eq(popped),
            self.completion.payload.eq(completions.o.payload), self.completion.valid.eq(self.done_level != 0),
            self.idle.eq(~queue.o.valid & (running == 0) & ~self.done.valid & ~waits.any()),
        ]
        with m.If(self.close):
            m.d.sync += waits.eq(self.held)
        with m.Else():
            m.d.sync += waits.eq(waits & ~self.sent)
        _count(m, self.done_level, finished, popped)
        return m


def _count(m, value, up, down):
    """``value`` counts ``up`` and ``down``, which may come together."""
    with m.If(up & ~down):
        m.d.sync += value.eq(value + 1)
    with m.Elif(down & ~up):
        m.d.sync += value.eq(value - 1)
