"""Softmax in two passes: a round finds a query's largest score, the next makes the exponentials from the scores kept on chip."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib.memory import Memory

from ...models.spec.attention_job import SCORE_BITS
from ...models.spec.functions import EXP2_LATENCY
from ..common.delay import delay
from ..vector.exp2 import Exp2Neg
from .weights import Weights

__all__ = ["TwoPass", "kept_scores"]


def kept_scores(m, weights):
    """(old score, whether it was seen, largest score of its round), a cycle behind ``weights.valid``.

    A key's score takes the place of the one that the round before left there, read in the same cycle.
    """
    build, width = weights.build, len(weights.t)
    most, before = Signal(signed(width), reset_less=True), Signal(signed(width), reset_less=True)
    empty, fresh = Signal(), Signal()
    m.d.comb += fresh.eq(weights.first | empty)
    with m.If(weights.valid):
        m.d.sync += empty.eq(fresh & ~weights.seen)
        with m.If(weights.first):
            m.d.sync += before.eq(most)
        with m.If(weights.seen & (fresh | (weights.t > most))):
            m.d.sync += most.eq(weights.t)
    # Rounds may be longer than their list: what is beyond it has no score.
    at, following = Signal(range(max(build.max_keys, build.p))), Signal(range(max(build.max_keys, build.p)), reset_less=True)
    m.d.comb += at.eq(Mux(weights.first, 0, following))
    with m.If(weights.valid):
        m.d.sync += following.eq(at + 1)
    m.submodules.scores = scores = Memory(shape=width + 1, depth=build.max_keys, init=[])
    put, get = scores.write_port(), scores.read_port()
    m.d.comb += [put.addr.eq(at), put.data.eq(Cat(weights.t, weights.seen)), put.en.eq(weights.valid & weights.lists[0]),
                 get.addr.eq(at), get.en.eq(1)]
    return get.data[:width].as_signed(), get.data[width], before


class TwoPass(Weights):
    """e = 2**(t - largest t)."""

    def elaborate(self, platform):
        m = Module()
        old, seen, most = kept_scores(m, self)
        m.submodules.exp2 = exp2 = Exp2Neg(SCORE_BITS + 2)
        below = Signal(SCORE_BITS + 2, reset_less=True)
        m.d.sync += below.eq((most - old)[: len(below)])
        m.d.comb += exp2.i.eq(below)
        wait = 1 + EXP2_LATENCY
        live = delay(m, seen & delay(m, self.lists[1], 1, "there"), wait, "live")
        self.finish(m, delay(m, self.valid, 1 + wait, "valid", reset_less=False), Mux(live, exp2.o, 0),
                    delay(m, self.first, 1 + wait, "first"), 0)
        return m
