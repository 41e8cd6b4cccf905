"""Functions of single elements: rescale, function."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib.wiring import Component

from ...models.spec.functions import function_latency
from ...models.spec.vector_cycles import ALIGN_LATENCY, RESCALE_LATENCY
from ...models.spec.vector_job import POWER_FRACTION
from ..common.delay import delay
from ..common.fit import fit
from .exp2 import Exp2Neg
from .gelu import Gelu
from .reciprocal import Reciprocal
from .rescale import Rescale
from .round_shift import RoundShift
from .rsqrt import Rsqrt
from .sigmoid import Sigmoid
from .silu import Silu
from .stage import stage_ports

__all__ = ["Elementwise"]

_PLAIN = {"gelu": Gelu, "silu": Silu, "sigmoid": Sigmoid}
_POWERS = {"reciprocal": Reciprocal, "rsqrt": Rsqrt}
_ONE_SHIFT = 16
"""The smallest shift of a mantissa: that of 1."""


class Elementwise(Component):
    """A beat a cycle through ``lanes`` pipelines.

    *Members*: :func:`~.stage.stage_ports`. *Latency*: rescale, function and, for reciprocals, ``ALIGN_LATENCY``.
    """

    def __init__(self, build):
        self.build = build
        super().__init__(stage_ports(build))

    def elaborate(self, platform):
        m = Module()
        build, job, function = self.build, self.job, self.build.function
        latency = function_latency(function) + (ALIGN_LATENCY if function in _POWERS else 0)
        over = Signal(build.lanes)
        for lane in range(build.lanes):
            m.submodules[f"rescale_{lane}"] = rescale = Rescale(32, False)
            m.d.comb += [rescale.value.eq(self.x[lane]), rescale.multiplier.eq(job.in_multiplier),
                         rescale.shift.eq(job.in_shift), over[lane].eq(rescale.clamped)]
            m.d.comb += fit(self.y[lane], self._function(m, rescale.y, lane))
        # A row's clear places are 0 and stay in range.
        put = delay(m, self.put, RESCALE_LATENCY, "put", reset_less=False)
        early = Signal.like(self.early)
        m.d.sync += early.eq(Mux(put, sum(over), 0))
        m.d.comb += [
            self.room.eq(self.credit), self.issued.eq(self.took), self.early.eq(early),
            self.y_put.eq(delay(m, put, latency, "made", reset_less=False)),
            self.y_last.eq(delay(m, self.last, RESCALE_LATENCY + latency, "last")),
        ]
        return m

    def _function(self, m, t, lane):
        function = self.build.function
        if function in _PLAIN:
            m.submodules[f"function_{lane}"] = gates = _PLAIN[function]()
            m.d.comb += gates.i.eq(t)
            return gates.o
        if function == "exp2":
            m.submodules[f"function_{lane}"] = gates = Exp2Neg()
            m.d.comb += gates.i.eq(Mux(t[-1], -t, 0))
            return gates.o
        m.submodules[f"function_{lane}"] = gates = _POWERS[function](31)
        m.submodules[f"align_{lane}"] = align = RoundShift(32, 31)
        m.d.comb += [
            gates.i.eq(Mux(t[-1], 0, t[:31])),
            fit(align.value, Cat(Const(0, POWER_FRACTION - _ONE_SHIFT), gates.o_mantissa, Const(0, 1)).as_signed()),
            # A mantissa of 0 has no shift.
            align.shift.eq(gates.o_shift - _ONE_SHIFT),
        ]
        return align.y
