"""A lane of the weight update engine."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.floats import CANONICAL_NAN, MULTIPLY_LATENCY, ONE
from ...models.spec.nm_update_cycles import SUM, Times
from ..common.delay import delay
from .float_add import FloatAdd
from .float_multiply import FloatMultiply
from .round_bf16 import round_bf16

__all__ = ["UpdateLane"]


class UpdateLane(Component):
    """One weight a cycle through both rules: multipliers and adders are shared, Lion has some of its own.

    *Members*: ``w``, ``g``, ``mom`` float32, ``keep``; ``lion`` and ``factors``, stable during a job; ``weight``, ``momentum``
    and ``copy`` out; ``broken``: the new weight is infinite or NaN.
    *Latency*: ``Times(build).weight``. *Handshake*: none. *Limits*: ``copy`` and ``broken`` follow from ``weight`` in the same
    cycle.
    """

    def __init__(self, build):
        self.build, self.times = build, Times(build)
        super().__init__({
            "w": In(32), "g": In(32), "mom": In(32), "keep": In(1), "lion": In(1),
            "factors": In(data.StructLayout(dict.fromkeys(build.factors, 32))),
            "weight": Out(32), "momentum": Out(32), "copy": Out(16), "broken": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, times = self.build, self.times
        decay = self._times(m, "weight_decay", self.w)
        old = delay(m, self._times(m, "old", self.mom), times.fresh - MULTIPLY_LATENCY, "old_late")
        g = delay(m, self.g, MULTIPLY_LATENCY, "g_late")

        # One adder for SGD's decayed gradient and, later, Lion's decayed sign.
        mixed = Signal(32)
        first, second = g, decay
        if build.lion:
            first = Mux(self.lion, self._sign(mixed), g)
            second = Mux(self.lion, delay(m, decay, times.mixed - MULTIPLY_LATENCY, "decay_late"), decay)
        decayed = self._sum(m, "decayed", first, second)
        gradient = Mux(self.lion, delay(m, g, SUM, "g_whole"), decayed) if build.lion else decayed

        if build.pruned:
            shrink = delay(m, self._times(m, "pruned_decay", self.w), SUM, "shrink")
            keep = delay(m, self.keep, times.gradient, "keep_late")
            gradient = Mux(keep, delay(m, gradient, SUM, "gradient_kept"), self._sum(m, "shrunk", gradient, shrink))

        # SGD has a factor of 1 here.
        fresh = self._times(m, "fresh", gradient) if build.lion else gradient
        m.d.comb += mixed.eq(self._sum(m, "mixed", old, fresh))
        step, momentum = mixed, mixed
        if build.lion:
            step = Mux(self.lion, decayed, delay(m, mixed, SUM, "step_sgd"))
            old = delay(m, self._times(m, "old_2", self.mom), times.fresh - MULTIPLY_LATENCY, "old_2_late")
            fresh = self._times(m, "fresh_2", gradient)
            momentum = Mux(self.lion, self._sum(m, "mixed_2", old, fresh), mixed)

        change = self._times(m, "lr", step)
        back = Cat(change[:31], ~change[31])
        m.d.comb += [
            self.weight.eq(self._sum(m, "weight", delay(m, self.w, times.weight - SUM, "w_late"), back)),
            self.momentum.eq(delay(m, momentum, times.weight - times.mixed, "momentum_late")),
            self.copy.eq(round_bf16(self.weight)), self.broken.eq(self.weight[23:31].all()),
        ]
        return m

    def _times(self, m, name, value):
        """``value`` times a factor."""
        m.submodules[f"times_{name}"] = unit = FloatMultiply()
        m.d.comb += [unit.a.eq(self.factors[name]), unit.b.eq(value)]
        return unit.o

    @staticmethod
    def _sum(m, name, a, b):
        """a + b, in a register."""
        m.submodules[f"sum_{name}"] = unit = FloatAdd()
        total = Signal(32, name=f"{name}_sum", reset_less=True)
        m.d.comb += [unit.a.eq(a), unit.b.eq(b)]
        m.d.sync += total.eq(unit.o)
        return total

    @staticmethod
    def _sign(value):
        """-1, +0, 1 or NaN. A NaN that leaves an adder is the canonical one."""
        return Mux(value == CANONICAL_NAN, value, Mux(value[:31].any(), Cat(Const(ONE, 31), value[31]), Const(0, 32)))
