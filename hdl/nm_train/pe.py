"""A processing element: two operands to a product, the product to one of its interleaved sums."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..common.delay import delay
from .float_add import FloatAdd
from .float_product import FloatProduct

__all__ = ["Pe", "ROWS_BITS", "drain_layout", "order_layout", "step_layout", "weight_layout"]

WORD_BITS = 4
SLOT_BITS = 4
ROWS_BITS = 7


def step_layout(build):
    """What moves to the right: a step, and a value of A for the next period.

    ``go``: this is a step, of sum ``slot`` of ``parity``; its value of A lies in ``half``, at ``base`` or'ed with the weight's
    index. It begins a sum: from +0 (``zero``) or with that of the row ``above``. ``entry`` its weight, weight-stationary.
    ``write``: ``value`` goes to ``address`` of the other half.
    """
    return data.StructLayout({
        "go": 1, "slot": SLOT_BITS, "parity": 1, "half": 1, "base": WORD_BITS, "zero": 1, "above": 1,
        "entry": build.entry_bits, "write": 1, "address": WORD_BITS, "value": 16,
    })


def weight_layout(build):
    """What moves down: a weight and its ``index``, for the step that comes from the left in the same cycle, or (``load``) for
    place ``entry`` of row ``row``."""
    return data.StructLayout({
        "value": 16, "index": WORD_BITS, "load": 1, "row": ROWS_BITS, "entry": build.entry_bits,
    })


def order_layout():
    """An order to drain a sum: that of row ``row``, ``slot`` of ``parity``."""
    return data.StructLayout({"valid": 1, "row": ROWS_BITS, "parity": 1, "slot": SLOT_BITS})


def drain_layout():
    """The ``order`` on its way down, from its row on with the ``sum``."""
    return data.StructLayout({"order": order_layout(), "sum": 32})


class Pe(Component):
    """One multiplier of bfloat16, one adder of float32, memories for values of A, weights and sums.

    *Members*: ``step``, ``weight``, ``drain`` in; the same, a cycle later, out with ``_out``; ``ws`` the job's data flow;
    ``above`` the sum of the row above in the cycle of ``ask``, which is its place; ``asked`` that place of the row below, and
    ``sum`` what lies there; ``own`` the row's number.
    *Latency*: a step's sum can be used ``MIN_SLOTS`` cycles after it was used for this step; it may be drained seven cycles
    after the step. *Limits*: ``last`` (bottom row): nobody asks from below, ``sum`` is for the drain alone.
    """

    def __init__(self, build, last):
        self.build, self.last = build, last
        step, weight = step_layout(build), weight_layout(build)
        super().__init__({
            "own": In(ROWS_BITS), "ws": In(1), "step": In(step), "step_out": Out(step), "weight": In(weight),
            "weight_out": Out(weight), "drain": In(drain_layout()), "drain_out": Out(drain_layout()), "ask": Out(SLOT_BITS),
            "above": In(32), "asked": In(SLOT_BITS), "sum": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        build, step, weight = self.build, self.step, self.weight
        m.submodules.values = values = Memory(shape=16, depth=2 << WORD_BITS, init=[])
        m.submodules.weights = weights = Memory(shape=16 + WORD_BITS, depth=1 << build.entry_bits, init=[])
        m.submodules.sums = sums = Memory(shape=32, depth=2 << SLOT_BITS, init=[])
        m.submodules.product, m.submodules.add = product, add = FloatProduct(), FloatAdd()
        self._move(m)
        value_in, value = values.write_port(), values.read_port(domain="comb")
        weight_in, stored = weights.write_port(), weights.read_port(domain="comb")
        moving = Cat(weight.value, weight.index)
        chosen = Signal(16 + WORD_BITS)
        m.d.comb += [
            value_in.addr.eq(Cat(step.address, ~step.half)), value_in.data.eq(step.value), value_in.en.eq(step.write),
            weight_in.addr.eq(weight.entry), weight_in.data.eq(moving), weight_in.en.eq(weight.load & (weight.row == self.own)),
            stored.addr.eq(step.entry), chosen.eq(Mux(self.ws, stored.data, moving)),
            value.addr.eq(Cat(step.base | chosen[16:], step.half)),
        ]
        m.d.sync += [product.a.eq(value.data), product.b.eq(chosen[:16])]
        wait = 1 + FloatProduct.LATENCY
        place = delay(m, Cat(step.slot, step.parity), wait, "place")
        zero, above = (delay(m, step[name], wait, name) for name in ("zero", "above"))
        go = delay(m, step.go, wait, "go", reset_less=False)
        base, put = sums.read_port(domain="comb"), sums.write_port()
        m.d.comb += [
            base.addr.eq(place), self.ask.eq(place[:SLOT_BITS]), add.a.eq(product.o),
            add.b.eq(Mux(zero, Const(0, 32), Mux(above, self.above, base.data))),
            put.addr.eq(delay(m, place, FloatAdd.LATENCY, "put")), put.data.eq(add.o),
            put.en.eq(delay(m, go, FloatAdd.LATENCY, "done", reset_less=False)),
        ]
        taken = sums.read_port(domain="comb")
        order = self.drain.order
        here = Cat(order.slot, order.parity)
        m.d.comb += [taken.addr.eq(here if self.last else Mux(self.ws, self.asked, here)), self.sum.eq(taken.data)]
        with m.If(order.row == self.own):
            m.d.sync += self.drain_out.sum.eq(taken.data)
        with m.Else():
            m.d.sync += self.drain_out.sum.eq(self.drain.sum)
        return m

    def _move(self, m):
        """Everything goes on to the neighbours. Outputs are reset: a few bits more than needed, but no stale step after one."""
        m.d.sync += [self.step_out.eq(self.step), self.weight_out.eq(self.weight), self.drain_out.order.eq(self.drain.order)]
