"""A beat of a key-time ago: what one slot uses now, the next uses when its key's turn comes there."""

from amaranth.hdl import Module, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

__all__ = ["Behind"]


class Behind(Component):
    """The beat that came with the same ``chunk`` in the key-time before.

    *Parameters*: ``width`` bits; ``chunks`` of a key at most. *Members*: ``move``, ``chunk``, ``i`` in; ``o`` out, in the same
    cycle. *Latency*: one key-time. *Limits*: distributed memory, read asynchronously.
    """

    def __init__(self, width, chunks):
        self.width, self.chunks = width, chunks
        super().__init__({"move": In(1), "chunk": In(range(chunks)), "i": In(width), "o": Out(width)})

    def elaborate(self, platform):
        m = Module()
        if self.chunks == 1:
            held = Signal(self.width, reset_less=True)
            with m.If(self.move):
                m.d.sync += held.eq(self.i)
            m.d.comb += self.o.eq(held)
            return m
        m.submodules.memory = memory = Memory(shape=self.width, depth=self.chunks, init=[])
        put, get = memory.write_port(), memory.read_port(domain="comb")
        m.d.comb += [put.addr.eq(self.chunk), put.data.eq(self.i), put.en.eq(self.move), get.addr.eq(self.chunk),
                     self.o.eq(get.data)]
        return m
