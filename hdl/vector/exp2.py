"""Powers of two with negative exponents."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.functions import EXP2, EXP2_LATENCY, EXP_FRACTION, EXP_GUARD, EXP_ONE, EXP_REACH, INTERPOLATE_LATENCY
from ..common.delay import delay
from ..common.fit import fit
from .interpolate import Interpolate

__all__ = ["Exp2Neg"]

_COARSE = 2
"""The shift's two lowest bits are one stage, the others the stage before it."""


class Exp2Neg(Component):
    """y = 2**-(u / 2**10) with 1.0 = 2**15, as ``models.spec.functions`` defines it.

    *Parameters*: ``width`` of u. *Members*: ``i`` u, unsigned; ``o`` y, 16 bits.
    *Latency*: ``latency`` cycles: interpolation, shift in two stages, rounding. *Handshake*: none, a value a cycle.
    """

    latency = EXP2_LATENCY

    def __init__(self, width=32):
        if width <= EXP_FRACTION:
            raise ValueError(f"width must be more than {EXP_FRACTION}, got {width}")
        self.width = width
        super().__init__({"i": In(width), "o": Out(EXP_ONE.bit_length())})

    def elaborate(self, platform):
        m = Module()
        m.submodules.table = table = Interpolate(EXP2)
        m.d.comb += table.i.eq(self.i[:EXP_FRACTION])
        whole = Signal(range(EXP_REACH), reset_less=True)
        far = Signal(reset_less=True)
        m.d.sync += [whole.eq(self.i[EXP_FRACTION:]), far.eq(self.i[EXP_FRACTION:] >= EXP_REACH)]
        places = delay(m, whole, INTERPOLATE_LATENCY - 1, "whole")
        # One bit below the result stays for the rounding.
        fine = table.o[EXP_GUARD - 1 :]
        coarse, rest = Signal(len(fine), reset_less=True), Signal(len(fine), reset_less=True)
        m.d.sync += [fit(coarse, fine >> (places & -1 << _COARSE)[: len(places)]),
                     fit(rest, coarse >> delay(m, places[:_COARSE], 1, "places"))]
        rounded = (rest + 1) >> 1
        m.d.sync += self.o.eq(Mux(delay(m, far, self.latency - 2, "far"), 0, rounded))
        return m
