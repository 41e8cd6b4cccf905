"""The second half of the gate: exponentials of a token's logits, their sum, the scores of the chosen experts."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.functions import EXP2_LATENCY, EXP_ONE, RECIPROCAL_LATENCY
from ...models.spec.moe_gate import T_BITS
from ..common.countdown import Countdown
from ..common.delay import delay
from ..common.fifo import Fifo
from ..common.ports import layout
from ..vector.exp2 import Exp2Neg
from ..vector.multiply import multiply
from ..vector.reciprocal import Reciprocal
from ..vector.round_shift import RoundShift
from .choose import choice_layout

__all__ = ["Score", "pair_layout"]

_WAITING = 64
"""Pairs that may wait for their sum's reciprocal."""
_ONE_SHIFT = EXP_ONE.bit_length() - 1


def pair_layout(build):
    """A pair on its way to the queues; ``closing``: the job's last."""
    return data.StructLayout({"expert": range(build.max_experts), "token": range(build.max_m), "first": 1, "last": 1, "null": 1,
                              "closing": 1})


class Score(Component):
    """*Members*: ``job`` with ``start``; ``t``, ``expert``, ``t_put``, ``chosen``, ``complete`` from :class:`~.choose.Choose`;
    ``pair`` and ``score`` with ``put`` out, the pairs of a token best first.
    *Timing*: a token's exponentials begin a cycle after ``complete``, all logits and then the chosen ones, and take
    ``experts`` + ``top_k`` cycles; the next token's ``complete`` comes no sooner.
    """

    def __init__(self, build):
        self.build = build
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1), "t": In(signed(T_BITS)), "expert": In(range(build.max_experts)),
            "t_put": In(1), "chosen": In(data.ArrayLayout(choice_layout(build), build.max_top_k)), "complete": In(1),
            "pair": Out(pair_layout(build)), "score": Out(16), "put": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, job = self.build, self.job
        m.submodules.kept = kept = Memory(shape=signed(T_BITS), depth=2 * build.max_experts, init=[])
        write, read = kept.write_port(), kept.read_port(domain="comb")
        filling, place = Signal(), Signal(range(build.max_experts))
        m.d.comb += [write.addr.eq((filling * build.max_experts) + self.expert), write.data.eq(self.t), write.en.eq(self.t_put),
                     read.addr.eq(Mux(filling, 0, build.max_experts) + place)]
        mine = Signal(data.ArrayLayout(choice_layout(build), build.max_top_k), reset_less=True)
        expert, rank = Countdown(build.max_experts, "score_expert"), Countdown(build.max_top_k, "score_rank")
        summing, choosing, opens = Signal(), Signal(), Signal()
        at, top = Signal(range(build.max_top_k)), Signal(signed(T_BITS), reset_less=True)
        limit = Signal(range(build.max_experts + 1), reset_less=True)
        token, tokens = Signal(range(build.max_m), reset_less=True), Countdown(build.max_m, "score_token")
        with m.If(summing):
            m.d.sync += [*expert.advance(), place.eq(place + 1), opens.eq(0)]
            with m.If(expert.last):
                m.d.sync += [summing.eq(0), choosing.eq(1), *rank.load(job.top_k), at.eq(0)]
        with m.If(choosing):
            m.d.sync += [*rank.advance(), at.eq(at + 1)]
            with m.If(rank.last):
                m.d.sync += [choosing.eq(0), token.eq(token + 1), *tokens.advance()]
        with m.If(self.complete):
            m.d.sync += [mine.eq(self.chosen), summing.eq(1), opens.eq(1), place.eq(0), *expert.load(job.experts),
                         filling.eq(~filling), top.eq(self.chosen[0].t)]
            # Null experts far above must not push the others out of the exponential's reach.
            for index in reversed(range(build.max_top_k)):
                with m.If(job.renormalise & (self.chosen[index].expert < limit) & (index < job.top_k)):
                    m.d.sync += top.eq(self.chosen[index].t)
        with m.If(self.start):
            m.d.sync += [token.eq(0), *tokens.load(job.m)]
        one = mine[at]
        pair, null = Signal(pair_layout(build)), Signal()
        m.d.sync += limit.eq(job.experts - job.nulls)
        lowest, highest = self._ends(m, mine, limit)
        m.d.comb += [
            null.eq(one.expert >= limit), pair.expert.eq(one.expert), pair.token.eq(token), pair.null.eq(null),
            pair.first.eq((one.expert == lowest) & ~null), pair.last.eq((one.expert == highest) & ~null),
            pair.closing.eq(rank.last & tokens.last),
        ]
        # Max less t, of all logits and then of the chosen ones.
        distance = Signal(T_BITS + 1, reset_less=True)
        m.d.sync += distance.eq(top - Mux(choosing, one.t, read.data))
        m.submodules.exp = exp = Exp2Neg(len(distance))
        m.d.comb += exp.i.eq(distance)
        counted = Mux(job.renormalise, choosing & ~null, summing)
        self._divide(m, exp.o, pair, counted, choosing, opens, choosing & rank.last)
        return m

    def _ends(self, m, mine, limit):
        """The lowest and the highest of the chosen experts that are not null; they stand a cycle after the choice."""
        build, ends = self.build, []
        for name, wanted, none in (("lowest", lambda a, b: a < b, build.max_experts - 1), ("highest", lambda a, b: a > b, 0)):
            best = None
            for rank in range(build.max_top_k):
                used = (mine[rank].expert < limit) & (rank < self.job.top_k)
                own = Mux(used, mine[rank].expert, none)
                best = own if best is None else Mux(wanted(own, best), own, best)
            end = Signal(range(build.max_experts), name=name, reset_less=True)
            m.d.sync += end.eq(best)
            ends.append(end)
        return ends

    def _divide(self, m, e, pair, counted, choosing, opens, closes):
        build, way = self.build, 1 + EXP2_LATENCY
        total = Signal(build.sum_width, reset_less=True)
        first, counts = delay(m, opens, way, "opens"), delay(m, counted, way, "counted")
        m.d.sync += total.eq(Mux(first, 0, total) + Mux(counts, e, 0))
        m.submodules.reciprocal = reciprocal = Reciprocal(build.sum_width)
        m.d.comb += reciprocal.i.eq(total)
        whole = delay(m, closes, way + 1 + RECIPROCAL_LATENCY, "whole", reset_less=False)
        mantissa, shift = Signal.like(reciprocal.o_mantissa, reset_less=True), Signal(range(64), reset_less=True)
        with m.If(whole):
            m.d.sync += [mantissa.eq(reciprocal.o_mantissa),
                         shift.eq(Mux(reciprocal.o_shift < _ONE_SHIFT, 0, reciprocal.o_shift - _ONE_SHIFT))]
        entry = data.StructLayout({"e": len(e), "pair": pair_layout(build)})
        m.submodules.waiting = waiting = Fifo(entry, _WAITING)
        rank, leaving = Countdown(build.max_top_k, "leaving"), Signal()
        m.d.comb += [waiting.i.payload.e.eq(e), waiting.i.payload.pair.eq(delay(m, pair, way, "pair")),
                     waiting.i.valid.eq(delay(m, choosing, way, "chosen", reset_less=False)), waiting.o.ready.eq(leaving)]
        with m.If(leaving):
            m.d.sync += [*rank.advance(), leaving.eq(~rank.last)]
        with m.If(whole):
            m.d.sync += [leaving.eq(1), *rank.load(self.job.top_k)]
        product = multiply(m, waiting.o.payload.e, mantissa, "score")
        m.submodules.round = rounded = RoundShift(len(product) + 1, 31)
        m.d.comb += [rounded.value.eq(product), rounded.shift.eq(delay(m, shift, 2, "shift"))]
        behind = 2 + rounded.latency
        out = data.View(pair_layout(build), delay(m, waiting.o.payload.pair, behind, "out"))
        m.d.comb += [self.put.eq(delay(m, leaving, behind, "leave", reset_less=False)), self.pair.eq(out),
                     self.score.eq(Mux(out.null, Const(0, 16), rounded.y[:16]))]
