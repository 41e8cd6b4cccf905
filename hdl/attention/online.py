"""Softmax in one pass: the running maximum is an integer power of two, so that sums follow it by shifts."""

from amaranth.hdl import Module, Mux, Signal, signed

from ...models.spec.attention import MAX_RAISE
from ...models.spec.attention_job import SCORE_BITS
from ...models.spec.functions import EXP2_LATENCY, EXP_FRACTION
from ..common.delay import delay
from ..common.fit import fit
from ..vector.exp2 import Exp2Neg
from .weights import Weights

__all__ = ["Online"]

_WHOLE = SCORE_BITS - EXP_FRACTION + 1
"""Bits of a score's integer part, rounded up."""


class Online(Weights):
    """e = 2**(t - M), M the ceiling of the largest score so far; when M rises by n, sums lose n bits (31 and more: all)."""

    def elaborate(self, platform):
        m = Module()
        valid = delay(m, self.valid, 1, "valid", reset_less=False)
        t, seen, first = delay(m, self.t, 1, "t"), delay(m, self.seen, 1, "seen"), delay(m, self.first, 1, "first")
        ceiling = Signal(signed(_WHOLE), reset_less=True)
        m.d.sync += fit(ceiling, self.t[EXP_FRACTION:].as_signed() + self.t[:EXP_FRACTION].any())
        most, empty, fresh, rises = Signal(signed(_WHOLE), reset_less=True), Signal(), Signal(), Signal()
        step, risen = Signal(signed(_WHOLE + 1), reset_less=True), Signal(reset_less=True)
        m.d.comb += [fresh.eq(first | empty), rises.eq(seen & (fresh | (ceiling > most)))]
        with m.If(valid):
            m.d.sync += empty.eq(fresh & ~seen)
            with m.If(rises):
                m.d.sync += most.eq(ceiling)
        m.d.sync += [fit(step, ceiling - most), risen.eq(rises & ~fresh)]
        far = Signal()
        m.d.comb += far.eq(risen & (step > MAX_RAISE))
        raised, empties = Signal(range(MAX_RAISE + 1), reset_less=True), Signal(reset_less=True)
        m.d.sync += [raised.eq(Mux(risen & ~far, step[:5], 0)), empties.eq(delay(m, first, 1, "first_late") | far)]
        m.submodules.exp2 = exp2 = Exp2Neg(SCORE_BITS + 2)
        below = Signal(SCORE_BITS + 2, reset_less=True)
        m.d.sync += below.eq(((most << EXP_FRACTION) - delay(m, t, 1, "t_late"))[: len(below)])
        m.d.comb += exp2.i.eq(below)
        e = Mux(delay(m, seen, 2 + EXP2_LATENCY, "seen_late"), exp2.o, 0)
        self.finish(m, delay(m, valid, 2 + EXP2_LATENCY, "valid_late", reset_less=False), e,
                    delay(m, empties, EXP2_LATENCY, "empties"), delay(m, raised, EXP2_LATENCY, "raised"))
        return m
