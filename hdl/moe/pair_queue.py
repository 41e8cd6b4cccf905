"""From the queue of pairs to groups of tokens: expert by expert, tile by tile, ``tokens`` at a time."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.moe_linear_cycles import GROUPS, SCORE_GAP
from ...models.spec.moe_linear_job import PAIR_WORD
from ..common.countdown import Countdown
from ..common.delay import delay
from ..common.fifo import Fifo
from ..common.fit import fit
from ..common.ports import layout
from .expert_list import expert_layout

__all__ = ["PairQueue", "group_layout", "token_layout"]

_MULTIPLY = 2


def token_layout(build):
    """A token of a group: ``base`` word of its activations; ``row`` of the result; ``score``; ``first``, ``last`` expert."""
    members = {"base": range(build.max_pairs * build.max_steps), "row": range(build.max_pairs)}
    return data.StructLayout(members | ({"score": 16, "first": 1, "last": 1} if build.scores else {}))


def group_layout(build):
    """``tokens``, ``count`` of them; ``chunks`` of rows in the tile, ``beats`` of results, ``gap`` cycles to the next group's;
    ``opens`` and ``closes`` its tile, ``begins`` its expert, ``ends`` the job."""
    most = build.tokens * build.chunks
    return data.StructLayout({
        "tokens": data.ArrayLayout(token_layout(build), build.tokens), "count": range(build.tokens + 1),
        "chunks": range(build.chunks + 1), "beats": range(most + 1), "gap": range(most + SCORE_GAP), "opens": 1, "closes": 1,
        "begins": 1, "ends": 1,
    })


class PairQueue(Component):
    """Reads the pairs of an expert once for each of its tiles and hands them out in groups.

    *Members*: ``job`` with ``start``; ``experts``: stream of :func:`~.expert_list.expert_layout`; ``x_valid``, ``x_ready``,
    ``x_addr``, ``x_data`` the buffer (dense jobs do not read it); ``o``: stream of :func:`group_layout`; ``stall`` high while
    the buffer refuses.
    *Latency*: a pair a cycle, the first a cycle after its expert was offered; a group is offered ``read_latency`` + 4 cycles
    after its last pair was asked for. *Limits*: ``GROUPS`` are asked for ahead.
    """

    def __init__(self, build):
        self.build = build
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1), "experts": In(stream.Signature(expert_layout(build))),
            "x_addr": Out(range(max(2, build.max_pairs))), "x_valid": Out(1), "x_ready": In(1), "x_data": In(PAIR_WORD.bits),
            "o": Out(stream.Signature(group_layout(build))), "stall": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, job = self.build, self.job
        m.submodules.groups = groups = Fifo(group_layout(build), GROUPS)
        m.d.comb += [self.o.payload.eq(groups.o.payload), self.o.valid.eq(groups.o.valid), groups.o.ready.eq(self.o.ready)]
        have, some, wanted, asked = Signal(), Signal(), Signal(), Signal()
        expert = Signal(expert_layout(build), reset_less=True)
        base, place = Signal(range(build.max_pairs + 1)), Signal(range(build.max_pairs + 1))
        slot = Signal(range(build.tokens))
        pairs, tiles = Countdown(build.max_pairs, "queue_pair"), Countdown(build.max_n, "queue_row", by=build.rows)
        opens, begins, group_end, tile_end, expert_end = (Signal(name=name) for name in (
            "opens", "begins", "group_end", "tile_end", "expert_end"))
        m.d.comb += [
            wanted.eq(have & ((slot != 0) | some)), self.x_addr.eq(place), self.x_valid.eq(wanted & job.queued),
            asked.eq(wanted & (self.x_ready | ~job.queued)), self.stall.eq(self.x_valid & ~self.x_ready),
            group_end.eq(asked & ((slot == build.tokens - 1) | pairs.last)), tile_end.eq(asked & pairs.last),
            expert_end.eq(tile_end & tiles.last), self.experts.ready.eq(~have | expert_end),
        ]
        after_expert = (base + expert.count)[: len(base)]
        with m.If(asked):
            m.d.sync += [place.eq(place + 1), slot.eq(Mux(group_end, 0, slot + 1)), *pairs.advance()]
            with m.If(group_end):
                m.d.sync += [opens.eq(0), begins.eq(0)]
        with m.If(tile_end):
            m.d.sync += [place.eq(base), *pairs.load(expert.count), *tiles.advance(), opens.eq(1)]
        with m.If(~have | expert_end):
            m.d.sync += [
                have.eq(self.experts.valid), expert.eq(self.experts.payload), *pairs.load(self.experts.payload.count),
                *tiles.load(job.n), opens.eq(1), begins.eq(1),
            ]
        with m.If(expert_end):
            m.d.sync += [base.eq(after_expert), place.eq(after_expert)]
        with m.If(self.start):
            m.d.sync += [base.eq(0), place.eq(0), slot.eq(0)]
        free, after = Signal(range(GROUPS + 1), init=GROUPS), Signal(range(GROUPS + 2))
        m.d.comb += after.eq(free + (self.o.valid & self.o.ready) - (asked & (slot == 0)))
        m.d.sync += [free.eq(after), some.eq(after != 0)]
        chunks = self._chunks(m, tiles.left)
        flags = Cat(opens, tile_end, begins, tile_end & tiles.last, expert.last, chunks)
        self._assemble(m, groups.i, place, slot, group_end, asked, flags)
        return m

    def _chunks(self, m, rows):
        """Result beats of a token for the tile whose ``rows`` are left."""
        build, chunks = self.build, Signal(range(self.build.chunks + 1))
        m.d.comb += chunks.eq(build.chunks)
        for count in range(build.chunks - 1, 0, -1):
            with m.If(rows <= count * build.out_lanes):
                m.d.comb += chunks.eq(count)
        return chunks

    def _assemble(self, m, group, place, slot, group_end, asked, flags):
        """The group's tokens, one a cycle, as the pairs come; offered to the queue of groups when it is whole."""
        build, job, latency = self.build, self.job, self.build.read_latency
        own = delay(m, place, latency, "place")
        pair = data.View(layout(PAIR_WORD), self.x_data)
        # Fits: a queue names tokens of its job only.
        token = Mux(job.queued, pair.token[: len(own)], own)
        row = Signal(range(build.max_pairs), reset_less=True)
        chosen, factor = Signal.like(row), Signal(range(build.max_steps + 1), reset_less=True)
        wide = Signal(range(build.max_pairs * build.max_steps + 1), reset_less=True)
        m.d.sync += [
            row.eq(Mux(job.queued & ~job.use_score, own, token)), chosen.eq(Mux(job.gather, token, own)), factor.eq(job.k_steps),
            wide.eq(chosen * factor),
        ]
        item = Signal(token_layout(build), name="item")
        m.d.comb += [item.base.eq(wide), item.row.eq(delay(m, row, 1, "row"))]
        if build.scores:
            words = Cat(pair.score, pair.first, pair.last)
            m.d.comb += Cat(item.score, item.first, item.last).eq(delay(m, words, _MULTIPLY, "word"))
        whole = latency + _MULTIPLY
        at, put = delay(m, slot, whole, "slot"), delay(m, asked, whole, "asked", reset_less=False)
        end = delay(m, group_end, whole, "group_end", reset_less=False)
        opens, closes, begins, expert_end, last, chunks = _split(delay(m, flags, whole, "flags"), (1, 1, 1, 1, 1, None))
        later = Signal(group_layout(build), reset_less=True, name="later")
        held = Signal()
        beats = Signal.like(later.beats)
        m.d.comb += fit(beats, ((at + 1) * chunks)[: len(beats)])
        with m.If(put):
            for t in range(build.tokens):
                with m.If(at == t):
                    m.d.sync += later.tokens[t].eq(item)
        m.d.sync += [
            later.count.eq(at + 1), later.chunks.eq(chunks), later.beats.eq(beats), later.opens.eq(opens),
            later.closes.eq(closes), later.begins.eq(begins), later.ends.eq(expert_end & last), held.eq(end),
            later.gap.eq(beats + Mux(expert_end & job.use_score, SCORE_GAP - 1, 0)),
        ]
        m.d.comb += [group.payload.eq(later), group.valid.eq(held)]


def _split(value, widths):
    """Parts of ``value`` from the lowest bit; None: the rest."""
    parts = []
    for width in widths:
        parts.append(value if width is None else value[:width])
        value = value if width is None else value[width:]
    return parts
