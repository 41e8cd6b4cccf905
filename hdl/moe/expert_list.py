"""The experts that have tokens, read once a job."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.moe_linear_job import EXPERT_WORD
from ..common.delay import delay
from ..common.fifo import Fifo
from ..common.ports import layout

__all__ = ["ExpertList", "expert_layout"]


def expert_layout(build):
    """``count`` pairs of an expert, ``last`` of the list."""
    return data.StructLayout({"count": range(build.max_pairs + 1), "last": 1})


class ExpertList(Component):
    """Reads the list, a word after the other; a dense job has one expert for all its tokens.

    *Members*: ``job`` with ``start``; ``x_valid``, ``x_ready``, ``x_addr``, ``x_data`` the buffer (without queues: unused);
    ``counts``: stream of :func:`expert_layout` for the queue of pairs; ``lasts``: stream of ``last`` alone for the loader.
    *Latency*: the dense expert is offered a cycle after ``start``; a word of the list ``read_latency`` + 1 cycles after its
    request, the first a cycle after ``start``; the next word is asked for when the one before is there.
    *Limits*: both queues hold the longest list, so that nothing here ever waits but for the buffer.
    """

    def __init__(self, build):
        self.build = build
        self.depth = max(2, 1 << (build.max_experts - 1).bit_length())
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1),
            "x_addr": Out(range(max(2, build.max_experts))), "x_valid": Out(1), "x_ready": In(1), "x_data": In(EXPERT_WORD.bits),
            "counts": Out(stream.Signature(expert_layout(build))), "lasts": Out(stream.Signature(1)),
        })

    def elaborate(self, platform):
        m = Module()
        build = self.build
        m.submodules.counts = counts = Fifo(expert_layout(build), self.depth)
        m.submodules.lasts = lasts = Fifo(1, self.depth)
        for queue, port in ((counts, self.counts), (lasts, self.lasts)):
            m.d.comb += [port.payload.eq(queue.o.payload), port.valid.eq(queue.o.valid), queue.o.ready.eq(port.ready)]
        put, item = Signal(), Signal(expert_layout(build))
        m.d.comb += [counts.i.payload.eq(item), counts.i.valid.eq(put), lasts.i.payload.eq(item.last), lasts.i.valid.eq(put)]
        dense = self.start & ~self.job.queued
        if not build.queues:
            m.d.comb += [put.eq(dense), item.count.eq(self.job.m), item.last.eq(1)]
            return m
        word = Signal(layout(EXPERT_WORD), reset_less=True)
        m.d.sync += word.eq(self.x_data)
        come = delay(m, self.x_valid & self.x_ready, build.read_latency + 1, "come", reset_less=False)
        m.d.comb += [
            put.eq(dense | come), item.count.eq(Mux(dense, self.job.m, word.count[: len(item.count)])),
            item.last.eq(dense | word.last),
        ]
        with m.If(self.start):
            m.d.sync += [self.x_valid.eq(self.job.queued), self.x_addr.eq(0)]
        with m.Elif(self.x_valid & self.x_ready):
            m.d.sync += [self.x_valid.eq(0), self.x_addr.eq(self.x_addr + 1)]
        with m.Elif(come & ~word.last):
            m.d.sync += self.x_valid.eq(1)
        return m
