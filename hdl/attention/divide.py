"""Integer division of one constant by a stream of divisors: a stage for each bit of the quotient."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

__all__ = ["DIVIDEND_BITS", "DivideFull"]

DIVIDEND_BITS = 31


class DivideFull(Component):
    """o = floor((2**31 - 1) / i) for 1 <= i < 2**31; for 0 all ones.

    *Members*: ``i``, ``o``. *Latency*: a cycle a bit, a division a cycle. *Handshake*: none.
    """

    def __init__(self):
        super().__init__({"i": In(DIVIDEND_BITS), "o": Out(DIVIDEND_BITS)})

    def elaborate(self, platform):
        m = Module()
        divisor, quotient, rest = self.i, None, None
        for stage in range(DIVIDEND_BITS):
            now = Signal(DIVIDEND_BITS, name=f"divisor_{stage}", reset_less=True)
            bits = Signal(stage + 1, name=f"quotient_{stage}", reset_less=True)
            left = Signal(DIVIDEND_BITS, name=f"rest_{stage}", reset_less=True)
            # Every bit of the dividend is 1.
            tried = Cat(1, rest) if stage else 1
            difference = Signal(DIVIDEND_BITS + 2, name=f"difference_{stage}")
            m.d.comb += difference.eq(tried - divisor)
            fits = ~difference[-1]
            m.d.sync += [now.eq(divisor), bits.eq(Cat(fits, quotient) if stage else fits),
                         left.eq(Mux(fits, difference, tried)[:DIVIDEND_BITS])]
            divisor, quotient, rest = now, bits, left
        m.d.comb += self.o.eq(quotient)
        return m
