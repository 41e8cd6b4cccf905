"""A stream register that breaks every combinational path between its two sides."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

__all__ = ["StreamRegister"]


class StreamRegister(Component):
    """Two-entry register: payload, valid and ready all leave from flip-flops.

    *Parameters*: ``shape`` of the payload. *Members*: ``i``, ``o`` streams.
    *Latency*: accepted in cycle c, offered from cycle c + 1. *Handshake*: full rate; ``i.ready`` falls one cycle after ``o``
    stalls.
    """

    def __init__(self, shape):
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        spare = Signal(self.shape, reset_less=True)
        out = Signal(self.shape, reset_less=True)
        held = Signal()
        m.d.comb += [self.i.ready.eq(~held), self.o.payload.eq(out)]
        with m.If(self.o.ready | ~self.o.valid):
            m.d.sync += [self.o.valid.eq(self.i.valid | held), held.eq(0)]
            with m.If(held):
                m.d.sync += out.eq(spare)
            with m.Else():
                m.d.sync += out.eq(self.i.payload)
        with m.Elif(self.i.valid & self.i.ready):
            m.d.sync += [spare.eq(self.i.payload), held.eq(1)]
        return m
