"""The list of blocks: read ahead, each block's number of keys."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.attention_job import BLOCKS
from ..common.countdown import Countdown
from ..common.delay import delay
from ..common.fifo import Fifo
from ..common.ports import layout

__all__ = ["Listing"]

DEPTH = 16
"""Words asked for and not yet used up: more than are on their way."""


class Listing(Component):
    """Blocks of keys, group after group, the list anew for each head.

    *Members*: ``job`` with ``start``; ``addr``, ``valid``, ``ready``, ``data`` of the buffer; ``blocks`` stream: ``keys`` of a
    block, ``last`` of its group; ``bad`` high if a block lies beyond the keys: it counts as a whole one.
    *Latency*: a block a cycle.
    """

    def __init__(self, build):
        self.build = build
        entry = data.StructLayout({"keys": range(build.max_keys + 1), "last": 1})
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1), "addr": Out(range(build.max_listed)), "valid": Out(1),
            "ready": In(1), "data": In(layout(build.block_record)), "blocks": Out(stream.Signature(entry)), "bad": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, job = self.build, self.job
        m.submodules.queue = queue = Fifo(self.blocks.payload.shape(), DEPTH)
        words, heads = Countdown(build.max_listed, "listed_word"), Countdown(build.max_heads, "listed_head")
        running, free, room = Signal(), Signal(range(DEPTH + 1), init=DEPTH), Signal(init=1)
        asked, used = Signal(), Signal()
        m.d.comb += [
            self.valid.eq(running & room), asked.eq(self.valid & self.ready), used.eq(self.blocks.valid & self.blocks.ready),
            self.blocks.payload.eq(queue.o.payload), self.blocks.valid.eq(queue.o.valid), queue.o.ready.eq(self.blocks.ready),
        ]
        after = Signal(range(DEPTH + 2))
        m.d.comb += after.eq(free + used - asked)
        m.d.sync += [free.eq(after), room.eq(after != 0)]
        with m.If(asked):
            m.d.sync += [self.addr.eq(self.addr + 1), *words.advance()]
            with m.If(words.last):
                m.d.sync += [self.addr.eq(0), *words.load(job.listed), *heads.advance()]
                with m.If(heads.last):
                    m.d.sync += running.eq(0)
        with m.If(self.start):
            m.d.sync += [self.addr.eq(0), *words.load(job.listed), *heads.load(job.heads), running.eq(1)]
        # From a block's number to its keys: where it begins, what is left from there, no more than a block.
        wide = BLOCKS[-1] * build.max_blocks + build.max_keys
        begin, left = Signal(range(wide), reset_less=True), Signal(signed(wide.bit_length() + 1), reset_less=True)
        size, keys = BLOCKS[0] << job.block, Signal(range(build.max_keys + 1), reset_less=True)
        m.d.sync += [
            begin.eq((self.data.index * BLOCKS[0]) << job.block), left.eq(job.keys - begin),
            keys.eq(Mux((left > size) | (left <= 0), size, left)[: len(keys)]),
        ]
        m.d.comb += [
            queue.i.payload.keys.eq(keys), queue.i.payload.last.eq(delay(m, self.data.last, 3, "last")),
            queue.i.valid.eq(delay(m, asked, build.read_latency + 3, "asked", reset_less=False)),
        ]
        beyond = delay(m, left <= 0, 1, "beyond")
        with m.If(self.start):
            m.d.sync += self.bad.eq(0)
        with m.Elif(queue.i.valid & beyond):
            m.d.sync += self.bad.eq(1)
        return m
