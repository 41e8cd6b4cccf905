"""LayerNorm and RMSNorm: sums as the row comes, one reciprocal square root, then the row again."""

from amaranth.hdl import Cat, Const, Module, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component

from ...models.spec.functions import MANTISSA_BITS, RSQRT_LATENCY
from ...models.spec.vector_cycles import MULTIPLY_LATENCY, ROUND_SHIFT_LATENCY, memory_depths, product_latency
from ...models.spec.vector_job import NORM_FRACTION
from ..common.delay import delay
from ..common.fit import fit
from ..common.ports import layout
from .multiply import multiply, wide_product
from .round_shift import RoundShift
from .row_memory import RowMemory
from .row_sums import RowSums
from .rsqrt import Rsqrt
from .stage import stage_ports

__all__ = ["Norm"]

_LEAST_SHIFT = 16
"""The smallest shift of a mantissa."""


class Norm(Component):
    """n = (k * x - S1) * M / 2**(s - 20), v = n * gamma / 2**shift + beta, both rounded half to even; rmsnorm without S1.

    *Members*: :func:`~.stage.stage_ports`. *Latency*: ``spec.vector_cycles``.
    """

    def __init__(self, build):
        self.build, self.centred = build, build.function == "layernorm"
        super().__init__(stage_ports(build))

    def elaborate(self, platform):
        m = Module()
        build, job = self.build, self.job
        m.submodules.sums = sums = RowSums(build)
        count = Signal(build.count_width, reset_less=True)
        m.d.sync += count.eq(((job.beats - 1) * build.lanes + job.tail)[: build.count_width])
        m.d.comb += [sums.put.eq(self.put), sums.first.eq(self.first), sums.last.eq(self.last),
                     *(sums.x[lane].eq(self.x[lane]) for lane in range(build.lanes))]
        m.submodules.rsqrt = rsqrt = Rsqrt(build.variance_width)
        statistic = data.StructLayout({"mantissa": MANTISSA_BITS, "shift": len(rsqrt.o_shift), "total": signed(build.sum_width)})
        m.submodules.rows = rows = RowMemory(build, signed(32), memory_depths(build)[0], statistic, build.read_latency)
        wait = self._variance(m, sums, count, rsqrt)
        weight = self.x_weight
        m.d.comb += [
            rows.job.eq(job), rows.start.eq(self.start), rows.took.eq(self.took), rows.took_last.eq(self.took_last),
            self.room.eq(rows.room), rows.put.eq(self.put), rows.data.eq(self.x),
            rows.known.eq(delay(m, sums.known, wait, "known", reset_less=False)),
            rows.statistic.mantissa.eq(rsqrt.o_mantissa), rows.statistic.shift.eq(rsqrt.o_shift),
            rows.statistic.total.eq(delay(m, sums.total, wait, "total") if self.centred else 0),
            weight.valid.eq(rows.offers & self.credit), weight.addr.eq(rows.beat), rows.go.eq(weight.valid & weight.ready),
            self.stall.eq(weight.valid & ~weight.ready), self.issued.eq(rows.go),
        ]
        latency = [self._lane(m, lane, count, rows) for lane in range(build.lanes)][0]
        m.d.comb += [self.y_put.eq(delay(m, rows.o_put, latency, "made", reset_less=False)),
                     self.y_last.eq(delay(m, rows.o_last, latency, "made_last"))]
        return m

    def _variance(self, m, sums, count, rsqrt):
        """Wire V = k * S2 - S1**2 + eps to ``rsqrt``; cycles from the sums to its answer."""
        build = self.build
        wait = product_latency(build.sum_width if self.centred else build.count_width)
        whole = wide_product(m, sums.squares, count, "whole")
        whole = delay(m, whole, wait - product_latency(build.count_width), "whole")
        mean = wide_product(m, sums.total, sums.total, "mean") if self.centred else Const(0)
        # k * S2 >= S1**2 (Cauchy and Schwarz).
        difference = Signal(len(whole), reset_less=True)
        variance = Signal(build.variance_width, reset_less=True)
        m.d.sync += [difference.eq((whole - mean)[: len(whole)]),
                     variance.eq((difference + self.job.eps)[: build.variance_width])]
        m.d.comb += rsqrt.i.eq(variance)
        return wait + 2 + RSQRT_LATENCY

    def _lane(self, m, lane, count, rows):
        """Cycles from a row's word to the value of its lane."""
        build, word = self.build, rows.o_statistic
        scaled = multiply(m, rows.o_data[lane], count, f"k_x_{lane}")
        centred = Signal(signed(build.sum_width + 1), name=f"centred_{lane}", reset_less=True)
        m.d.sync += fit(centred, scaled[: build.sum_width].as_signed() - delay(m, word.total, MULTIPLY_LATENCY, "total_late"))
        at = MULTIPLY_LATENCY + 1
        mantissa = delay(m, word.mantissa, at, f"mantissa_{lane}")
        product = multiply(m, centred, mantissa, f"normal_{lane}")
        at += MULTIPLY_LATENCY
        most = MANTISSA_BITS + (build.variance_width - 1 >> 1) - _LEAST_SHIFT
        m.submodules[f"normal_{lane}"] = normal = RoundShift(len(product) + NORM_FRACTION - _LEAST_SHIFT, most)
        m.d.comb += [fit(normal.value, Cat(Const(0, NORM_FRACTION - _LEAST_SHIFT), product).as_signed()),
                     # A mantissa of 0 has no shift.
                     normal.shift.eq(delay(m, (word.shift - _LEAST_SHIFT)[: len(normal.shift)], at, f"places_{lane}"))]
        at += ROUND_SHIFT_LATENCY
        n = normal.y[: build.normal_peak.bit_length() + 1].as_signed()
        weights = self._weights()
        gamma = weights.gamma[lane] if build.lanes > 1 else weights.gamma
        beta = weights.beta[lane] if build.lanes > 1 else weights.beta
        product = multiply(m, n, delay(m, gamma, at, f"gamma_{lane}"), f"weighted_{lane}")[:-1].as_signed()
        m.submodules[f"weighted_{lane}"] = weighted = RoundShift(len(product), (1 << len(self.job.shift)) - 1)
        m.d.comb += [weighted.value.eq(product), weighted.shift.eq(self.job.shift)]
        at += MULTIPLY_LATENCY + ROUND_SHIFT_LATENCY
        value = Signal(signed(build.value_width), name=f"value_{lane}", reset_less=True)
        m.d.sync += fit(value, weighted.y + delay(m, beta, at, f"beta_{lane}"))
        m.d.comb += self.y[lane].eq(value)
        return at + 1

    def _weights(self):
        """The buffer's word."""
        return data.View(layout(self.build.weight_record), self.x_weight.data)
