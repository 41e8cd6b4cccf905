"""A number's leading one, and what follows it."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.functions import NORMAL_BITS, NORMALISE_LATENCY

__all__ = ["Normalise"]

_STEPS = 32, 8, 2, 1
"""Each stage moves its number to the left by none, one, two or three times its step (the last: none or one)."""


class Normalise(Component):
    """x = 2**place * (1 + rest / 2**20), bits below the last of ``rest`` cut off.

    *Parameters*: ``width`` of x, up to 128. *Members*: ``i`` x, unsigned; ``place``, ``rest`` out; ``some`` out, low for x = 0.
    *Latency*: ``latency`` cycles. *Handshake*: none, a value a cycle.
    """

    latency = NORMALISE_LATENCY

    def __init__(self, width):
        if not 1 <= width <= 128:
            raise ValueError(f"width must be 1..128, got {width}")
        self.width = width
        super().__init__({"i": In(width), "place": Out(range(max(2, width))), "rest": Out(NORMAL_BITS), "some": Out(1)})

    def elaborate(self, platform):
        m = Module()
        padding = max(0, NORMAL_BITS + 1 - self.width)
        value, place = Cat(Const(0, padding), self.i), None
        width = len(value)
        for stage, step in enumerate(_STEPS):
            most = 3 if step > 1 else 1
            choices = [times for times in range(most + 1) if times * step < self.width]
            moved = Signal(width, name=f"moved_{stage}", reset_less=True)
            found = Signal(range(max(2, self.width)), name=f"place_{stage}", reset_less=True)
            before = self.width - 1 if place is None else place
            # The last choice needs no look: whatever is there has reached the top.
            for times in reversed(choices):
                taken = [moved.eq(value << (times * step)), found.eq(before - times * step)]
                if times == choices[-1]:
                    m.d.sync += taken
                else:
                    with m.If(value[width - (times + 1) * step : width - times * step].any()):
                        m.d.sync += taken
            value, place = moved, found
        m.d.comb += [self.rest.eq(value[width - 1 - NORMAL_BITS : width - 1]), self.place.eq(place), self.some.eq(value[-1])]
        return m
