"""The logistic function."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.functions import EXP_ONE, INTERPOLATE_LATENCY, SIGMOID, SIGMOID_GUARD, SIGMOID_LATENCY
from ..common.delay import delay
from .interpolate import Interpolate

__all__ = ["Sigmoid"]


class Sigmoid(Component):
    """y = 1 / (1 + e**-x) with 1.0 = 2**15, as ``models.spec.functions`` defines it.

    *Parameters*: ``width`` of x. *Members*: ``i`` x, signed with 12 fraction bits; ``o`` y, 16 bits.
    *Latency*: ``latency`` cycles: magnitude, interpolation, rounding, reflection. *Handshake*: none, a value a cycle.
    """

    latency = SIGMOID_LATENCY

    def __init__(self, width=32):
        self.width = width
        super().__init__({"i": In(signed(width)), "o": Out(EXP_ONE.bit_length())})

    def elaborate(self, platform):
        m = Module()
        m.submodules.line = line = Interpolate(SIGMOID)
        size, far, y = Signal(self.width, reset_less=True), Signal(reset_less=True), Signal(len(self.o), reset_less=True)
        m.d.sync += [size.eq(Mux(self.i[-1], -self.i, self.i)), far.eq(size >= SIGMOID.reach)]
        m.d.comb += line.i.eq(size)
        rounded = (line.o + (1 << SIGMOID_GUARD - 1)) >> SIGMOID_GUARD
        m.d.sync += y.eq(Mux(delay(m, far, INTERPOLATE_LATENCY - 1, "far"), EXP_ONE, rounded))
        m.d.sync += self.o.eq(Mux(delay(m, self.i[-1], self.latency - 1, "minus"), EXP_ONE - y, y))
        return m
