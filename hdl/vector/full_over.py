"""(2**31 - 1) / x, a quotient each cycle."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.vector_cycles import DIVIDE_BITS

__all__ = ["FullOver"]


class FullOver(Component):
    """o = floor((2**31 - 1) / i).

    *Members*: ``i``, 1 or more; ``o``: 31 bits. *Latency*: ``latency`` cycles, a bit of the quotient each. *Handshake*: none.
    """

    latency = DIVIDE_BITS

    def __init__(self):
        super().__init__({"i": In(DIVIDE_BITS), "o": Out(DIVIDE_BITS)})

    def elaborate(self, platform):
        m = Module()
        divisor, rest, quotient = self.i, None, []
        for stage in range(DIVIDE_BITS):
            # All bits of the dividend are 1; so far there are stage + 1 of them.
            now = Cat(Const(1, 1), rest) if stage else Const(1, 1)
            fits = Signal(name=f"fits_{stage}")
            m.d.comb += fits.eq(now >= divisor)
            after = Signal(stage + 1, name=f"rest_{stage}", reset_less=True)
            later = Signal(DIVIDE_BITS, name=f"divisor_{stage}", reset_less=True)
            digits = Signal(stage + 1, name=f"quotient_{stage}", reset_less=True)
            m.d.sync += [after.eq(Mux(fits, now - divisor, now)), later.eq(divisor), digits.eq(Cat(fits, *quotient))]
            divisor, rest, quotient = later, after, [digits]
        m.d.comb += self.o.eq(quotient[0])
        return m
