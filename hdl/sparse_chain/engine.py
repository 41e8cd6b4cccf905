"""The sparse chain engine: job shell, fetch, store, issue, lanes, scale, results."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component

from ...models.spec.sparse_cycles import pipeline
from ...models.spec.sparse_job import CHANNEL, CODEBOOK_BITS, HEADERS, MAX_LOG_GROUP, POSITIONS, ZERO_BITS
from ..common.delay import delay
from ..common.job_shell import JobShell
from ..common.ports import EngineSignature, layout
from .fetch import HEADER_WORDS, Fetch
from .issue import Issue
from .lanes import Lanes
from .results import Results
from .scale import Scale
from .store import Store

__all__ = ["SparseChain"]

MAX_ZERO = 128
"""Largest code of zero whose weights fit 8 bits."""


class SparseChain(Component):
    """Dense, N:M and block-sparse matrix products on chains of multipliers.

    *Behaviour*: see :class:`sparseloom.models.spec.sparse_chain.SparseChain` (jobs, streams, orders). *Members*:
    ``EngineSignature(build)``.
    *Latency*: ``build.cycles(job)``, exactly, if nothing refuses. *Handshake*: jobs queue two deep; weights, reads and results
    may stall in any pattern. *Limits*: shapes up to the build's maxima; a job outside them completes with status ILLEGAL and
    consumes nothing; a stream that contradicts its job (a block outside the matrix, a code of zero above 128) ends in OVERFLOW.
    """

    def __init__(self, build):
        self.build = build
        super().__init__(EngineSignature(build))

    def elaborate(self, platform):
        m = Module()
        build = self.build
        m.submodules.shell = shell = JobShell(build)
        m.submodules.fetch = fetch = Fetch(build)
        m.submodules.store = store = Store(build)
        m.submodules.issue = issue = Issue(build)
        m.submodules.lanes = lanes = Lanes(build, store.planes)
        m.submodules.scale = scale = Scale(build, lanes)
        m.submodules.results = results = Results(build)
        job, wrong = shell.current, Signal()
        m.d.comb += [
            *shell.ports(self),
            shell.refuse.eq(~self._legal(shell.waiting)), shell.finish.eq(results.finish),
            shell.overflow.eq(wrong | fetch.bad), shell.saturated.eq(results.saturated),
            shell.stall_i.eq(fetch.stall), shell.stall_x.eq(issue.stall), shell.stall_o.eq(results.stall),
            *(part.job.eq(job) for part in (fetch, issue, results)),
            *(part.start.eq(shell.start) for part in (fetch, issue, results)),
        ]
        stream, act, out = self.i_w, self.x_act, self.o_y
        beat = delay(m, stream.payload.as_value(), 1, "beat")
        m.d.comb += [
            fetch.valid.eq(stream.valid), stream.ready.eq(fetch.ready), fetch.word.eq(stream.payload.as_value()[:32]),
            act.addr.eq(issue.x_addr), act.valid.eq(issue.x_valid), issue.x_ready.eq(act.ready),
            out.payload.eq(results.o_y.payload), out.valid.eq(results.o_y.valid), results.o_y.ready.eq(out.ready),
            issue.spans.payload.eq(fetch.spans.payload), issue.spans.valid.eq(fetch.spans.valid),
            fetch.spans.ready.eq(issue.spans.ready), issue.arrived.eq(fetch.arrived), issue.credit.eq(results.credit),
            store.beat.eq(beat), store.index.eq(fetch.index), store.code.eq(fetch.code), store.quad_at.eq(fetch.quad_at),
            store.bits.eq(job.bits), store.index_bits.eq(job.index_bits),
        ]
        whole = pipeline(build)
        # A place of the ring is free when the step that used it last has left the pipeline.
        m.d.comb += fetch.release.eq(delay(m, issue.release, whole, "release", reset_less=False))
        closing = issue.step & issue.what.last & issue.what.closes
        m.d.comb += results.issued.eq(Mux(closing, 1 + issue.what.two, 0))
        self._lanes(m, issue, store, lanes)
        headers = self._headers(m, fetch, beat)
        self._zeros(m, issue, lanes, headers, wrong, shell.start)
        self._scale(m, issue, lanes, scale, headers, whole)
        if build.codebook:
            with m.If(fetch.codebook):
                m.d.sync += lanes.book.word_select(fetch.place, 32).eq(beat[:32])
            m.d.comb += lanes.codebook.eq(job.codebook)
        m.d.comb += [results.total.eq(scale.total), results.put.eq(scale.total_valid)]
        return m

    def _legal(self, job):
        build = self.build

        def within(value, most):
            return (value != 0) & (value <= most)

        return (within(job.k_steps, -(-build.max_k // POSITIONS)) & within(job.n, build.max_n) & within(job.m, build.max_m)
                & within(job.bits, build.max_bits) & within(job.x_words, build.max_words)
                & ((job.k_steps << job.ratio) <= build.max_words * build.window // POSITIONS)
                & (job.ratio <= build.max_ratio.bit_length() - 1) & (job.ratio <= job.segment + 2)
                & ((job.ratio == 0) | (job.index_bits >= job.ratio)) & (job.index_bits <= 4) & (job.index_bits != 1)
                & (job.segment <= 2)
                & (job.shift <= build.max_shift) & self._legal_scales(job))

    def _legal_scales(self, job):
        """Groups, blocks and segments nest; headers and codebooks come with the bits they are for, offsets with dense weights."""
        channel = job.scale_group == CHANNEL
        plain, zero = job.header == HEADERS.index("scale"), job.header >= HEADERS.index("zero")
        nested = ((channel | ((job.scale_group <= MAX_LOG_GROUP) & (job.segment <= job.scale_group)))
                  & (~job.blocks | ((job.block <= MAX_LOG_GROUP) & (job.segment <= job.block)
                                    & (channel | (job.scale_group <= job.block)))))
        book = (job.bits == CODEBOOK_BITS) & plain if self.build.codebook else Const(0)
        dense = (job.header != HEADERS.index("affine")) | (job.index_bits == 0)
        return nested & dense & (~job.codebook | book) & (~zero | (job.bits <= ZERO_BITS))

    def _word(self):
        """The buffer's word as codes and scales."""
        return data.View(layout(self.build.activation_record), self.x_act.data)

    def _lanes(self, m, issue, store, lanes):
        build, latency = self.build, self.build.read_latency
        codes = self._word().codes
        m.d.comb += [
            lanes.word.as_value().eq(codes.as_value() if hasattr(codes, "as_value") else codes),
            lanes.ratio.eq(delay(m, issue.what.ratio, latency, "ratio")),
            lanes.slice.eq(delay(m, issue.what.slice, latency, "slice")), lanes.index_bits.eq(issue.job.index_bits),
        ]
        at = delay(m, issue.what.at, latency + 1, "at")
        for j in range(POSITIONS):
            m.d.comb += getattr(store, f"at_{j}").eq(delay(m, at, j % build.group_dsps, f"at_{j}"))
            for name in ("codes", "indices"):
                m.d.comb += getattr(lanes, f"{name}_{j}").eq(getattr(store, f"{name}_{j}"))

    def _headers(self, m, fetch, beat):
        """Read ports of the ring of headers: for zeros, for scales."""
        m.submodules.headers = ring = Memory(shape=len(beat), depth=HEADER_WORDS, init=[])
        put = ring.write_port()
        m.d.comb += [put.addr.eq(fetch.header_at), put.data.eq(beat), put.en.eq(fetch.header)]
        return [ring.read_port(domain="comb") for _ in range(2)]

    def _zeros(self, m, issue, lanes, headers, wrong, start):
        """Codes of zero for the step whose codes are being read."""
        build, job, latency = self.build, issue.job, self.build.read_latency + 1
        place = delay(m, issue.what.header, latency, "zero_at")
        half = delay(m, issue.what.half, latency, "zero_half")
        used = delay(m, issue.step, latency, "zero_used", reset_less=False)
        m.d.comb += headers[0].addr.eq(place)
        excess = []
        for chain in range(build.chains):
            word = headers[0].data.word_select(chain, 32)
            zero = Signal(8, name=f"zero_{chain}", reset_less=True)
            with m.If(job.header == HEADERS.index("zero")):
                m.d.sync += zero.eq(word[16:24])
            with m.Elif(job.header == HEADERS.index("levels")):
                m.d.sync += zero.eq(word.word_select(half, 16)[8:])
            with m.Else():
                m.d.sync += zero.eq((1 << job.bits) >> 1)
            m.d.comb += lanes.zero[chain].eq(zero)
            excess.append(zero > MAX_ZERO)
        seen = delay(m, used, 1, "zero_seen", reset_less=False)
        with m.If(start):
            m.d.sync += wrong.eq(0)
        with m.Elif(seen & Cat(excess).any()):
            m.d.sync += wrong.eq(1)

    def _scale(self, m, issue, lanes, scale, headers, whole):
        build, job, what = self.build, issue.job, issue.what
        m.d.comb += [scale.y.eq(lanes.y), scale.x_sum.eq(lanes.x_sum)]
        m.d.comb += scale.valid.eq(delay(m, issue.step, whole, "step", reset_less=False))
        for name in ("first", "last", "two", "opens", "closes"):
            m.d.comb += getattr(scale, name).eq(delay(m, what[name], whole, name))
        token = what.pair << (build.tokens - 1)
        m.d.comb += scale.token.eq(delay(m, token, whole, "token"))
        latency = build.read_latency
        place = delay(m, what.slice, latency, "scale_slice")
        scales = self._word().scales.as_value() if build.tokens * build.word_scales > 1 else self._word().scales
        for token in range(build.tokens):
            own = scales[16 * token * build.word_scales : 16 * (token + 1) * build.word_scales]
            one = own.word_select(place >> 2, 16) if build.word_scales > 1 else own
            m.d.comb += scale.x_scale[token].eq(delay(m, one, whole - latency, f"x_scale_{token}"))
        m.d.comb += headers[1].addr.eq(delay(m, what.header, whole + 1, "scale_at"))
        half = delay(m, what.half, whole + 1, "scale_half")
        for chain in range(build.chains):
            word = headers[1].data.word_select(chain, 32)
            part = Signal(16, name=f"part_{chain}")
            with m.Switch(job.header):
                with m.Case(HEADERS.index("scale")):
                    m.d.comb += part.eq(word.word_select(half, 16))
                with m.Case(HEADERS.index("levels")):
                    m.d.comb += part.eq(word.word_select(half, 16)[:8])
                with m.Default():
                    m.d.comb += part.eq(word[:16])
            offset = Mux(job.header == HEADERS.index("affine"), word[16:], 0)
            m.d.comb += [scale.scale[chain].eq(part), scale.offset[chain].eq(offset)]
