"""I-ViT's GELU: x times a sigmoid of exponentials by shifts, which a row's maximum keeps in range."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component

from ...models.spec.vector_cycles import MULTIPLY_LATENCY, memory_depths
from ..common.delay import delay
from ..common.fit import fit
from .full_over import FullOver
from .multiply import multiply
from .row_max import RowMax
from .row_memory import RowMemory
from .shift_exp import ShiftExp
from .stage import stage_ports

__all__ = ["Shiftgelu"]

_EXP_BITS, _FULL = 31, (1 << 31) - 1
_DROPPED = 24
"""Of 32 bits a sigmoid keeps 8."""


class Shiftgelu(Component):
    """x * floor(e * floor((2**31 - 1) / S) / 2**24), S = min(e + exp(-max), 2**31 - 1), e = exp(x - max).

    *Members*: :func:`~.stage.stage_ports`. *Latency*: ``spec.vector_cycles``. *Limits*: a division in each lane.
    """

    def __init__(self, build):
        self.build = build
        super().__init__(stage_ports(build))

    def elaborate(self, platform):
        m = Module()
        build, job = self.build, self.job
        m.submodules.most = most = RowMax(build)
        m.submodules.base = base = ShiftExp(build.function, ahead=True)
        statistic = data.StructLayout({"most": signed(32), "base": _EXP_BITS})
        m.submodules.rows = rows = RowMemory(build, signed(32), memory_depths(build)[0], statistic)
        m.d.comb += [
            most.put.eq(self.put), most.first.eq(self.first), most.last.eq(self.last), most.inside.eq(self.inside),
            most.x.eq(self.x), base.t.eq(most.most), base.unit.eq(job.unit),
            self.room.eq(rows.room), rows.took.eq(self.took), rows.took_last.eq(self.took_last),
            rows.put.eq(self.put), rows.data.eq(self.x), rows.job.eq(job), rows.start.eq(self.start),
            rows.known.eq(delay(m, most.known, base.latency, "known", reset_less=False)),
            rows.statistic.most.eq(delay(m, most.most, base.latency, "most_late")), rows.statistic.base.eq(base.e),
            rows.go.eq(rows.offers & self.credit), self.issued.eq(rows.go),
        ]
        latency = [self._lane(m, lane, rows) for lane in range(build.lanes)][0]
        m.d.comb += [self.y_put.eq(delay(m, rows.o_put, latency, "made", reset_less=False)),
                     self.y_last.eq(delay(m, rows.o_last, latency, "made_last"))]
        return m

    def _lane(self, m, lane, rows):
        """Cycles from a row's word to the value of its lane."""
        x, word = rows.o_data[lane], rows.o_statistic
        m.submodules[f"exp_{lane}"] = exp = ShiftExp(self.build.function)
        t = Signal(signed(33), name=f"t_{lane}", reset_less=True)
        m.d.sync += t.eq(word.most - x)
        m.d.comb += [exp.t.eq(t), exp.unit.eq(self.job.unit)]
        at = 1 + exp.latency
        total, limited = Signal(_EXP_BITS + 1, name=f"total_{lane}", reset_less=True), Signal(_EXP_BITS, name=f"limited_{lane}")
        m.d.sync += [fit(total, exp.e + delay(m, word.base, at, f"base_{lane}")),
                     limited.eq(Mux(total[-1], _FULL, total[:_EXP_BITS]))]
        m.submodules[f"divide_{lane}"] = divide = FullOver()
        m.d.comb += divide.i.eq(limited)
        wait = 2 + divide.latency
        # e <= S: the product has 31 bits.
        product = multiply(m, delay(m, exp.e, wait, f"e_{lane}"), divide.o, f"share_{lane}")
        share = Signal(_EXP_BITS - _DROPPED, name=f"sigmoid_{lane}", reset_less=True)
        m.d.sync += share.eq(product[_DROPPED:_EXP_BITS])
        at += wait + MULTIPLY_LATENCY + 1
        m.d.comb += fit(self.y[lane], multiply(m, delay(m, x, at, f"x_{lane}"), share, f"value_{lane}"))
        return at + MULTIPLY_LATENCY
