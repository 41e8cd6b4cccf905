"""Division by a power of two, rounded half to even and clamped, in short pipeline stages."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from ..common.adder_tree import signed_width

__all__ = ["RoundShift"]

_STAGES = (16, 4, 1)


class RoundShift(Component):
    """o = round_half_even(i / 2**shift), clamped to ``low``..``high``.

    *Parameters*: ``width`` of i, at least 48; ``low``, ``high``. *Members*: ``i`` signed; ``shift`` unsigned 6; ``o`` signed;
    ``over`` high where it was clamped. *Latency*: ``LATENCY`` cycles: three shifts by up to three times 16, 4 and 1, rounding,
    clamping; ``shift`` must be stable. *Handshake*: none, a value a cycle.
    """

    LATENCY = len(_STAGES) + 2

    def __init__(self, width, low, high):
        if width < 3 * _STAGES[0]:
            raise ValueError(f"width must be at least {3 * _STAGES[0]}, got {width}")
        self.width, self.low, self.high = width, low, high
        super().__init__({"i": In(signed(width)), "shift": In(6), "o": Out(signed(signed_width(low, high))), "over": Out(1)})

    def elaborate(self, platform):
        m = Module()
        value, guard, sticky = self.i, 0, 0
        for stage, unit in enumerate(_STAGES):
            value, guard, sticky = self._stage(m, value, guard, sticky, self.shift.word_select(2 - stage, 2), unit)
        rounded = Signal(signed(self.width + 1), reset_less=True)
        # Fits: one more than a number of ``width`` bits.
        m.d.sync += rounded.eq(value + (guard & (sticky | value[0])))
        above, below = rounded > self.high, rounded < self.low
        limited = Mux(above, self.high, Mux(below, self.low, rounded))
        m.d.sync += [self.o.eq(limited[: len(self.o)]), self.over.eq(above | below)]
        return m

    def _stage(self, m, value, guard, sticky, amount, unit):
        """Shift by ``amount`` times ``unit``: what falls off goes through the guard into the sticky bit."""
        later = Signal(signed(self.width), name=f"by_{unit}", reset_less=True)
        late_guard, late_sticky = (Signal(name=f"{name}_{unit}", reset_less=True) for name in ("guard", "sticky"))
        with m.Switch(amount):
            for times in range(4):
                places = times * unit
                with m.Case(times):
                    if places:
                        m.d.sync += [later.eq(value >> places), late_guard.eq(value[places - 1]),
                                     late_sticky.eq(Cat(value[: places - 1], guard, sticky).any())]
                    else:
                        m.d.sync += [later.eq(value), late_guard.eq(guard), late_sticky.eq(sticky)]
        return later, late_guard, late_sticky
