"""Shift to the right, rounded half to even."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.vector_cycles import ROUND_SHIFT_LATENCY
from ..common.delay import delay
from ..common.fit import fit

__all__ = ["RoundShift"]

_FINE = 3
"""Bits of the shift that are the second stage's."""


class RoundShift(Component):
    """y = round_half_even(value / 2**shift).

    *Parameters*: ``width`` of value and y; ``most``, the largest shift. *Members*: ``value``, ``shift`` in, ``y`` out.
    *Limits*: a larger shift gives 0 for 0, and else something.
    *Latency*: ``latency`` cycles: shift by eights, by ones, round. *Handshake*: none, a value a cycle.
    """

    latency = ROUND_SHIFT_LATENCY

    def __init__(self, width, most):
        self.width, self.most = width, most
        super().__init__({"value": In(signed(width)), "shift": In(range(most + 1)), "y": Out(signed(width))})

    def elaborate(self, platform):
        m = Module()
        # One place to the left, so that the bit below the quotient survives the shift.
        coarse, fine = Signal(signed(self.width + 1), reset_less=True), Signal(signed(self.width + 1), reset_less=True)
        lost, below = Signal(reset_less=True), Signal(reset_less=True)
        wide = self.value << 1
        self._stage(m, wide, self.shift >> _FINE, 1 << _FINE, self.most >> _FINE, coarse, lost, 0)
        rest = delay(m, self.shift[:_FINE], 1, "rest")
        self._stage(m, coarse, rest, 1, min(self.most, (1 << _FINE) - 1), fine, below, lost)
        m.d.sync += self.y.eq((fine >> 1) + (fine[0] & (below | fine[1])))
        return m

    @staticmethod
    def _stage(m, value, times, step, most, moved, lost, before):
        """``moved`` = value >> times * step; ``lost`` whether a bit fell out, or ``before``."""
        with m.Switch(times):
            for choice in range(most + 1):
                with m.Case(choice) if choice < most else m.Default():
                    fallen = value[: choice * step].any() if choice else 0
                    m.d.sync += [fit(moved, value >> choice * step), lost.eq(fallen | before)]
