"""Finds the last result of a job without knowing how many there are."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from .axi_stream import packet_layout

__all__ = ["LastMarker"]


class LastMarker(Component):
    """Holds a result back until the next one comes (it was not the last) or ``close`` is high (it was).

    *Members*: ``i`` results, ``o`` results with ``last``; ``close`` in, high for one cycle as the job's ``done`` is accepted;
    ``held`` high while a result is held. *Handshake*: full rate; a result offered together with ``close`` belongs to the next
    job. A job without results ends no packet.
    """

    def __init__(self, channel):
        self.channel = channel
        super().__init__({
            "i": In(stream.Signature(channel.record.bits)), "o": Out(stream.Signature(packet_layout(channel))),
            "close": In(1), "held": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        result, closed = Signal(self.channel.record.bits, reset_less=True), Signal()
        last = closed | self.close
        m.d.comb += [
            self.o.payload.data.eq(result), self.o.payload.last.eq(last),
            self.o.valid.eq(self.held & (last | self.i.valid)),
            self.i.ready.eq(~self.held | (self.o.valid & self.o.ready)),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [self.held.eq(0), closed.eq(0)]
        with m.Elif(self.held):
            m.d.sync += closed.eq(last)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [result.eq(self.i.payload), self.held.eq(1)]
        return m
