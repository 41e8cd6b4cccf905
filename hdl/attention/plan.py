"""The rounds of a job: how many keys each group of queries sees, and from which on."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.attention_cycles import PHASES
from ..common.countdown import Countdown
from ..common.delay import delay
from ..common.fifo import Fifo
from ..common.ports import layout
from .listing import Listing

__all__ = ["PLACE", "Plan", "round_layout"]

DEPTH = 16
_AHEAD = 8
"""Rounds planned ahead; the others have room for what is on its way."""
PLACE = signed(23)
"""Differences of two places: queries, keys, windows of up to 2**20."""


def round_layout(build):
    """``lists``: keys of each phase; ``load``: queries that come, ``leave``: that go; ``ahead``, ``inside``: see :class:`Plan`;
    ``opens`` a round or goes on with it (another block of keys), ``more`` blocks follow; ``closes``: last round of a head."""
    counts = range(build.max_keys + 1)
    return data.StructLayout({
        "lists": data.ArrayLayout(counts, PHASES[build.score]), "load": range(build.p + 1), "leave": range(build.p + 1),
        "ahead": PLACE, "inside": PLACE, "opens": 1, "more": 1, "closes": 1,
    })


class Plan(Component):
    """Rounds of all heads in order.

    *Members*: ``job`` with ``start``; ``rounds`` stream of :func:`round_layout`: ``lists[0]`` keys whose scores are made,
    ``lists[-1]`` keys whose values are summed; ``ahead``: the first key lies so far before the last that query 0 sees;
    ``inside``: and so far inside its window.
    *Members* of a block-sparse build: ``addr``, ``valid``, ``ready``, ``data`` of the list of blocks; ``bad``: it lists a block
    that does not exist.
    *Latency*: the first round five cycles after ``start``, then one a cycle; a block a cycle of a list.
    """

    def __init__(self, build):
        self.build, self.phases = build, PHASES[build.score]
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1), "rounds": Out(stream.Signature(round_layout(build))),
            "addr": Out(range(build.max_listed)), "valid": Out(1), "ready": In(1), "data": In(layout(build.block_record)),
            "bad": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, job, p = self.build, self.job, self.build.p
        m.submodules.queue = queue = Fifo(round_layout(build), DEPTH)
        m.d.comb += [self.rounds.payload.eq(queue.o.payload), self.rounds.valid.eq(queue.o.valid),
                     queue.o.ready.eq(self.rounds.ready)]
        offset, begin, running = Signal(PLACE, reset_less=True), Signal(), Signal()
        place, low = Signal(PLACE, reset_less=True), Signal(PLACE, reset_less=True)
        opens, trailing = Signal(), Signal(range(max(2, self.phases)))
        queries, heads = Countdown(build.max_queries, "plan_query", by=p), Countdown(build.max_heads, "plan_head")
        go, closes = Signal(), Signal()
        begins, ends, count = Signal(), Signal(init=1), Signal(range(build.max_keys + 1))
        listed = Signal(init=1)
        if build.block_sparse:
            m.submodules.listing = listing = Listing(build)
            m.d.comb += [
                listing.job.eq(job), listing.start.eq(begin & job.blocks),
                self.addr.eq(listing.addr), self.valid.eq(listing.valid),
                self.bad.eq(listing.bad & job.blocks), listing.ready.eq(self.ready),
                listing.data.eq(self.data), listing.blocks.ready.eq(go & job.blocks),
            ]
            with m.If(job.blocks):
                m.d.comb += [listed.eq(listing.blocks.valid), ends.eq(listing.blocks.payload.last),
                             count.eq(listing.blocks.payload.keys)]
        restart = [*queries.load(job.queries), place.eq(offset), low.eq(offset - job.window + 1), opens.eq(1),
                   trailing.eq(0), begins.eq(1)]
        m.d.sync += [offset.eq(job.keys - job.queries), begin.eq(self.start)]
        m.d.comb += [go.eq(running & listed & (queue.level < _AHEAD)),
                     closes.eq((trailing == self.phases - 1) if self.phases > 1 else queries.last)]
        grouped = trailing == 0
        load, high, first = Signal(range(p + 1)), Signal(range(build.max_keys + 1)), Signal(range(build.max_keys + 1))
        behind = place + p
        with m.If(grouped):
            m.d.comb += load.eq(Mux(queries.last, queries.left, p))
            with m.If(~job.causal | (behind >= job.keys)):
                m.d.comb += high.eq(job.keys)
            with m.Elif(behind > 0):
                m.d.comb += high.eq(behind)
            with m.If((job.window != 0) & (low > 0)):
                m.d.comb += first.eq(low)
            if build.block_sparse:
                with m.If(job.blocks):
                    m.d.comb += high.eq(count)
        with m.If(go):
            m.d.sync += begins.eq(ends)
        with m.If(go & ends):
            m.d.sync += [place.eq(behind), low.eq(low + p), opens.eq(0), *queries.advance()]
            if self.phases > 1:
                with m.If(queries.last | (trailing != 0)):
                    m.d.sync += trailing.eq(trailing + 1)
            with m.If(closes):
                m.d.sync += [*restart, *heads.advance()]
                with m.If(heads.last):
                    m.d.sync += running.eq(0)
        with m.If(begin):
            m.d.sync += [*restart, *heads.load(job.heads), running.eq(1)]
        self._measure(m, queue, {"valid": go, "load": load, "high": high, "first": first, "place": place, "opens": opens,
                                 "closes": closes, "begins": begins, "more": ~ends})
        return m

    def _measure(self, m, queue, group):
        """From a group's first and last key to its round; the lists of later phases are those of the groups before."""
        valid = delay(m, group["valid"], 1, "valid", reset_less=False)
        load, high, first, place, opens, closes, begins, more = (delay(m, group[name], 1, name) for name in (
            "load", "high", "first", "place", "opens", "closes", "begins", "more"))
        out = queue.i.payload
        count, entry = Signal(range(self.build.max_keys + 1)), Signal(round_layout(self.build), reset_less=True)
        m.d.comb += count.eq(high - first)
        lists, leave = [count], [load]
        for phase in range(1, self.phases):
            before = Signal.like(count, name=f"count_{phase}", reset_less=True)
            slots = Signal.like(load, name=f"slots_{phase}", reset_less=True)
            with m.If(valid):
                m.d.sync += [before.eq(lists[-1]), slots.eq(leave[-1])]
            lists.append(Mux(opens, 0, before))
            leave.append(Mux(opens, 0, slots))
        ahead = place - first
        m.d.sync += [
            *(entry.lists[phase].eq(value) for phase, value in enumerate(lists)), entry.load.eq(load), entry.leave.eq(leave[-1]),
            entry.ahead.eq(ahead), entry.inside.eq(self.job.window - 1 - ahead), entry.closes.eq(closes),
            entry.opens.eq(begins), entry.more.eq(more),
        ]
        m.d.comb += [out.eq(entry), queue.i.valid.eq(delay(m, valid, 1, "planned", reset_less=False))]
