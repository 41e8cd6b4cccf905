"""Functions that differ from relu by a small bump."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.functions import GELU_LATENCY, INTERPOLATE_LATENCY, RECTIFIED_GUARD
from ..common.delay import delay
from ..common.fit import fit
from .interpolate import Interpolate

__all__ = ["Rectified"]

_WIDTH = 32


class Rectified(Component):
    """y = relu(x) - delta(|x|), delta from ``table`` and 0 beyond its reach.

    *Parameters*: ``table``. *Members*: ``i`` x, ``o`` y: signed 32, 16 fraction bits.
    *Latency*: ``latency`` cycles: magnitude, interpolation, rounding, difference. *Handshake*: none, a value a cycle.
    """

    latency = GELU_LATENCY

    def __init__(self, table):
        self.table = table
        super().__init__({"i": In(signed(_WIDTH)), "o": Out(signed(_WIDTH))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.line = line = Interpolate(self.table)
        size, positive = Signal(_WIDTH, reset_less=True), Signal(_WIDTH - 1, reset_less=True)
        m.d.sync += [size.eq(Mux(self.i[-1], -self.i, self.i)), positive.eq(Mux(self.i[-1], 0, self.i))]
        m.d.comb += line.i.eq(size)
        far = Signal(reset_less=True)
        m.d.sync += far.eq(size >= self.table.reach)
        delta = Signal(self.table.value_width - RECTIFIED_GUARD + 1, reset_less=True)
        with m.If(delay(m, far, INTERPOLATE_LATENCY - 1, "far")):
            m.d.sync += delta.eq(0)
        with m.Else():
            m.d.sync += fit(delta, (line.o + (1 << RECTIFIED_GUARD - 1))[RECTIFIED_GUARD:])
        difference = Signal(signed(_WIDTH + 1))
        m.d.comb += fit(difference, delay(m, positive, INTERPOLATE_LATENCY + 1, "positive") - delta)
        # 0 <= relu(x) < 2**31 and 0 <= delta: the difference has 32 bits.
        m.d.sync += self.o.eq(difference[:_WIDTH].as_signed())
        return m
