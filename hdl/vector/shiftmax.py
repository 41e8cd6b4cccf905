"""I-ViT's softmax: maximum, exponentials and their sum, quotients; a row memory before each of the last two."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import Component

from ...models.spec.vector_cycles import DIVIDE_BITS, MULTIPLY_LATENCY, memory_depths, tree_levels
from ..common.delay import delay
from .full_over import FullOver
from .multiply import multiply
from .row_max import RowMax
from .row_memory import RowMemory
from .shift_exp import ShiftExp
from .stage import stage_ports

__all__ = ["Shiftmax"]

_EXP_BITS, _FULL = 31, (1 << 31) - 1
_DROPPED = 16
"""Of 32 bits a probability keeps 16."""


class Shiftmax(Component):
    """p = floor(e * floor((2**31 - 1) / S) / 2**16), S = min(sum of e, 2**31 - 1), e = exp(x - max).

    *Members*: :func:`~.stage.stage_ports`. *Latency*: ``spec.vector_cycles``.
    """

    def __init__(self, build):
        self.build = build
        super().__init__(stage_ports(build))

    def elaborate(self, platform):
        m = Module()
        build, job = self.build, self.job
        m.submodules.most = most = RowMax(build)
        depths = memory_depths(build)
        m.submodules.rows = rows = RowMemory(build, signed(32), depths[0], signed(32))
        m.submodules.exps = exps = RowMemory(build, _EXP_BITS, depths[1], DIVIDE_BITS)
        m.d.comb += [
            most.put.eq(self.put), most.first.eq(self.first), most.last.eq(self.last), most.inside.eq(self.inside),
            most.x.eq(self.x), self.room.eq(rows.room), rows.took.eq(self.took), rows.took_last.eq(self.took_last),
            rows.put.eq(self.put), rows.data.eq(self.x), rows.known.eq(most.known), rows.statistic.eq(most.most),
            rows.go.eq(rows.offers & exps.room), exps.took.eq(rows.go), exps.took_last.eq(rows.go & rows.last),
            exps.go.eq(exps.offers & self.credit), self.issued.eq(exps.go),
            *(part.job.eq(job) for part in (rows, exps)), *(part.start.eq(self.start) for part in (rows, exps)),
        ]
        values = []
        for lane in range(build.lanes):
            m.submodules[f"exp_{lane}"] = exp = ShiftExp(build.function)
            t = Signal(signed(33), name=f"t_{lane}", reset_less=True)
            m.d.sync += t.eq(rows.o_statistic - rows.o_data[lane])
            inside = delay(m, ~rows.o_last | (lane < job.tail), 1 + exp.latency, f"inside_{lane}")
            value = Signal(_EXP_BITS, name=f"e_{lane}")
            m.d.comb += [exp.t.eq(t), exp.unit.eq(job.unit), value.eq(Mux(inside, exp.e, 0)), exps.data[lane].eq(value)]
            values.append(value)
        wait = 1 + exp.latency
        put, last = (delay(m, part, wait, name, reset_less=False) for part, name in ((rows.o_put, "put"), (rows.o_last, "last")))
        m.d.comb += exps.put.eq(put)
        self._divide(m, values, put, delay(m, rows.o_first, wait, "first"), last, exps)
        for lane in range(build.lanes):
            # e <= S: the product has 31 bits.
            product = multiply(m, exps.o_data[lane], exps.o_statistic, f"share_{lane}")
            m.d.sync += self.y[lane].eq(product[_DROPPED:_EXP_BITS])
        latency = MULTIPLY_LATENCY + 1
        m.d.comb += [self.y_put.eq(delay(m, exps.o_put, latency, "made", reset_less=False)),
                     self.y_last.eq(delay(m, exps.o_last, latency, "made_last"))]
        return m

    def _divide(self, m, values, put, first, last, exps):
        """Sum of a row's exponentials and what it divides, to ``exps``."""
        levels = tree_levels(self.build.lanes)
        while len(values) > 1:
            sums = []
            for at in range(0, len(values), 2):
                pair = values[at : at + 2]
                total = Signal(len(pair[0]) + 1, name=f"sum_{len(values)}_{at}", reset_less=True)
                m.d.sync += total.eq(pair[0] + pair[1] if len(pair) > 1 else pair[0])
                sums.append(total)
            values = sums
        put, last = (delay(m, part, levels, name, reset_less=False) for part, name in ((put, "sum_put"), (last, "sum_last")))
        total = Signal(_EXP_BITS + (self.build.max_k - 1).bit_length(), reset_less=True)
        first = delay(m, first, levels, "sum_first")
        with m.If(put):
            m.d.sync += total.eq(Mux(first, 0, total) + values[0])
        m.submodules.divide = divide = FullOver()
        limited = Signal(_EXP_BITS, reset_less=True)
        m.d.sync += limited.eq(Mux(total > _FULL, _FULL, total))
        known = delay(m, put & last, 2 + divide.latency, "known", reset_less=False)
        m.d.comb += [divide.i.eq(limited), exps.known.eq(known), exps.statistic.eq(divide.o)]
