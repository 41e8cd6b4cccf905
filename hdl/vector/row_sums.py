"""Exact sums of a row and of its squares, in the order it comes."""

from amaranth.hdl import Const, Module, Mux, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.vector_cycles import MULTIPLY_LATENCY, sums_latency
from ..common.adder_tree import Node, adder_tree
from ..common.delay import delay
from .multiply import multiply

__all__ = ["RowSums"]


class RowSums(Component):
    """S1, the sum of x, and S2, the sum of x**2, over the beats of a row.

    *Members*: ``x`` with ``put``, ``first``, ``last`` in; ``total``, ``squares`` with ``known`` out.
    *Latency*: ``sums_latency(build)`` cycles from a row's last beat. *Limits*: rows of max_k elements of ``element_width`` bits.
    """

    def __init__(self, build):
        self.build, self.latency = build, sums_latency(build)
        super().__init__({
            "x": In(data.ArrayLayout(signed(build.element_width), build.lanes)), "put": In(1), "first": In(1), "last": In(1),
            "total": Out(signed(build.sum_width)), "squares": Out(build.square_width), "known": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, peak = self.build, 1 << self.build.element_width - 1
        values, squares = [], []
        for lane in range(build.lanes):
            x = self.x[lane]
            values.append(Node(delay(m, x, MULTIPLY_LATENCY, f"x_{lane}"), Const(0), -peak, peak - 1))
            squares.append(Node(multiply(m, x, x, f"square_{lane}"), Const(0), 0, peak**2))
        value, levels = adder_tree(m, values, "sum")
        square, _ = adder_tree(m, squares, "squares")
        wait = MULTIPLY_LATENCY + levels
        put, last = (delay(m, part, wait, name, reset_less=False) for part, name in ((self.put, "put"), (self.last, "last")))
        first = delay(m, self.first, wait, "first")
        m.d.sync += self.known.eq(put & last)
        # Rows have at most max_k elements: sums stay within what ``build`` proves.
        total, squared = Mux(first, 0, self.total) + value.value, Mux(first, 0, self.squares) + square.value
        with m.If(put):
            m.d.sync += [self.total.eq(total[: build.sum_width].as_signed()), self.squares.eq(squared[: build.square_width])]
        return m
