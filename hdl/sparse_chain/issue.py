"""The order of the steps: tiles, spans, segments; in each the tokens; in each the steps."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.sparse_cycles import QUADS
from ...models.spec.sparse_job import CHANNEL, LANE_STEPS, MAX_SEGMENT, POSITIONS
from ..common.countdown import Countdown
from ..common.ports import layout
from .fetch import HEADER_WORDS, PAIRED, span_layout

__all__ = ["Issue", "step_layout"]

SEGMENT_STEPS = MAX_SEGMENT // POSITIONS


def step_layout(build):
    """What a step is: ``at`` its place in the ring of quads, in steps; ``slice`` eights of columns into the word; ``ratio``;
    ``first`` and ``last`` step of a segment for a pass; ``opens``, ``closes`` the tile's sums; ``pair``: pass over the tokens;
    ``two``: it has two; ``header``, ``half`` of a word."""
    return data.StructLayout({
        "at": range(QUADS * LANE_STEPS), "slice": range(build.window // POSITIONS), "ratio": 3, "first": 1, "last": 1, "opens": 1,
        "closes": 1, "pair": range(build.max_pairs), "two": 1, "header": range(HEADER_WORDS), "half": 1,
    })


class Issue(Component):
    """Asks for activations, a word a step.

    *Members*: ``job`` with ``start``; ``spans`` and ``arrived`` from the fetch; ``release``: quads used up by this step;
    ``credit``: two more results have somewhere to go; ``x_addr``, ``x_valid``, ``x_ready`` the buffer's requests; ``step`` high
    when one is accepted, with ``what``; ``stall`` high while the buffer refuses.
    *Timing*: a step a cycle; a pass of one step waits a cycle behind one of two tokens.
    """

    def __init__(self, build):
        self.build = build
        buffer = build.buffers[0]
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1), "spans": In(stream.Signature(span_layout(build))),
            "arrived": In(1), "release": Out(range(LANE_STEPS + 1)), "credit": In(1),
            "x_addr": Out(buffer.addr_width), "x_valid": Out(1), "x_ready": In(1),
            "step": Out(1), "what": Out(step_layout(build)), "stall": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, job, what = self.build, self.job, self.what
        have, span = Signal(), Signal(span_layout(build), reset_less=True)
        # ``rest`` steps of the span from this segment on, ``size`` steps of a whole segment, ``count`` of this one.
        rest, size, count = Signal.like(span.steps), Signal(range(SEGMENT_STEPS + 1)), Signal(range(SEGMENT_STEPS + 1))
        base, position = Signal.like(span.base), Signal.like(span.base)
        quad, inside, held = Signal(range(QUADS * LANE_STEPS)), Signal(range(SEGMENT_STEPS)), Signal(range(QUADS + 1))
        need, pause, offset = Signal(range(LANE_STEPS + 1)), Signal(), Signal(range(build.buffers[0].words + build.max_words))
        last_segment, last_step, ends = (Signal(name=name) for name in ("last_segment", "last_step", "ends"))
        segment_end = Signal()
        passes = Countdown(build.max_m, "issue_token", by=build.tokens)
        m.d.comb += [
            last_segment.eq(rest <= size), count.eq(Mux(last_segment, rest, size)),
            need.eq((quad[:2] + count + LANE_STEPS - 1) >> 2), last_step.eq(inside + 1 == count),
            ends.eq(last_segment & span.last),
            self.x_valid.eq(have & (held >= need) & ~(pause & last_step) & (self.credit | ~(ends & last_step))),
            self.step.eq(self.x_valid & self.x_ready), self.stall.eq(self.x_valid & ~self.x_ready),
            self.x_addr.eq(offset + (position >> (build.window // POSITIONS).bit_length() - 1)),
            segment_end.eq(self.step & last_step & passes.last),
            what.at.eq(quad + inside), what.slice.eq(position), what.ratio.eq(span.ratio), what.first.eq(inside == 0),
            what.last.eq(last_step), what.closes.eq(ends),
            what.two.eq((passes.left >= 2) & (build.tokens == 2)),
        ]
        after = Signal(range(2 * QUADS * LANE_STEPS))
        m.d.comb += after.eq(quad + count)
        # A new span begins with a new quad.
        ahead = Mux(last_segment, (after + LANE_STEPS - 1) & ~(LANE_STEPS - 1), after)[: len(quad)]
        with m.If(segment_end):
            m.d.comb += self.release.eq((ahead[2:] - quad[2:])[: len(quad) - 2])
        m.d.sync += [held.eq(held + self.arrived - self.release), pause.eq(self.step & last_step & what.two)]
        stride = (1 << span.ratio)[:5]
        with m.If(self.step):
            m.d.sync += [inside.eq(inside + 1), position.eq(position + stride)]
            with m.If(last_step):
                m.d.sync += [inside.eq(0), position.eq(base), offset.eq(offset + job.x_words), *passes.advance(),
                             what.pair.eq(what.pair + 1)]
                with m.If(passes.last):
                    m.d.sync += [position.eq(position + stride), base.eq(position + stride), offset.eq(0), *passes.load(job.m),
                                 what.pair.eq(0), rest.eq(rest - size), quad.eq(ahead), what.opens.eq(0)]
                    with m.If(ends):
                        m.d.sync += what.opens.eq(1)
        self._headers(m, span, size, last_segment, segment_end, ends)
        m.d.comb += self.spans.ready.eq(~have | (segment_end & last_segment))
        with m.If(self.spans.ready):
            following = self.spans.payload
            m.d.sync += [have.eq(self.spans.valid), span.eq(following), base.eq(following.base), position.eq(following.base),
                         rest.eq(following.steps), size.eq(((1 << job.segment) << 2) >> following.ratio)]
        with m.If(self.start):
            m.d.sync += [*passes.load(job.m), what.pair.eq(0), inside.eq(0), offset.eq(0), quad.eq(0), what.opens.eq(1),
                         held.eq(0)]
        return m

    def _headers(self, m, span, size, last_segment, segment_end, ends):
        """The header's word and half: on to the next at a group's end; with each span, or each tile if the groups are rows."""
        job, what = self.job, self.what
        channel, paired, group_end = Signal(), Signal(), Signal()
        left, whole = Signal(range(1 << 11)), Signal(range(1 << 11))
        m.d.comb += [
            channel.eq(job.scale_group == CHANNEL), paired.eq(sum(job.header == code for code in PAIRED)),
            # Segments of a group, less one.
            whole.eq(((1 << job.scale_group) >> job.segment) - 1), group_end.eq((left == 0) & ~channel),
        ]
        with m.If(segment_end):
            m.d.sync += left.eq(Mux(group_end, whole, left - 1))
            with m.If(ends | (last_segment & ~channel)):
                m.d.sync += [what.header.eq(what.header + 1), what.half.eq(0), left.eq(whole)]
            with m.Elif(group_end & paired & ~what.half):
                m.d.sync += what.half.eq(1)
            with m.Elif(group_end):
                m.d.sync += [what.header.eq(what.header + 1), what.half.eq(0)]
        with m.If(self.start):
            m.d.sync += [what.header.eq(0), what.half.eq(0), left.eq(whole)]
