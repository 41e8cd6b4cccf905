"""An exact product, shifted to the right, rounded half to even and clamped; free-running."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.attention_cycles import DYADIC_LATENCY
from ...models.spec.attention_job import MAX_SHIFT, MIN_SHIFT
from ..common.adder_tree import signed_width
from ..common.delay import delay
from ..common.fit import fit

__all__ = ["Dyadic"]

_HALF = 16
"""Bits of the lower half of a factor."""
_FINE = 3
"""Bits of a shift that are left to its second stage."""


class Dyadic(Component):
    """y = clamp(round_half_even(value * factor / 2**shift)) to ``low``..``high``.

    *Parameters*: ``width`` of the signed value; ``factor_width``, unsigned, 17 to 32.
    *Members*: ``value``, ``factor``, ``shift`` (17 to 63) in; ``y``, ``clamped`` out.
    *Latency*: ``latency`` cycles: two halves of the product, their sum, shift in two, round, clamp.
    *Handshake*: none, a value a cycle.
    """

    latency = DYADIC_LATENCY

    def __init__(self, width, factor_width, low, high):
        self.width, self.factor_width, self.low, self.high = width, factor_width, low, high
        super().__init__({
            "value": In(signed(width)), "factor": In(factor_width), "shift": In(range(MAX_SHIFT + 1)),
            "y": Out(signed(signed_width(low, high))), "clamped": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        lower = Signal(signed(self.width + _HALF), reset_less=True)
        upper = Signal(signed(self.width + self.factor_width - _HALF), reset_less=True)
        whole = Signal(signed(self.width + self.factor_width - _HALF + 1), reset_less=True)
        coarse, quotient = (Signal(signed(len(whole)), name=name, reset_less=True) for name in ("coarse", "quotient"))
        sticky, lost, guard, below = (Signal(name=name, reset_less=True) for name in ("sticky", "lost", "guard", "below"))
        rounded = Signal(signed(len(whole) + 1), reset_less=True)
        # A single bit takes no multiplier.
        above = self.factor[_HALF:]
        m.d.sync += [fit(lower, self.value * self.factor[:_HALF]),
                     fit(upper, Mux(above, self.value, 0) if len(above) == 1 else self.value * above)]
        m.d.sync += [fit(whole, upper + lower[_HALF:].as_signed()), sticky.eq(lower[:_HALF].any())]
        # Shifted by eights, then by the rest; what falls out only matters for being there or not.
        amount = Signal(range(MAX_SHIFT - MIN_SHIFT + 1), reset_less=True)
        m.d.sync += amount.eq(delay(m, self.shift, 1, "shift") - MIN_SHIFT)
        eights, rest = amount[_FINE:], delay(m, amount[:_FINE], 1, "rest")
        parts = [whole[at : at + (1 << _FINE)].any() & (eights > at >> _FINE)
                 for at in range(0, min(len(whole), MAX_SHIFT - MIN_SHIFT), 1 << _FINE)]
        m.d.sync += [coarse.eq(whole >> (eights << _FINE)), lost.eq(sticky | Cat(parts).any())]
        moved = Signal(signed(len(whole)))
        m.d.comb += moved.eq(coarse >> rest)
        fallen = [coarse[place] & (rest > place) for place in range((1 << _FINE) - 1)]
        m.d.sync += [quotient.eq(moved[1:].as_signed()), guard.eq(moved[0]), below.eq(lost | Cat(fallen).any())]
        m.d.sync += rounded.eq(quotient + Cat(guard & (below | quotient[0])))
        over, under = rounded > self.high, rounded < self.low
        m.d.sync += [self.y.eq(Mux(over, self.high, Mux(under, self.low, rounded))), self.clamped.eq(over | under)]
        return m
