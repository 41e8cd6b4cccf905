"""Sum of two float32."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.floats import ADD_LATENCY, INFINITY
from .float_fields import NAN, Fields, leading_zeros, round_up

__all__ = ["FloatAdd"]

_BELOW = 3
"""Bits kept below the larger number's last: guard, round, and whether anything was lost."""


class FloatAdd(Component):
    """o = a + b: IEEE float32, half to even, subnormals as they are; every NaN is the canonical one.

    *Members*: ``a``, ``b`` in, ``o`` out. *Latency*: ``LATENCY`` cycles, and ``o`` is a function of registers: normalised and
    rounded on its way into the caller's. *Handshake*: none, a sum a cycle.
    """

    LATENCY = ADD_LATENCY

    def __init__(self):
        super().__init__({"a": In(32), "b": In(32), "o": Out(32)})

    def elaborate(self, platform):
        m = Module()
        # 1: the larger and the smaller magnitude.
        first, second = Fields(self.a, 8, 23), Fields(self.b, 8, 23)
        swap, larger, smaller = Signal(), Signal(32), Signal(32)
        m.d.comb += [swap.eq(self.a[:31] < self.b[:31]), larger.eq(Mux(swap, self.b, self.a)),
                     smaller.eq(Mux(swap, self.a, self.b))]
        large, small = Fields(larger, 8, 23), Fields(smaller, 8, 23)
        sign, subtract, scale = self._registers(m, (large.sign, first.sign ^ second.sign, large.scale), "ordered")
        top, low, distance = self._registers(m, (large.significand, small.significand, (large.scale - small.scale)[:8]), "apart")
        nan, infinite = self._registers(m, (
            first.nan | second.nan | (first.infinite & second.infinite & (first.sign ^ second.sign)),
            first.infinite | second.infinite), "special")
        # 2: the smaller one moves to the larger one's place.
        width = len(top) + _BELOW
        shift, moved, lost = Signal(range(width + 1)), Signal(width), Signal()
        wide = Cat(Const(0, _BELOW), low)
        m.d.comb += [shift.eq(Mux(distance > width, width, distance)), moved.eq(wide >> shift),
                     lost.eq((wide & ((1 << shift) - 1)).any())]
        sign, subtract, scale = self._registers(m, (sign, subtract, scale), "aligned")
        top, low, nan, infinite = self._registers(
            m, (Cat(Const(0, _BELOW), top), Cat(moved[0] | lost, moved[1:]), nan, infinite), "addends")
        # 3: sum or difference.
        total = Signal(width + 1)
        m.d.comb += total.eq(Mux(subtract, top - low, top + low))
        zeros = leading_zeros(total)
        # What cancels is +0.
        total, zeros, sign = self._registers(m, (total, zeros, sign & ~(subtract & ~total.any())), "sum")
        scale, nan, infinite = self._registers(m, (scale, nan, infinite), "summed")
        # And on the way out: to the left as far as the exponent allows, rounded; a carry goes into the exponent by itself.
        left, normal, exponent, packed = Signal(range(width + 1)), Signal(width + 1), Signal(9), Signal(32)
        m.d.comb += [
            left.eq(Mux(zeros < scale, zeros, scale)), normal.eq(total << left),
            exponent.eq(Mux(normal[-1], scale + 1 - left, 0)),
            packed.eq(Cat(normal[_BELOW + 1 : -1], exponent)
                      + round_up(normal[_BELOW + 1], normal[_BELOW], normal[:_BELOW].any())),
            self.o.eq(Mux(nan, NAN, Cat(Mux(infinite | (packed[23:] >= 255), Const(INFINITY, 31), packed[:31]), sign))),
        ]
        return m

    @staticmethod
    def _registers(m, values, name):
        later = [Signal(len(value), name=f"{name}_{index}", reset_less=True) for index, value in enumerate(values)]
        m.d.sync += [register.eq(value) for register, value in zip(later, values, strict=True)]
        return later
