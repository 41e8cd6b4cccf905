"""A power of a number as mantissa and shift: normalise, interpolate, round."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.functions import INTERPOLATE_LATENCY, MANTISSA_BITS, MANTISSA_GUARD, RECIPROCAL_LATENCY
from ..common.delay import delay
from .interpolate import Interpolate
from .normalise import Normalise

__all__ = ["Mantissa"]


class Mantissa(Component):
    """x**-(1 / 2**halvings) ~ mantissa * 2**-shift; mantissa and shift are 0 for x = 0.

    *Parameters*: ``width`` of x, up to 128; ``table`` of the mantissas; ``halvings``: 0 or 1 (a table for even, odd places).
    *Members*: ``i`` x, unsigned; ``o_mantissa`` in 2**16..2**17 - 1, ``o_shift`` out.
    *Latency*: ``latency`` cycles. *Handshake*: none, a value a cycle.
    """

    latency = RECIPROCAL_LATENCY

    def __init__(self, width, table, halvings):
        self.width, self.table, self.halvings = width, table, halvings
        super().__init__({"i": In(width), "o_mantissa": Out(MANTISSA_BITS),
                          "o_shift": Out(range(MANTISSA_BITS + (width - 1 >> halvings) + 1))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.normal = normal = Normalise(self.width)
        m.submodules.line = line = Interpolate(self.table)
        m.d.comb += [normal.i.eq(self.i), line.i.eq(Cat(normal.rest, normal.place[: self.halvings]))]
        place = delay(m, normal.place, INTERPOLATE_LATENCY + 1, "place")
        some = delay(m, normal.some, INTERPOLATE_LATENCY + 1, "some")
        rounded, full = Signal(MANTISSA_BITS + 1, reset_less=True), Signal()
        m.d.sync += rounded.eq((line.o + (1 << MANTISSA_GUARD - 1))[MANTISSA_GUARD:])
        m.d.comb += full.eq(rounded[-1])
        m.d.sync += [
            self.o_mantissa.eq(Mux(some, Cat(rounded[:-2], rounded[-2] | full), 0)),
            self.o_shift.eq(Mux(some, MANTISSA_BITS + (place >> self.halvings) - full, 0)),
        ]
        return m
