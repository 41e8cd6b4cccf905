"""The order of the weight stream: which word goes where, and when there is room for it."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, enum, stream
from amaranth.lib.wiring import Component, In, Out

from ...models.formats.sparse_stream import LAST_AT, RATIO_AT
from ...models.spec.sparse_cycles import CODEBOOK_WORDS, QUADS
from ...models.spec.sparse_job import CHANNEL, HEADER_BITS, HEADERS, LANE_STEPS, POSITIONS
from ..common.countdown import Countdown
from ..common.fifo import Fifo
from ..common.ports import layout

__all__ = ["HEADER_WORDS", "INDEX_PLANES", "PAIRED", "STEPS_BITS", "Fetch", "span_layout"]

HEADER_WORDS = QUADS * LANE_STEPS
"""Places for headers: a quad has one a step at most."""
INDEX_PLANES = 4
STEPS_BITS = 13
PAIRED = [HEADERS.index(name) for name, bits in HEADER_BITS.items() if bits == 16]
"""Codes of the headers that share a word."""


def span_layout(build):
    """``base`` column / 8 where the span begins, ``ratio`` log2(group / nnz), ``steps``, ``last`` of its tile."""
    columns = build.max_words * build.window // POSITIONS
    return data.StructLayout({"base": range(columns + 1), "ratio": 3, "steps": STEPS_BITS, "last": 1})


class Kind(enum.Enum, shape=3):
    """What the next word of the stream is; SETUP takes none."""

    SETUP = 0
    CODEBOOK = 1
    SPAN = 2
    HEADER = 3
    INDEX = 4
    CODE = 5


class Fetch(Component):
    """Takes the stream a word a cycle and says what each is.

    *Members*: ``job`` with ``start``; ``valid``, ``ready``, ``word`` (lane 0) of the stream; in the cycle after a word was taken:
    ``codebook``, ``header``, ``index``, ``code`` high for its kind (and plane), with ``place`` (entry of the codebook / 4),
    ``header_at``, ``quad_at`` in the rings; ``arrived`` when a quad is complete; ``release`` in: quads that are free again;
    ``spans`` stream of what to compute (:func:`span_layout`); ``stall`` high while a word is wanted and there is none; ``bad``
    high if a span lies outside the largest matrix or is sparser than the job allows: it is taken for dense, from column 0.
    *Latency*: first word two cycles after ``start``; a cycle between the word of a span and its first quad, none elsewhere.
    """

    def __init__(self, build):
        self.build = build
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1),
            "valid": In(1), "ready": Out(1), "word": In(32),
            "codebook": Out(1), "header": Out(1), "index": Out(INDEX_PLANES), "code": Out(build.max_bits),
            "place": Out(range(CODEBOOK_WORDS)), "header_at": Out(range(HEADER_WORDS)), "quad_at": Out(range(QUADS)),
            "arrived": Out(1), "release": In(range(LANE_STEPS + 1)), "spans": Out(stream.Signature(span_layout(build))),
            "stall": Out(1), "bad": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, job = self.build, self.job
        kind, left, span = Signal(Kind), Signal(range(16)), Signal(span_layout(build), reset_less=True)
        running, fresh, room, opening, tile_first = Signal(), Signal(), Signal(), Signal(), Signal()
        rest, due = Signal(STEPS_BITS, reset_less=True), Signal(range(1 << 12), reset_less=True)
        tiles = Countdown(build.max_n, "fetch_row", by=build.chains)
        wanted, took, end, quad_end, span_end = (Signal(name=n) for n in ("wanted", "took", "end", "quad_end", "span_end"))
        m.d.comb += [
            wanted.eq(running & (kind != Kind.SETUP) & (~fresh | room)), self.ready.eq(wanted),
            took.eq(wanted & self.valid), self.stall.eq(wanted & ~self.valid), end.eq(took & (left == 0)),
            quad_end.eq(end & (kind == Kind.CODE)), span_end.eq(quad_end & (rest <= LANE_STEPS)),
        ]
        with m.If(took):
            m.d.sync += [left.eq(left - 1), fresh.eq(0)]
        begin = _Quads(m, build, job, span, kind, left, rest, due, tile_first)
        with m.If(end & (kind == Kind.CODEBOOK)):
            m.d.sync += kind.eq(Kind.SETUP)
        with m.If(end & (kind == Kind.HEADER)):
            begin.planes(m)
        with m.If(end & (kind == Kind.INDEX)):
            m.d.sync += begin.enter(Kind.CODE, job.bits)
        with m.If(running & (kind == Kind.SETUP)):
            m.d.sync += fresh.eq(1)
            with m.If(opening):
                m.d.sync += begin.enter(Kind.SPAN, 1)
            with m.Else():
                begin.span(m)
        with m.If(took & (kind == Kind.SPAN)):
            self._read_span(m, span)
            m.d.sync += [kind.eq(Kind.SETUP), opening.eq(0)]
        with m.If(quad_end):
            m.d.sync += [fresh.eq(1), tile_first.eq(0)]
            with m.If(~span_end):
                begin.next(m)
            with m.Else():
                with m.If(span.last):
                    m.d.sync += [*tiles.advance(), tile_first.eq(1), running.eq(~tiles.last)]
                with m.If(job.blocks):
                    m.d.sync += begin.enter(Kind.SPAN, 1)
                with m.Else():
                    begin.tile(m)
        with m.If(self.start):
            m.d.sync += [running.eq(1), fresh.eq(1), opening.eq(job.blocks), tile_first.eq(1), *tiles.load(job.n),
                         span.base.eq(0), span.ratio.eq(job.ratio), span.steps.eq(job.k_steps), span.last.eq(1),
                         left.eq(CODEBOOK_WORDS - 1), kind.eq(Mux(job.codebook, Kind.CODEBOOK, Kind.SETUP)), self.bad.eq(0)]
        m.submodules.spans = spans = Fifo(span_layout(build), 2 * QUADS)
        m.d.comb += [
            spans.i.payload.eq(span),
            spans.i.valid.eq(running & (((kind == Kind.SETUP) & ~opening) | (span_end & ~job.blocks & ~tiles.last))),
            self.spans.payload.eq(spans.o.payload), self.spans.valid.eq(spans.o.valid), spans.o.ready.eq(self.spans.ready),
        ]
        self._rings(m, room, quad_end)
        self._mark(m, kind, left, took, quad_end)
        return m

    def _read_span(self, m, span):
        """A word that says where a block lies and how sparse it is."""
        build, job = self.build, self.job
        index, base, beyond, ratio, bad = self.word[:RATIO_AT], Signal(32), Signal(32), Signal(4), Signal()
        m.d.comb += [
            base.eq(index << (job.block + 2)), beyond.eq((index + 1) << (job.block + 2)), ratio.eq(self.word[RATIO_AT:LAST_AT]),
            bad.eq((beyond > build.max_words * build.window // POSITIONS) | (ratio > build.max_ratio.bit_length() - 1)
                   | (ratio > job.segment + 2) | ((ratio != 0) & (job.index_bits < ratio))),
        ]
        safe = Mux(bad, 0, ratio)
        m.d.sync += [span.base.eq(Mux(bad, 0, base)), span.ratio.eq(safe), span.last.eq(self.word[LAST_AT]),
                     span.steps.eq(((1 << job.block) << 2) >> safe), self.bad.eq(self.bad | bad)]

    def _rings(self, m, room, quad_end):
        used, after = Signal(range(QUADS + 1)), Signal(range(QUADS + 1))
        m.d.comb += after.eq(used + quad_end - self.release)
        m.d.sync += [used.eq(after), room.eq(after != QUADS)]
        with m.If(self.start):
            m.d.sync += [used.eq(0), room.eq(1), self.header_at.eq(0), self.quad_at.eq(0)]
        with m.If(self.header):
            m.d.sync += self.header_at.eq(self.header_at + 1)
        with m.If(self.arrived):
            m.d.sync += self.quad_at.eq(self.quad_at + 1)

    def _mark(self, m, kind, left, took, quad_end):
        """What a word is, a register later: its way into the memories is long."""
        job = self.job
        m.d.sync += [
            self.codebook.eq(took & (kind == Kind.CODEBOOK)), self.place.eq(CODEBOOK_WORDS - 1 - left),
            self.header.eq(took & (kind == Kind.HEADER)), self.arrived.eq(quad_end),
            *(self.index[plane].eq(took & (kind == Kind.INDEX) & (left + plane + 1 == job.index_bits))
              for plane in range(INDEX_PLANES)),
            *(self.code[plane].eq(took & (kind == Kind.CODE) & (left + plane + 1 == job.bits))
              for plane in range(self.build.max_bits)),
        ]


class _Quads:
    """How a quad begins: with headers, indices or codes, whatever is due."""

    def __init__(self, m, build, job, span, kind, left, rest, due, tile_first):
        self.job, self.of, self.kind, self.left, self.rest, self.due = job, span, kind, left, rest, due
        self.tile_first = tile_first
        paired = Signal()
        # Steps from the header of one word to the next: scale_group / (8 * ratio), twice that if two share a word.
        self.every = Signal(range(32))
        m.d.comb += [paired.eq(sum(job.header == code for code in PAIRED)),
                     self.every.eq(job.scale_group + 2 + paired - span.ratio)]

    def enter(self, kind, count):
        return [self.kind.eq(kind), self.left.eq(count - 1)]

    def planes(self, m):
        with m.If(self.of.ratio == 0):
            m.d.sync += self.enter(Kind.CODE, self.job.bits)
        with m.Else():
            m.d.sync += self.enter(Kind.INDEX, self.job.index_bits)

    def span(self, m):
        """The first quad of a span."""
        self._begin(m, "span", self.of.steps, 0, self.tile_first)

    def tile(self, m):
        """The first quad of a tile that is like the one before."""
        self._begin(m, "tile", self.of.steps, 0, 1)

    def next(self, m):
        """The next quad of a span."""
        self._begin(m, "next", (self.rest - LANE_STEPS)[:STEPS_BITS], self.due, 0)

    def _begin(self, m, name, steps, due, first):
        within, count = Signal(range(LANE_STEPS + 1), name=f"within_{name}"), Signal(range(LANE_STEPS + 1), name=f"count_{name}")
        m.d.comb += within.eq(Mux(steps < LANE_STEPS, steps, LANE_STEPS))
        with m.If(self.job.scale_group == CHANNEL):
            m.d.comb += count.eq(first)
        with m.Elif(self.every == 0):
            m.d.comb += count.eq(within)
        with m.Elif(self.every == 1):
            m.d.comb += count.eq((within + 1) >> 1)
        with m.Else():
            m.d.comb += count.eq(due == 0)
        with m.If(count == 0):
            self.planes(m)
        with m.Else():
            m.d.sync += self.enter(Kind.HEADER, count)
        m.d.sync += [self.rest.eq(steps), self.due.eq(Mux(due == 0, ((1 << self.every) >> 2) - 1, due - 1))]
