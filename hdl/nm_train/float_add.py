"""Sum of two float32."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.floats import ADD_LATENCY, CANONICAL_NAN
from ..common.delay import delay
from ..common.fit import fit
from .shifts import leading_zeros, shift_down

__all__ = ["FloatAdd"]

_FRACTION = 24
"""With the bit that is not written."""
_GUARD = 3
"""Guard, round and sticky bit below the larger number's last."""
_SUM = _FRACTION + _GUARD + 1


class FloatAdd(Component):
    """o = a + b, IEEE 754 float32, half to even, subnormals kept; every NaN is ``CANONICAL_NAN``.

    *Behaviour*: the larger magnitude stays, the other is shifted to it and added or subtracted; the sum is shifted up, but never
    below the smallest exponent, and rounded. An exact difference of 0 is +0.
    *Members*: ``a``, ``b`` in, ``o`` out: bits of float32. *Handshake*: none, a sum a cycle.
    *Latency*: ``LATENCY`` cycles to registers, from which ``o`` follows in the same cycle: shift, rounding, special values.
    *Limits*: ``o`` wants to go to a register or memory and nowhere else.
    """

    LATENCY = ADD_LATENCY

    def __init__(self):
        super().__init__({"a": In(32), "b": In(32), "o": Out(32)})

    def elaborate(self, platform):
        m = Module()
        large, small = Signal(_FRACTION, reset_less=True), Signal(_FRACTION, reset_less=True)
        exponent, apart = Signal(8, reset_less=True), Signal(8, reset_less=True)
        minus, differ = Signal(reset_less=True), Signal(reset_less=True)
        nan, infinite = Signal(reset_less=True), Signal(reset_less=True)
        self._order(m, exponent, large, small, apart, minus, differ, nan, infinite)

        aligned, kept = Signal(_FRACTION + _GUARD, reset_less=True), delay(m, large, 1, "kept")
        room = Signal(5, reset_less=True)
        m.d.sync += [aligned.eq(self._align(small, apart)), room.eq(Mux(exponent[5:].any(), 31, exponent[:5]))]
        differ, exponent = delay(m, differ, 1, "differ_late"), delay(m, exponent, 1, "exponent_late")

        total, zeros = Signal(_SUM), Signal(5)
        shift, some = Signal(5, reset_less=True), Signal(reset_less=True)
        rest, base = Signal(_SUM, reset_less=True), Signal(8, reset_less=True)
        # One carry chain: a difference adds the complement, and one from the place below.
        whole, other = Cat(Const(1, 1), Const(0, _GUARD), kept), Cat(differ, Cat(aligned, Const(0, 1)) ^ differ.replicate(_SUM))
        m.d.comb += [total.eq((whole + other)[1 : _SUM + 1]), fit(zeros, leading_zeros(total))]
        m.d.sync += [rest.eq(total), shift.eq(Mux(zeros < room, zeros, room)), some.eq(total.any()), base.eq(exponent)]
        # Of all zeros only -0 + -0 keeps its sign.
        minus, differ = delay(m, minus, 2, "minus_late"), delay(m, differ, 1, "differ_last")
        nan, infinite = delay(m, nan, 2, "nan_late"), delay(m, infinite, 2, "infinite_late")

        shifted, packed = Signal(_SUM), Signal(31)
        m.d.comb += shifted.eq((rest << shift)[:_SUM])
        drop = _SUM - _FRACTION
        up = shifted[drop - 1] & (shifted[: drop - 1].any() | shifted[drop])
        # The fraction's top bit, where there is one, makes the exponent one more: 0 stays the subnormals' exponent.
        m.d.comb += packed.eq((Cat(shifted[drop:-1], (base - shift)[:8]) + Cat(up, Const(0, 22), shifted[-1]))[:31])
        special = infinite | packed[23:].all()
        with m.If(nan):
            m.d.comb += self.o.eq(CANONICAL_NAN)
        with m.Else():
            m.d.comb += self.o.eq(Cat(Mux(special | ~some, 0, packed[:23]), Mux(special, 0xFF, Mux(some, packed[23:], 0)),
                                      minus & (some | ~differ)))
        return m

    def _order(self, m, exponent, large, small, apart, minus, differ, nan, infinite):
        """First stage: the larger and the smaller magnitude, and how far their exponents are apart."""
        a, b = self.a, self.b
        swap = Signal()
        m.d.comb += swap.eq(b[:31] > a[:31])
        exponents, fractions, infinities, nans = [], [], [], []
        for name, x in (("a", a), ("b", b)):
            normal, top = Signal(name=f"normal_{name}"), Signal(name=f"top_{name}")
            m.d.comb += [normal.eq(x[23:31].any()), top.eq(x[23:31].all())]
            # Subnormals have the exponent of the smallest normal numbers.
            exponents.append(Cat(x[23] | ~normal, x[24:31]))
            fractions.append(Cat(x[:23], normal))
            infinities.append(top)
            nans.append(top & x[:23].any())
        m.d.sync += [
            exponent.eq(Mux(swap, exponents[1], exponents[0])),
            large.eq(Mux(swap, fractions[1], fractions[0])), small.eq(Mux(swap, fractions[0], fractions[1])),
            apart.eq(Mux(swap, exponents[1] - exponents[0], exponents[0] - exponents[1])[:8]),
            minus.eq(Mux(swap, b[31], a[31])), differ.eq(a[31] ^ b[31]),
            nan.eq(nans[0] | nans[1] | (infinities[0] & infinities[1] & (a[31] ^ b[31]))),
            infinite.eq(infinities[0] | infinities[1]),
        ]

    def _align(self, small, apart):
        """Second stage: ``small`` with guard bits, ``apart`` places down; what falls off is or-ed into the last bit."""
        value, lost = shift_down(Cat(Const(0, _GUARD - 1), small), apart[:5])
        # So far apart the smaller one changes nothing, not even the way the larger one is rounded.
        return Mux(apart[5:].any(), 0, Cat(lost, value))
