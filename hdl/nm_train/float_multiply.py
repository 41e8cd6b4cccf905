"""Product of two float32."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.floats import CANONICAL_NAN, MULTIPLY_LATENCY
from ..common.delay import delay
from ..common.fit import fit
from .shifts import leading_zeros, shift_down

__all__ = ["FloatMultiply"]

_BIAS = 127
_FRACTION = 24
_PRODUCT = 2 * _FRACTION
_CHUNK = 17
"""What a DSP slice takes of the second fraction."""
_LOWEST = 25
"""So many places below the smallest exponent nothing is left of a product, half of the last bit included."""
_HUGE = 255
"""An exponent that is too large even for a product below 2."""


class FloatMultiply(Component):
    """o = a * b, IEEE 754 float32, half to even, subnormals kept; every NaN is ``CANONICAL_NAN``.

    *Behaviour*: the product of the fractions goes up to its highest one, but not below the smallest exponent, or, too small for
    any exponent, down; then it is rounded.
    *Members*: ``a``, ``b`` in, ``o`` out, a register. *Handshake*: none, a product a cycle.
    *Latency*: ``LATENCY``: unpacked operands, two parts of the product, their sum, leading zeros, shift, rounding.
    """

    LATENCY = MULTIPLY_LATENCY

    def __init__(self):
        super().__init__({"a": In(32), "b": In(32), "o": Out(32)})

    def elaborate(self, platform):
        m = Module()
        exponents, fractions, tops, zeros, nans = [], [], [], [], []
        for name, x in (("a", self.a), ("b", self.b)):
            normal, top, fraction = Signal(name=f"normal_{name}"), Signal(name=f"top_{name}"), \
                Signal(_FRACTION, name=f"fraction_{name}", reset_less=True)
            m.d.comb += [normal.eq(x[23:31].any()), top.eq(x[23:31].all())]
            m.d.sync += fraction.eq(Cat(x[:23], normal))
            exponents.append(Cat(x[23] | ~normal, x[24:31]))
            fractions.append(fraction)
            tops.append(top)
            zeros.append(~normal & ~x[:23].any())
            nans.append(top & x[:23].any())
        # A product's top bit is worth 2**(exponent + 1).
        exponent, flags = Signal(signed(10), reset_less=True), Signal(4, reset_less=True)
        nan = nans[0] | nans[1] | (tops[0] & zeros[1]) | (tops[1] & zeros[0])
        m.d.sync += [fit(exponent, exponents[0] + exponents[1] - _BIAS),
                     flags.eq(Cat(self.a[31] ^ self.b[31], nan, tops[0] | tops[1], ~(zeros[0] | zeros[1])))]

        low, high = Signal(_FRACTION + _CHUNK, reset_less=True), Signal(_PRODUCT - _CHUNK, reset_less=True)
        product = Signal(_PRODUCT, reset_less=True)
        m.d.sync += [fit(low, fractions[0] * fractions[1][:_CHUNK]), fit(high, fractions[0] * fractions[1][_CHUNK:]),
                     product.eq((low + Cat(Const(0, _CHUNK), high))[:_PRODUCT])]
        exponent = delay(m, exponent, 2, "exponent_late")

        lead, kept = Signal(6), delay(m, product, 1, "product_late")
        m.d.comb += fit(lead, leading_zeros(product))
        left = Signal(signed(11))
        m.d.comb += fit(left, exponent - lead)
        up, down, tiny = Signal(6, reset_less=True), Signal(5, reset_less=True), Signal(reset_less=True)
        base = Signal(8, reset_less=True)
        m.d.sync += [
            tiny.eq(exponent < 0), up.eq(Mux(left < 0, exponent[:6], lead)),
            down.eq(Mux(exponent < -_LOWEST, _LOWEST, (-exponent)[:5])),
            base.eq(Mux(left < 0, 0, Mux(left > _HUGE, _HUGE, left[:8]))),
        ]

        lower, lost = shift_down(kept, down)
        chosen, sticky = Signal(_PRODUCT, reset_less=True), Signal(reset_less=True)
        m.d.sync += [chosen.eq(Mux(tiny, lower, (kept << up)[:_PRODUCT])), sticky.eq(tiny & lost)]
        base, flags = delay(m, base, 1, "base_late"), delay(m, flags, 4, "flags_late")

        drop = _PRODUCT - _FRACTION
        one = chosen[drop - 1] & (chosen[: drop - 1].any() | sticky | chosen[drop])
        packed = Signal(33)
        # The fraction's top bit, where there is one, makes the exponent one more: 0 stays the subnormals' exponent.
        m.d.comb += fit(packed, Cat(chosen[drop:-1], base) + Cat(one, Const(0, 22), chosen[-1], Const(0, 1)))
        minus, nan, infinite, some = flags
        special = infinite | packed[31:].any() | packed[23:31].all()
        with m.If(nan):
            m.d.sync += self.o.eq(CANONICAL_NAN)
        with m.Else():
            m.d.sync += self.o.eq(Cat(Mux(special | ~some, 0, packed[:23]),
                                      Mux(special, 0xFF, Mux(some, packed[23:31], 0)), minus))
        return m
