"""AXI4-Stream at a kernel's edge: records in from, and out to, a bus of any width."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ..common.stream_register import StreamRegister

__all__ = ["StreamReceiver", "StreamSender", "axi_stream_members", "bus_layout", "packet_layout"]


def axi_stream_members(channel):
    """Ports of a :class:`~sparseloom.hdl.bus.kernel_spec.Channel` by their AMBA names, as members of a signature."""
    forward, backward = (Out, In) if channel.kind == "result" else (In, Out)
    members = {"tdata": forward(8 * channel.bus_bytes), "tlast": forward(1), "tvalid": forward(1), "tready": backward(1)}
    if channel.kind != "result":
        members["tkeep"] = forward(channel.bus_bytes)
    return {f"{channel.prefix}_{name}": member for name, member in members.items()}


def bus_layout(channel):
    """A beat of the bus."""
    keep = {} if channel.kind == "result" else {"keep": channel.bus_bytes}
    return data.StructLayout({"data": 8 * channel.bus_bytes, **keep, "last": 1})


def packet_layout(channel):
    """A record, and whether a packet ends with it."""
    return data.StructLayout({"data": channel.record.bits, "last": 1})


class StreamReceiver(Component):
    """Gathers the records of an incoming channel.

    *Members*: ``i`` beats of the bus, ``o`` records; ``flush`` in: drop whatever arrives; ``framing`` high as a record leaves
    that TLAST cut short or that misses a byte.
    *Behaviour*: TLAST may end any record. Where it ends a part of one, that record leaves with undefined contents and the next
    beat begins a new one.
    *Latency*: the last beat of a record accepted in cycle c, the record offered from c + 1. *Handshake*: ``i.ready`` leaves
    from a register; full rate.
    """

    def __init__(self, channel):
        self.channel = channel
        super().__init__({
            "i": In(stream.Signature(bus_layout(channel))), "o": Out(stream.Signature(packet_layout(channel))),
            "flush": In(1), "framing": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        channel = self.channel
        beats, width = channel.beats, 8 * channel.bus_bytes
        m.submodules.edge = edge = StreamRegister(bus_layout(channel))
        m.d.comb += [edge.i.payload.eq(self.i.payload), edge.i.valid.eq(self.i.valid), self.i.ready.eq(edge.i.ready)]
        beat = edge.o.payload
        earlier = Signal((beats - 1) * width, reset_less=True)
        index, null_seen, null = Signal(range(beats)), Signal(), Signal()
        ends, full = Signal(), Signal()
        # Only the last beat of a record may have null bytes, where it holds none of the record.
        used = channel.record.bytes - (beats - 1) * channel.bus_bytes
        m.d.comb += [
            full.eq(index == beats - 1), ends.eq(full | beat.last),
            null.eq(null_seen | ~beat.keep[:used].all() | (~full & ~beat.keep.all())),
            self.o.payload.data.eq(Cat(earlier, beat.data)), self.o.payload.last.eq(beat.last),
            self.o.valid.eq(edge.o.valid & ends & ~self.flush),
            edge.o.ready.eq(self.flush | ~ends | self.o.ready),
            self.framing.eq(self.o.valid & self.o.ready & (~full | null)),
        ]
        with m.If(self.flush):
            m.d.sync += [index.eq(0), null_seen.eq(0)]
        with m.Elif(edge.o.valid & edge.o.ready):
            m.d.sync += earlier.eq(Cat(earlier, beat.data)[width:])
            with m.If(ends):
                m.d.sync += [index.eq(0), null_seen.eq(0)]
            with m.Else():
                m.d.sync += [index.eq(index + 1), null_seen.eq(null)]
        return m


class StreamSender(Component):
    """Cuts the records of an outgoing channel into beats of the bus; the bits beyond the record are 0.

    *Members*: ``i`` records, ``o`` beats of the bus; ``sent`` high as TLAST is accepted; ``flush`` in: drop records, but let an
    offered beat stand and close an open packet with one beat of zeros and TLAST; ``quiet`` high while nothing is offered and no
    packet is open.
    *Latency*: a record accepted in cycle c, its first beat offered from c + 1. *Handshake*: valid and data leave from
    registers; full rate.
    """

    def __init__(self, channel):
        self.channel = channel
        super().__init__({
            "i": In(stream.Signature(packet_layout(channel))), "o": Out(stream.Signature(bus_layout(channel))),
            "flush": In(1), "sent": Out(1), "quiet": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        beats, width = self.channel.beats, 8 * self.channel.bus_bytes
        out, free, opened = self.o.payload, Signal(), Signal()
        left, rest, rest_last = Signal(range(beats)), Signal((beats - 1) * width, reset_less=True), Signal(reset_less=True)
        record = Signal(beats * width)
        m.d.comb += [
            record.eq(self.i.payload.data), free.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(free & (left == 0) & ~self.flush),
            self.sent.eq(self.o.valid & self.o.ready & out.last), self.quiet.eq(~self.o.valid & ~opened),
        ]
        with m.If(free):
            m.d.sync += self.o.valid.eq(0)
            with m.If(self.flush):
                m.d.sync += [self.o.valid.eq(opened), out.data.eq(0), out.last.eq(1), opened.eq(0)]
            with m.Elif(left != 0):
                last = rest_last & (left == 1)
                m.d.sync += [
                    self.o.valid.eq(1), Cat(out.data, rest).eq(rest), out.last.eq(last), opened.eq(~last), left.eq(left - 1),
                ]
            with m.Elif(self.i.valid):
                last = self.i.payload.last & (beats == 1)
                m.d.sync += [
                    self.o.valid.eq(1), Cat(out.data, rest).eq(record), out.last.eq(last), opened.eq(~last), left.eq(beats - 1),
                    rest_last.eq(self.i.payload.last),
                ]
        with m.If(self.flush):
            m.d.sync += left.eq(0)
        return m
