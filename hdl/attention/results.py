"""From sums to results: the slot that is done, one division, shift, round, clamp, queue."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.attention_cycles import in_flight
from ...models.spec.functions import RECIPROCAL_LATENCY
from ..common.countdown import Countdown
from ..common.delay import delay
from ..common.fifo import Fifo
from ..common.ports import layout
from ..vector.reciprocal import Reciprocal
from .dyadic import Dyadic

__all__ = ["Results"]

_ONE = 16, 31
"""Mantissa 2**16 and shift of a weight of 1 = 2**15."""


def _count(bits):
    """How many of ``bits`` are set, as a balanced tree."""
    half = len(bits) // 2
    return _count(bits[:half]) + _count(bits[half:]) if half else bits[0]


class Results(Component):
    """Takes the sums of whichever slot is done and delivers them in order.

    *Members*: ``done``: which slots' sums are whole, one at most; with ``key`` the ``totals`` of exponentials; two cycles later,
    ``acc`` of each slot with ``put`` for each chunk; ``issued``: a result will come; ``credit``: there is room for another;
    ``job`` with ``start``; ``o_y``; ``finish`` high two cycles after the last beat of the job was taken; ``clamped`` results of
    this cycle; ``stall`` high while a result is refused.
    """

    def __init__(self, build):
        self.build = build
        output, = build.outputs
        self.divides = build.score in ("online", "two_pass")
        accs = data.ArrayLayout(data.ArrayLayout(signed(build.acc_width), build.d_lanes), build.p)
        super().__init__({
            "key": In(1), "done": In(build.p), "totals": In(data.ArrayLayout(build.sum_width, build.p)),
            "put": In(1), "acc": In(accs), "issued": In(1), "credit": Out(1), "job": In(layout(build.job_record)), "start": In(1),
            "o_y": Out(stream.Signature(layout(output.record))), "finish": Out(1),
            "clamped": Out(range(build.d_lanes + 1)), "stall": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, out = self.build, self.o_y
        depth = 1 << (in_flight(build) - 1).bit_length()
        m.submodules.queue = queue = Fifo(data.ArrayLayout(signed(32), build.d_lanes), depth)
        chosen = [Signal(signed(build.acc_width), name=f"chosen_{lane}", reset_less=True) for lane in range(build.d_lanes)]
        done = delay(m, self.done, 2, "done")
        for lane, value in enumerate(chosen):
            m.d.sync += value.eq(self._one_of(done, [self.acc[slot][lane] for slot in range(build.p)]))
        put = delay(m, self.put & done.any(), 1, "put", reset_less=False)
        wait, factor, shift = self._factor(m)
        values, clamped = [], []
        for lane, value in enumerate(chosen):
            low, high = (-128, 127) if build.score == "shiftmax" else (-(1 << 31), (1 << 31) - 1)
            dyadic = Dyadic(build.acc_width, len(factor), low, high)
            m.submodules[f"dyadic_{lane}"] = dyadic
            m.d.comb += [dyadic.value.eq(delay(m, value, wait, f"chosen_{lane}_late")), dyadic.factor.eq(factor),
                         dyadic.shift.eq(shift)]
            values.append(dyadic.y)
            clamped.append(dyadic.clamped)
        put = delay(m, put, wait + Dyadic.latency, "rounded", reset_less=False)
        taken = out.valid & out.ready
        m.d.comb += [
            queue.i.valid.eq(put), *(queue.i.payload[lane].eq(value) for lane, value in enumerate(values)),
            out.valid.eq(queue.o.valid), queue.o.ready.eq(out.ready), self.stall.eq(out.valid & ~out.ready),
            *(out.payload.data[lane].eq(queue.o.payload[lane]) for lane in range(build.d_lanes)),
        ]
        m.d.sync += self.clamped.eq(Mux(put, _count(clamped), 0))
        self._place(m, taken)
        free, after = Signal(range(depth + 1), init=depth), Signal(range(depth + 2))
        m.d.comb += after.eq(free + taken - self.issued)
        m.d.sync += [free.eq(after), self.credit.eq(after != 0)]
        return m

    @staticmethod
    def _one_of(chosen, values):
        """The value whose bit is set in ``chosen``."""
        total = 0
        for bit, value in zip(chosen, values, strict=True):
            total = total | (value.as_unsigned() & bit.replicate(len(value)))
        return total.as_signed() if values[0].shape().signed else total

    def _factor(self, m):
        """(cycles that the sums must wait, factor, shift) of the results' multiplication."""
        build, job = self.build, self.job
        if build.score == "shiftmax":
            return 0, job.out_multiplier, job.out_shift
        if not self.divides:
            factor, shift = Signal(17, init=1 << _ONE[0]), Signal(6)
            m.d.comb += [factor.eq(1 << _ONE[0]), shift.eq(_ONE[1] - job.fraction)]
            return 0, factor, shift
        m.submodules.reciprocal = reciprocal = Reciprocal(build.sum_width)
        total = Signal(build.sum_width, reset_less=True)
        m.d.sync += total.eq(self._one_of(self.done, [self.totals[slot] for slot in range(build.p)]))
        m.d.comb += reciprocal.i.eq(total)
        factor, shift = Signal(17, reset_less=True), Signal(6, reset_less=True)
        with m.If(delay(m, self.key & self.done.any(), 1 + RECIPROCAL_LATENCY, "divided", reset_less=False)):
            m.d.sync += [factor.eq(reciprocal.o_mantissa), shift.eq(reciprocal.o_shift - job.fraction)]
        return RECIPROCAL_LATENCY - 1, factor, shift

    def _place(self, m, taken):
        """Head, query and chunk of the beat on offer."""
        build, job, out = self.build, self.job, self.o_y.payload
        heads, queries, chunks = (Countdown(most, f"result_{name}") for most, name in (
            (build.max_heads, "head"), (build.max_queries, "query"), (build.max_chunks, "chunk")))
        last = Signal()
        m.d.comb += last.eq(taken & heads.last & queries.last & chunks.last)
        m.d.comb += self.finish.eq(delay(m, last, 2, "finish", reset_less=False))
        with m.If(taken):
            m.d.sync += [*chunks.advance(), out.chunk.eq(out.chunk + 1)]
            with m.If(chunks.last):
                m.d.sync += [*chunks.load(job.chunks), out.chunk.eq(0), *queries.advance(), out.query.eq(out.query + 1)]
                with m.If(queries.last):
                    m.d.sync += [*queries.load(job.queries), out.query.eq(0), *heads.advance(), out.head.eq(out.head + 1)]
        with m.If(self.start):
            m.d.sync += [*chunks.load(job.chunks), *queries.load(job.queries), *heads.load(job.heads), out.chunk.eq(0),
                         out.query.eq(0), out.head.eq(0)]
