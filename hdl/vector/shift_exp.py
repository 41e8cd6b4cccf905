"""I-ViT's exponential by shifts."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.vector_cycles import EXP_STEPS, SHIFT_EXP_LATENCY
from ...models.spec.vector_job import MAX_UNIT, SHIFT_STEPS
from ..common.delay import delay

__all__ = ["ShiftExp"]

_BITS = 31
_AHEAD = 8
"""Units that a positive argument may have before the answer is 2**31 - 1 anyway."""
_FINE = 3


class ShiftExp(Component):
    """e = exp(-t / unit) with ``SHIFT_STEPS`` fraction bits more, as ``models.golden.ivit.shift_exp`` defines it.

    *Parameters*: ``function``, shiftmax or shiftgelu; ``ahead``: t may be negative. *Members*: ``t``, ``unit`` in (unit as it is
    for a whole job), ``e`` out, at most 2**31 - 1.
    *Latency*: ``latency`` cycles: distance, sum, limit, a cycle for each bit of the quotient, base, shift by eights, by ones.
    """

    def __init__(self, function, ahead=False):
        self.quotient_bits, self.latency, self.unit_width = EXP_STEPS[function], SHIFT_EXP_LATENCY[function], \
            MAX_UNIT[function].bit_length()
        self.ahead = _AHEAD if ahead else 0
        self.steps = SHIFT_STEPS[function] + self.ahead
        super().__init__({"t": In(signed(33)), "unit": In(self.unit_width), "e": Out(_BITS)})

    def elaborate(self, platform):
        m = Module()
        width, t = self.unit_width + self.quotient_bits, self.t
        # x + floor(x / 2) - floor(x / 16) of x = -t, negated.
        more, less = Signal(signed(35), reset_less=True), Signal(signed(31), reset_less=True)
        distance = Signal(signed(36), reset_less=True)
        most, offset, rest = Signal(width, reset_less=True), Signal(width, reset_less=True), Signal(width, reset_less=True)
        m.d.sync += [
            more.eq(t + ((t + 1) >> 1)), less.eq((t + 15) >> 4),
            offset.eq(self.unit * self.ahead), most.eq(self.unit * self.steps),
            distance.eq(more - less + offset), rest.eq(Mux(distance < 0, 0, Mux(distance > most, most, distance[:width]))),
        ]
        quotient = []
        for bit in reversed(range(self.quotient_bits)):
            # A place down the remainder is below twice the unit there.
            after, fits = Signal(self.unit_width + bit, name=f"rest_{bit}", reset_less=True), Signal(name=f"fits_{bit}")
            taken = Signal(name=f"taken_{bit}", reset_less=True)
            m.d.comb += fits.eq(rest >= self.unit << bit)
            m.d.sync += [after.eq((rest - Mux(fits, self.unit << bit, 0))[: len(after)]), taken.eq(fits)]
            quotient = [delay(m, earlier, 1, f"quotient_{bit}_{at}") for at, earlier in enumerate(quotient)] + [taken]
            rest = after
        base, places = Signal(self.unit_width + 1, reset_less=True), Signal(self.quotient_bits, reset_less=True)
        coarse = Signal(len(base) + (self.steps >> _FINE << _FINE), reset_less=True)
        m.d.sync += [base.eq((self.unit << 1) - rest), places.eq(self.steps - Cat(*reversed(quotient))),
                     coarse.eq(base << Cat(Const(0, _FINE), places[_FINE:]))]
        whole = (coarse << delay(m, places[:_FINE], 1, "places"))[1:]
        kept = whole[:_BITS]
        m.d.sync += self.e.eq(Mux(whole[_BITS:].any(), (1 << _BITS) - 1, kept) if len(whole) > _BITS else kept)
        return m
