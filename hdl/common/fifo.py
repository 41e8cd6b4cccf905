"""A small queue in distributed memory."""

from amaranth.hdl import Module, Shape, Signal
from amaranth.lib import stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

__all__ = ["Fifo"]


class Fifo(Component):
    """Queue of up to ``depth`` payloads.

    *Parameters*: ``shape`` of the payload; ``depth``, a power of two of at least 2.
    *Members*: ``i``, ``o`` streams; ``level`` payloads held.
    *Latency*: accepted in cycle c, offered from cycle c + 1. *Handshake*: ``i.ready`` and ``o.valid`` are registers; full rate.
    *Limits*: the memory is read asynchronously: LUTRAM, not block RAM.
    """

    def __init__(self, shape, depth):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth must be a power of two of at least 2, got {depth}")
        self.shape, self.depth = shape, depth
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "level": Out(range(depth + 1))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=Shape.cast(self.shape), depth=self.depth, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        put, get = Signal(range(self.depth)), Signal(range(self.depth))
        room, some = Signal(init=1), Signal()
        m.d.comb += [
            self.i.ready.eq(room),
            self.o.valid.eq(some),
            write.en.eq(self.i.valid & self.i.ready), write.addr.eq(put), write.data.eq(self.i.payload),
            read.addr.eq(get), self.o.payload.eq(read.data),
        ]
        took, gave = self.i.valid & self.i.ready, self.o.valid & self.o.ready
        with m.If(took):
            m.d.sync += put.eq(put + 1)
        with m.If(gave):
            m.d.sync += get.eq(get + 1)
        with m.If(took & ~gave):
            m.d.sync += [self.level.eq(self.level + 1), some.eq(1), room.eq(self.level != self.depth - 1)]
        with m.Elif(gave & ~took):
            m.d.sync += [self.level.eq(self.level - 1), some.eq(self.level != 1), room.eq(1)]
        return m
