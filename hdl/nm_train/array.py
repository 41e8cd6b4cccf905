"""The systolic array: rows by columns of PEs, skewed by a cycle a row and a column."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from ..common.delay import delay
from .pe import Pe, drain_layout, order_layout, weight_layout
from .row import LAYOUTS, Row, command_layout, words_layout

__all__ = ["Array", "SUMS_AFTER", "command_latency"]

SUMS_AFTER = 3
"""Cycles from a step to the one in which the sum that it begins from must be there."""


def command_latency(build):
    """Cycles from an order to drain a sum to the beat that it leaves in."""
    return build.rows + build.cols - 1


def loads_layout(build):
    """A beat of B for all columns, and where it goes: fields of :func:`~.pe.weight_layout` without the weight."""
    weight = weight_layout(build)
    return data.StructLayout({"values": data.ArrayLayout(16, build.cols), "indices": data.ArrayLayout(4, build.cols),
                              **{name: weight[name].shape for name in ("load", "row", "entry")}})


class Array(Component):
    """*Members*, all for the top row and the first column: ``command`` with ``token``, ``words``, ``weights``
    (:func:`loads_layout`, with their step or load), ``drain`` (:func:`~.pe.order_layout`); ``sums`` for steps of the top row that
    begin from ``above``, :data:`SUMS_AFTER` cycles after the step; ``ws``, ``layout`` of the job. ``beat`` with ``valid``: what
    was drained, :func:`command_latency` cycles after its order.
    """

    def __init__(self, build):
        self.build = build
        super().__init__({
            "command": In(command_layout(build)), "token": In(1), "words": In(words_layout(build)),
            "weights": In(loads_layout(build)), "drain": In(order_layout()), "sums": In(data.ArrayLayout(32, build.cols)),
            "ws": In(1), "layout": In(len(LAYOUTS)), "valid": Out(1), "beat": Out(data.ArrayLayout(32, build.cols)),
        })

    def elaborate(self, platform):
        m = Module()
        build, rows = self.build, []
        for r in range(build.rows):
            m.submodules[f"row_{r}"] = row = Row(build, r)
            before = rows[-1] if rows else None
            m.d.comb += [
                row.command.eq(before.command_out if before else self.command),
                row.words.eq(before.words_out if before else self.words),
                row.token.eq(before.token_out if before else self.token),
                row.layout.eq(self.layout), row.ws.eq(self.ws),
            ]
            rows.append(row)
        left = None
        for j in range(build.cols):
            column = [Pe(build, last=r == build.rows - 1) for r in range(build.rows)]
            weight, drain = Signal(weight_layout(build), name=f"weight_{j}"), Signal(drain_layout(), name=f"drain_{j}")
            there = self.weights
            m.d.comb += [weight.value.eq(delay(m, there.values[j], j, f"value_{j}")),
                         weight.index.eq(delay(m, there.indices[j], j, f"index_{j}")),
                         *(weight[name].eq(delay(m, there[name], j, f"{name}_{j}", reset_less=False))
                           for name in ("load", "row", "entry")),
                         drain.sum.eq(0),
                         drain.order.eq(delay(m, self.drain.as_value(), j, f"drain_{j}", reset_less=False))]
            for r, pe in enumerate(column):
                m.submodules[f"pe_{r}_{j}"] = pe
                top = column[r - 1] if r else None
                m.d.comb += [
                    pe.own.eq(r), pe.ws.eq(self.ws), pe.step.eq(left[r].step_out if left else rows[r].step),
                    pe.weight.eq(top.weight_out if top else weight), pe.drain.eq(top.drain_out if top else drain),
                    pe.above.eq(top.sum if top else delay(m, self.sums[j], j, f"sums_{j}")),
                    pe.asked.eq(0 if pe.last else column[r + 1].ask),
                ]
            out = column[-1].drain_out
            m.d.comb += self.beat[j].eq(delay(m, out.sum, build.cols - 1 - j, f"out_{j}"))
            if j == build.cols - 1:
                m.d.comb += self.valid.eq(out.order.valid)
            left = column
        return m
