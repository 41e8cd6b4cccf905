"""From a value of one scale to an integer of another: multiply, shift, round, clamp."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.vector_cycles import RESCALE_LATENCY
from ...models.spec.vector_job import MULTIPLIER_BITS, SHIFT_BITS
from ..common.fit import fit
from .multiply import multiply
from .round_shift import RoundShift

__all__ = ["Rescale"]


class Rescale(Component):
    """y = clamp(round_half_even(value * multiplier / 2**shift)) to int32, to int8 where ``narrow``.

    *Parameters*: ``width`` of value; ``narrows``: whether there is ``narrow``. *Members*: ``value``, ``multiplier``, ``shift``,
    ``narrow`` in (all but value as they are for a whole job), ``y``, ``clamped`` out.
    *Latency*: ``latency`` cycles. *Handshake*: none, a value a cycle.
    """

    latency = RESCALE_LATENCY

    def __init__(self, width, narrows):
        self.width, self.narrows = width, narrows
        super().__init__({
            "value": In(signed(width)), "multiplier": In(MULTIPLIER_BITS), "shift": In(SHIFT_BITS), "narrow": In(1),
            "y": Out(signed(32)), "clamped": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        width = self.width + MULTIPLIER_BITS
        m.submodules.round = shift = RoundShift(width, (1 << SHIFT_BITS) - 1)
        m.d.comb += [fit(shift.value, multiply(m, self.value, self.multiplier, "scaled")), shift.shift.eq(self.shift)]
        # Bits above the kept ones are all like the sign, or the value is outside.
        outside, edge = Signal(), Signal(signed(32))

        def bounded(bits):
            above = shift.y[bits:]
            return [outside.eq(above.any() & ~above.all()), edge.eq(Mux(shift.y[-1], -(1 << bits), (1 << bits) - 1))]

        m.d.comb += bounded(31)
        if self.narrows:
            with m.If(self.narrow):
                m.d.comb += bounded(7)
        m.d.sync += [self.clamped.eq(outside), self.y.eq(Mux(outside, edge, shift.y[:32].as_signed()))]
        return m
