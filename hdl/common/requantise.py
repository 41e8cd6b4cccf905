"""Accumulator to narrow integer: dyadic multiplier, rounding shift, clamp."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from .adder_tree import signed_width

__all__ = ["Requantise"]


class Requantise(Component):
    """y = clamp(round_half_even(x * multiplier / 2**shift)) to ``low``..``high``; x itself where ``bypass``.

    *Parameters*: ``width`` of x; ``multiplier_width``, unsigned; ``max_shift``; ``low``, ``high``.
    *Members*: ``x``, ``multiplier``, ``shift``, ``bypass`` in, ``en`` in: the pipeline moves; ``y`` signed 32, ``saturated`` out.
    *Latency*: ``LATENCY`` moves: multiply, shift, round and clamp. One multiplier of width x multiplier_width.
    """

    LATENCY = 3

    def __init__(self, width, multiplier_width, max_shift, low=-128, high=127):
        self.product_width, self.max_shift, self.low, self.high = width + multiplier_width, max_shift, low, high
        super().__init__({
            "x": In(signed(width)), "multiplier": In(multiplier_width), "shift": In(range(max_shift + 1)),
            "bypass": In(1), "en": In(1),
            "y": Out(signed(32)), "saturated": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        width = self.product_width
        product = Signal(signed(width), reset_less=True)
        plain = [Signal(signed(len(self.x)), name=f"plain_{i}", reset_less=True) for i in range(2)]
        quotient = Signal(signed(width), reset_less=True)
        guard, sticky = Signal(reset_less=True), Signal(reset_less=True)
        # One place to the left, so that the bit below the quotient survives the shift.
        moved = Signal(signed(width + 1))
        below = Signal(width)
        rounded = Signal(signed(width + 1))
        m.d.comb += [
            moved.eq((product << 1) >> self.shift),
            below.eq(((1 << self.shift) - 1) >> 1),
            rounded.eq(quotient + (guard & (sticky | quotient[0]))),
        ]
        limited = Mux(rounded > self.high, self.high, Mux(rounded < self.low, self.low, rounded))
        with m.If(self.en):
            m.d.sync += [
                product.eq(self.x * self.multiplier), plain[0].eq(self.x), plain[1].eq(plain[0]),
                quotient.eq(moved >> 1), guard.eq(moved[0]), sticky.eq((product & below).any()),
            ]
            with m.If(self.bypass):
                m.d.sync += [self.y.eq(plain[1]), self.saturated.eq(0)]
            with m.Else():
                m.d.sync += [self.y.eq(limited[: signed_width(self.low, self.high)].as_signed()),
                             self.saturated.eq((rounded > self.high) | (rounded < self.low))]
        return m
