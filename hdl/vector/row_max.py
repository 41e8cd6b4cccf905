"""The largest element of a row."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.vector_cycles import tree_levels
from ..common.delay import delay

__all__ = ["RowMax"]

_LEAST = -(1 << 31)


class RowMax(Component):
    """The largest of a row's elements.

    *Members*: ``x`` with ``inside``, ``put``, ``first``, ``last`` in; ``most`` with ``known`` out.
    *Latency*: a cycle for each level of a tree, and one, from a row's last beat.
    """

    def __init__(self, build):
        self.build, self.latency = build, tree_levels(build.lanes) + 1
        super().__init__({
            "x": In(data.ArrayLayout(signed(32), build.lanes)), "inside": In(build.lanes), "put": In(1), "first": In(1),
            "last": In(1), "most": Out(signed(32)), "known": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        values = [Mux(self.inside[lane], self.x[lane], _LEAST) for lane in range(self.build.lanes)]
        level = 0
        while len(values) > 1:
            larger = []
            for at in range(0, len(values), 2):
                value = Signal(signed(32), name=f"most_{level}_{at}", reset_less=True)
                pair = values[at : at + 2]
                m.d.sync += value.eq(Mux(pair[0] > pair[-1], pair[0], pair[-1]))
                larger.append(value)
            values, level = larger, level + 1
        put, last = (delay(m, part, level, name, reset_less=False) for part, name in ((self.put, "put"), (self.last, "last")))
        m.d.sync += self.known.eq(put & last)
        with m.If(put & (delay(m, self.first, level, "first") | (values[0] > self.most))):
            m.d.sync += self.most.eq(values[0])
        return m
