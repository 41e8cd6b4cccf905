"""Straight lines between the values of a table."""

from amaranth.hdl import Cat, Const, Module, Signal, signed
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.functions import INTERPOLATE_LATENCY
from ..common.delay import delay
from ..common.fit import fit

__all__ = ["Interpolate"]


class Interpolate(Component):
    """y of a :class:`~sparseloom.models.spec.functions.Table` at u.

    *Parameters*: ``table``. *Members*: ``i`` u, below the table's reach (beyond it the answer means nothing); ``o`` y, unsigned.
    *Latency*: ``latency`` cycles: read, output register of the memory, product, sum. *Handshake*: none, a value a cycle.
    *Limits*: one memory of ``entries`` words of value and difference; one multiplier of difference x step.
    """

    latency = INTERPOLATE_LATENCY

    def __init__(self, table):
        self.table = table
        super().__init__({"i": In((table.reach - 1).bit_length()), "o": Out(table.value_width)})

    def elaborate(self, platform):
        m = Module()
        table, step = self.table, self.table.step_bits
        words = [value | (delta & ((1 << table.delta_width) - 1)) << table.value_width
                 for value, delta in zip(table.values, table.deltas, strict=False)]
        # A read beyond the last entry happens only for arguments that the table does not answer.
        depth = 1 << (table.entries - 1).bit_length()
        m.submodules.memory = memory = Memory(
            shape=table.value_width + table.delta_width, depth=depth, init=[*words, *[words[-1]] * (depth - len(words))])
        read = memory.read_port()
        m.d.comb += read.addr.eq(self.i[step:])
        word = delay(m, read.data, 1, "word")
        value, delta = word[: len(self.o)], word[len(self.o):].as_signed()
        product = Signal(signed(table.delta_width + step + 1), reset_less=True)
        start = Signal(table.value_width + step, reset_less=True)
        # Half a step is added with the value, so that the sum is one carry chain (the third input of a DSP's adder).
        m.d.sync += [fit(product, delta * delay(m, self.i[:step], 2, "along")), start.eq(Cat(Const(1 << step - 1, step), value))]
        total = Signal(signed(len(start) + 2), reset_less=True)
        m.d.sync += fit(total, start + product)
        # Between two values of the table there is nothing larger than they are, nor below 0.
        m.d.comb += self.o.eq(total[step : step + len(self.o)])
        return m
