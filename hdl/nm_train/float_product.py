"""Product of two bfloat16 as float32."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.floats import INFINITY, PRODUCT_LATENCY
from .float_fields import NAN, Fields, leading_zeros, round_up

__all__ = ["FloatProduct"]

_SMALLEST = 119
"""Of the factors' scales together: then the product's last bit counts as much as the smallest float32."""


class FloatProduct(Component):
    """o = a * b: exact, as significands of 8 bits give 16; only what is too large or too small for float32 is rounded.

    *Members*: ``a``, ``b`` in, ``o`` out, a register. *Latency*: ``LATENCY`` cycles. *Handshake*: none, a product a cycle.
    """

    LATENCY = PRODUCT_LATENCY

    def __init__(self):
        super().__init__({"a": In(16), "b": In(16), "o": Out(32)})

    def elaborate(self, platform):
        m = Module()
        a, b = Fields(self.a, 8, 7), Fields(self.b, 8, 7)
        product, scales = Signal(16, reset_less=True), Signal(9, reset_less=True)
        sign, nan, infinite = Signal(reset_less=True), Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [
            product.eq(a.significand * b.significand), scales.eq(a.scale + b.scale), sign.eq(a.sign ^ b.sign),
            nan.eq(a.nan | b.nan | (a.infinite & b.zero) | (b.infinite & a.zero)), infinite.eq(a.special | b.special),
        ]
        zeros, exponent, normal = Signal(range(17)), Signal(signed(11)), Signal(16)
        m.d.comb += [zeros.eq(leading_zeros(product)), normal.eq(product << zeros[:4]),
                     exponent.eq(scales - (_SMALLEST + 7) - zeros)]
        some = product.any()
        # Subnormal results count by the smallest number: to the left, or to the right and rounded.
        right, far = Signal(signed(11)), Signal(range(19))
        m.d.comb += [right.eq(_SMALLEST - scales), far.eq(Mux(right > 18, 18, right)[:5])]
        wide, kept = Cat(Const(0, 18), product), Signal(34)
        m.d.comb += kept.eq(wide >> far)
        down = kept[18:] + round_up(kept[18], kept[17], kept[:17].any())
        small = Mux(right < 0, (product << (-right)[:5])[:23], down)
        magnitude = Signal(31)
        with m.If(infinite | ((exponent >= 255) & some)):
            m.d.comb += magnitude.eq(INFINITY)
        with m.Elif((exponent >= 1) & some):
            m.d.comb += magnitude.eq(Cat(Const(0, 8), normal[:15], exponent[:8]))
        with m.Else():
            m.d.comb += magnitude.eq(small)
        m.d.sync += self.o.eq(Mux(nan, NAN, Cat(magnitude, sign)))
        return m
