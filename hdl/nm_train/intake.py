"""Beats of A on their way to the rows, at most two periods ahead of their use."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.nm_pattern import PATTERNS
from ..common.fifo import Fifo
from ..common.ports import layout
from .row import words_layout
from .sequence import period_layout

__all__ = ["Intake"]


class Intake(Component):
    """Takes the beats of each period that has some, then passes the period on.

    *Members*: ``job`` with ``start``; ``i``, ``o`` streams of :func:`~.sequence.period_layout`, at most two wait at ``o``;
    ``valid``, ``ready``, ``data`` of the operand stream; ``words`` to the top row, a cycle after a beat was taken; ``stall``
    high while a beat is wanted and there is none.
    *Latency*: a period is offered in the cycle after its last beat was taken.
    """

    def __init__(self, build):
        self.build = build
        period = stream.Signature(period_layout(build))
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1), "i": In(period), "o": Out(period), "valid": In(1),
            "ready": Out(1), "data": In(data.ArrayLayout(16, 16 * build.words)), "words": Out(words_layout(build)),
            "stall": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, words = self.build, self.words
        m.submodules.queue = queue = Fifo(period_layout(build), 2)
        per_beat = 16 * build.words
        beats = [-(-build.rows * group // per_beat) for _, group in PATTERNS]
        last, beat, half, took = Signal.like(words.beat), Signal.like(words.beat), Signal(), Signal()
        m.d.sync += last.eq(Mux(self.job.ws, Array(count - 1 for count in beats)[self.job.pattern],
                                -(-build.rows * 16 // per_beat) - 1))
        m.d.comb += [
            self.ready.eq(self.i.valid & self.i.payload.takes & queue.i.ready), took.eq(self.ready & self.valid),
            self.stall.eq(self.ready & ~self.valid), queue.i.payload.eq(self.i.payload),
            queue.i.valid.eq(self.i.valid & (~self.i.payload.takes | (self.valid & (beat == last)))),
            self.i.ready.eq(queue.i.ready & queue.i.valid),
            self.o.payload.eq(queue.o.payload), self.o.valid.eq(queue.o.valid), queue.o.ready.eq(self.o.ready),
        ]
        m.d.sync += [words.valid.eq(took), words.data.eq(self.data), words.beat.eq(beat), words.half.eq(half)]
        with m.If(took):
            m.d.sync += beat.eq(beat + 1)
            with m.If(beat == last):
                m.d.sync += [beat.eq(0), half.eq(~half)]
        with m.If(self.start):
            m.d.sync += [beat.eq(0), half.eq(0)]
        return m
