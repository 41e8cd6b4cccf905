"""Product of two bfloat16 as float32."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.floats import CANONICAL_NAN, PRODUCT_LATENCY
from ..common.fit import fit
from .shifts import leading_zeros, shift_down

__all__ = ["FloatProduct"]

_BIAS = 127
_FRACTION = 8
_PRODUCT = 2 * _FRACTION
_LOWEST = 25
"""So many places below the smallest exponent nothing is left of a product, half of the last bit included."""
_HUGE = 256
"""An exponent that is too large even for a product below 2."""


class FloatProduct(Component):
    """o = a * b: bfloat16 in, float32 out; exact but for overflow and for what subnormals cannot hold, half to even.

    *Behaviour*: fractions are multiplied as they are; meanwhile the operands' leading zeros and exponents say how far the product
    goes up (one place is left open) or, too small for an exponent, down. Only on the way down there is something to round.
    *Members*: ``a``, ``b`` in, bits of bfloat16; ``o`` out, a register. *Handshake*: none, a product a cycle.
    *Latency*: ``LATENCY``. *Limits*: every NaN is ``CANONICAL_NAN``.
    """

    LATENCY = PRODUCT_LATENCY

    def __init__(self):
        super().__init__({"a": In(16), "b": In(16), "o": Out(32)})

    def elaborate(self, platform):
        m = Module()
        exponents, fractions, leads, tops, zeros, nans = [], [], [], [], [], []
        for name, x in (("a", self.a), ("b", self.b)):
            normal, top, lead = Signal(name=f"normal_{name}"), Signal(name=f"top_{name}"), Signal(3, name=f"lead_{name}")
            fraction = Cat(x[:7], normal)
            m.d.comb += [normal.eq(x[7:15].any()), top.eq(x[7:15].all()), fit(lead, leading_zeros(fraction))]
            exponents.append(Cat(x[7] | ~normal, x[8:15]))
            fractions.append(fraction)
            leads.append(lead)
            tops.append(top)
            zeros.append(~normal & ~x[:7].any())
            nans.append(top & x[:7].any())

        # A product's top bit is worth 2**(exponent + 1); it comes up by ``up`` at least and by at most one place more.
        exponent, lead, left = Signal(signed(10)), Signal(4), Signal(signed(11))
        m.d.comb += [fit(exponent, exponents[0] + exponents[1] - _BIAS), fit(lead, leads[0] + leads[1]),
                     fit(left, exponent - lead)]
        product, base = Signal(_PRODUCT, reset_less=True), Signal(9, reset_less=True)
        up, down = Signal(4, reset_less=True), Signal(5, reset_less=True)
        flags = Signal(6, reset_less=True)
        nan = nans[0] | nans[1] | (tops[0] & zeros[1]) | (tops[1] & zeros[0])
        m.d.sync += [
            product.eq(fractions[0] * fractions[1]), up.eq(Mux(left < 0, exponent[:4], lead)),
            down.eq(Mux(exponent < -_LOWEST, _LOWEST, (-exponent)[:5])),
            base.eq(Mux(left < 0, 0, Mux(left > _HUGE, _HUGE, left[:9]))),
            flags.eq(Cat(self.a[15] ^ self.b[15], nan, tops[0] | tops[1], ~(zeros[0] | zeros[1]), exponent < 0, left > 0)),
        ]
        self._pack(m, product, up, down, base, flags)
        return m

    def _pack(self, m, product, up, down, base, flags):
        """Second stage: normalise or denormalise, round, special values."""
        minus, nan, infinite, some, tiny, more = flags
        raised, again, upper = Signal(_PRODUCT), Signal(), Signal(_PRODUCT)
        m.d.comb += [raised.eq((product << up)[:_PRODUCT]), again.eq(more & ~raised[-1]),
                     upper.eq(Mux(again, raised << 1, raised)[:_PRODUCT])]
        shifted, lost = shift_down(Cat(Const(0, 9), product), down)
        lower, half = shifted[1:], shifted[0]
        fraction, one, packed = Signal(24), Signal(), Signal(33)
        m.d.comb += [fraction.eq(Mux(tiny, lower, Cat(Const(0, 8), upper))), one.eq(tiny & half & (lost | lower[0]))]
        # The fraction's top bit, where there is one, makes the exponent one more: 0 stays the subnormals' exponent.
        m.d.comb += fit(packed, Cat(fraction[:23], (base - again)[:9]) + Cat(one, Const(0, 22), fraction[23]))
        special = infinite | packed[31:].any() | packed[23:31].all()
        with m.If(nan):
            m.d.sync += self.o.eq(CANONICAL_NAN)
        with m.Else():
            m.d.sync += self.o.eq(Cat(Mux(special | ~some, 0, packed[:23]),
                                      Mux(special, 0xFF, Mux(some, packed[23:31], 0)), minus))
