"""The memory behind an engine's buffer, twice: one half is read while the other is filled."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..common.delay import delay
from ..common.ports import BufferPort
from .axi_stream import packet_layout

__all__ = ["LoadedBuffer"]


class LoadedBuffer(Component):
    """*Behaviour*: the words of a packet go to addresses 0, 1, 2... of the half that is not read; words that a short packet
    leaves out keep what they held. Then packets are refused until ``take`` swaps the halves, for reads of the same cycle
    already. Words beyond the buffer are dropped.

    *Members*: ``i`` words of packets; ``x`` the engine's reads, never refused; ``loaded`` high while a whole packet waits;
    ``take`` in, high for one cycle, no read under way; ``overlong`` high as a word is dropped.
    *Latency*: reads the buffer's ``read_latency``: the memory's own register, then plain ones that a block RAM can absorb.
    *Limits*: no address is read and written in the same cycle, so any memory will do, whatever it does on a collision.
    """

    def __init__(self, buffer, channel):
        self.buffer, self.channel = buffer, channel
        super().__init__({
            "i": In(stream.Signature(packet_layout(channel))), "x": In(BufferPort(buffer)),
            "loaded": Out(1), "take": In(1), "overlong": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        buffer = self.buffer
        m.submodules.memory = memory = Memory(shape=buffer.width, depth=2 * buffer.words, init=[])
        write, read = memory.write_port(), memory.read_port()
        half = Signal()
        word = Signal(range(buffer.words + 1))
        fits = word != buffer.words
        m.d.comb += [
            self.i.ready.eq(~self.loaded),
            write.addr.eq(Cat(~half, word)), write.data.eq(self.i.payload.data), write.en.eq(self.i.valid & self.i.ready & fits),
            self.overlong.eq(self.i.valid & self.i.ready & ~fits),
            self.x.ready.eq(1), read.addr.eq(Cat(half ^ self.take, self.x.addr)), read.en.eq(self.x.valid),
            self.x.data.eq(delay(m, read.data, buffer.read_latency - 1, "data")),
        ]
        with m.If(self.i.valid & self.i.ready):
            with m.If(fits):
                m.d.sync += word.eq(word + 1)
            with m.If(self.i.payload.last):
                m.d.sync += [word.eq(0), self.loaded.eq(1)]
        with m.If(self.take):
            m.d.sync += [half.eq(~half), self.loaded.eq(0)]
        return m
