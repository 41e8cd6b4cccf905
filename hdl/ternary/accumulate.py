"""From one beat's sums to whole sums: registers or distributed memory (tree), block memory (table)."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..common.adder_tree import add_sub
from ..common.delay import delay

__all__ = ["TableAccumulator", "TreeAccumulator"]


def _members(build, datapath, result):
    return {
        "value": In(data.ArrayLayout(signed(datapath.width), build.rows)), "sign": In(build.rows),
        "result": Out(data.ArrayLayout(result, build.rows)), "result_valid": Out(1),
    }


class TreeAccumulator(Component):
    """Accumulates per row and token; a token's sums lie in a register (one token) or in distributed memory.

    *Behaviour*: the accumulator keeps a sign of its own, (-1)**sign * value, so that a new sum is added unnegated and an old
    one masked in the same LUT: ``value' = sum +- (first ? 0 : value)``, ``sign'`` = sign of the sum.
    *Members*: ``value``, ``sign`` with ``valid``, ``first``, ``last`` in the same cycle; ``token_ahead`` a cycle before;
    ``single``: the job has one token; ``result`` (value, then sign in the top bit) with
    ``result_valid`` one cycle after the last.
    """

    def __init__(self, build, datapath):
        self.build = build
        result = data.StructLayout({"value": signed(build.acc_width), "sign": 1})
        super().__init__(_members(build, datapath, result) | {
            "valid": In(1), "first": In(1), "last": In(1), "token_ahead": In(range(build.max_m)), "single": In(1)})

    def elaborate(self, platform):
        m = Module()
        held = Signal(self.result.shape())
        with m.If(self.valid):
            m.d.sync += self.result.eq(held)
        kept = self.result if self.build.max_m == 1 else self._memory(m, held)
        for row in range(self.build.rows):
            masked = Mux(self.first, 0, kept[row].value)[: self.build.acc_width].as_signed()
            total = add_sub(self.value[row], masked, self.sign[row] ^ kept[row].sign)
            # Fits: the spec's acc_peak bounds every partial sum.
            m.d.comb += [held[row].value.eq(total), held[row].sign.eq(self.sign[row])]
        m.d.sync += self.result_valid.eq(self.valid & self.last)
        return m

    def _memory(self, m, held):
        """The sums so far of the present token: read a cycle ahead, or, if it is the only token, just computed."""
        m.submodules.memory = memory = Memory(shape=self.result.shape(), depth=self.build.max_m, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        stored = Signal(self.result.shape(), reset_less=True)
        m.d.sync += stored.eq(read.data)
        m.d.comb += [
            read.addr.eq(self.token_ahead), write.addr.eq(delay(m, self.token_ahead, 1, "token")),
            write.en.eq(self.valid), write.data.eq(held),
        ]
        return data.View(self.result.shape(), Mux(self.single, self.result.as_value(), stored.as_value()))


class TableAccumulator(Component):
    """Accumulates per row group in block memory, read three cycles ahead and written one cycle after the sum.

    *Members*: ``valid_ahead``, ``first_ahead``, ``group_ahead`` ``AHEAD`` cycles before ``value``/``sign``; ``last_ahead``
    likewise;
    ``result`` with
    ``result_valid`` one cycle after the sums. *Limits*: a group comes back after five cycles at the earliest; ``TABLE_FILL``
    sees to it.
    """

    AHEAD = 3

    def __init__(self, build, datapath):
        self.build = build
        super().__init__(_members(build, datapath, signed(build.acc_width)) | {
            "valid_ahead": In(1), "first_ahead": In(1), "last_ahead": In(1), "group_ahead": In(range(build.max_groups))})

    def elaborate(self, platform):
        m = Module()
        width = self.build.acc_width
        m.submodules.memory = memory = Memory(shape=width * self.build.rows, depth=self.build.max_groups, init=[])
        read, write = memory.read_port(), memory.write_port()
        old = Signal(data.ArrayLayout(signed(width), self.build.rows), reset_less=True)
        m.d.comb += [read.addr.eq(self.group_ahead), read.en.eq(1)]
        # Nothing lies between the memory and this register, so that synthesis may take the memory's own.
        fetched = delay(m, read.data, 1, "fetched")
        with m.If(delay(m, self.first_ahead, self.AHEAD - 1, "first")):
            m.d.sync += old.eq(0)
        with m.Else():
            m.d.sync += old.eq(fetched)
        for row in range(self.build.rows):
            m.d.sync += self.result[row].eq(add_sub(old[row], self.value[row], self.sign[row]))
        written = delay(m, self.valid_ahead, self.AHEAD + 1, "written", reset_less=False)
        last = delay(m, self.last_ahead, self.AHEAD + 1, "last")
        m.d.comb += [
            write.addr.eq(delay(m, self.group_ahead, self.AHEAD + 1, "group")), write.en.eq(written),
            write.data.eq(Cat(*self.result)), self.result_valid.eq(written & last),
        ]
        return m
