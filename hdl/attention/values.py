"""A slot's sums of weighted values."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.attention import MAX_RAISE
from ..common.delay import delay
from ..common.fit import fit
from ..common.ports import layout
from .weights import WEIGHT_BITS

__all__ = ["Values"]


class Values(Component):
    """acc[chunk] = (acc[chunk] shifted or emptied) + weight * v.

    *Members*: ``job``; ``move``, ``chunk``, ``v`` of a beat; a cycle later, ``weight``, ``empties``, ``raised`` of its key;
    ``acc`` out.
    *Latency*: ``LATENCY`` cycles from a beat to its sums. d_lanes multipliers. *Limits*: sums within the spec's ``acc_peak``.
    """

    LATENCY = 3

    def __init__(self, build):
        self.build = build
        super().__init__({
            "job": In(layout(build.job_record)), "move": In(1), "chunk": In(range(build.max_chunks)),
            "v": In(data.ArrayLayout(signed(build.bits), build.d_lanes)),
            "weight": In(WEIGHT_BITS), "empties": In(1), "raised": In(range(MAX_RAISE + 1)),
            "acc": Out(data.ArrayLayout(signed(build.acc_width), build.d_lanes)),
        })

    def elaborate(self, platform):
        m = Module()
        build, width = self.build, self.build.acc_width
        move = delay(m, self.move, 2, "move", reset_less=False)
        empties, raised = delay(m, self.empties, 1, "empties"), delay(m, self.raised, 1, "raised")
        old = Signal(self.acc.shape())
        if build.max_chunks > 1:
            m.submodules.memory = memory = Memory(shape=len(old.as_value()), depth=build.max_chunks, init=[])
            put, get = memory.write_port(), memory.read_port(domain="comb")
            ahead = delay(m, self.chunk, 1, "ahead")
            chunk = delay(m, ahead, 1, "chunk")
            # Read a cycle ahead; with one chunk a key the last sums are the ones wanted.
            held, single = Signal(len(get.data), reset_less=True), Signal(reset_less=True)
            m.d.sync += [held.eq(get.data), single.eq(self.job.chunks == 1)]
            m.d.comb += [put.addr.eq(chunk), put.en.eq(move), get.addr.eq(ahead), old.as_value().eq(Mux(single, self.acc, held))]
        else:
            m.d.comb += old.eq(self.acc)
        totals = []
        for lane in range(build.d_lanes):
            v = Signal(signed(build.bits), name=f"v_{lane}", reset_less=True)
            product = Signal(signed(WEIGHT_BITS + build.bits), name=f"product_{lane}", reset_less=True)
            m.d.sync += [v.eq(self.v[lane]), fit(product, v * self.weight)]
            kept = old[lane] >> raised if build.score == "online" else old[lane]
            total = Signal(signed(width), name=f"total_{lane}")
            # Fits: acc_peak bounds every partial sum, and a shift brings it nearer to 0.
            m.d.comb += total.eq((Mux(empties, 0, kept) + product)[:width].as_signed())
            totals.append(total)
        if build.max_chunks > 1:
            m.d.comb += put.data.eq(Cat(totals))
        with m.If(move):
            m.d.sync += self.acc.as_value().eq(Cat(totals))
        return m
