"""Mean, sum of squares, ten steps of a square root and its reciprocal: I-LayerNorm's row, one at a time, on one divider."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.vector_job import ILAYERNORM_BITS
from .multiply import multiply

__all__ = ["Root"]

_STEPS, _START_BIT, _FULL = 10, 16, (1 << 31) - 1


class Root(Component):
    """mean = round_half_even(S1 / k); V = S2 - 2 * mean * S1 + k * mean**2; root by ten steps from 2**16;
    factor = floor((2**31 - 1) / root).

    *Members*: ``i`` stream of a row's sums; ``count`` k, as it is for a whole job; ``known`` with ``mean``, ``factor`` out.
    *Latency*: ``root_cycles(build)`` from the offer to ``known``, in which the sums are taken; the next row's may
    be offered a cycle later. Each of the twelve divisions takes ``divide_width`` + 2 cycles, one bit of the quotient each.
    """

    def __init__(self, build):
        self.build = build
        sums = data.StructLayout({"total": signed(build.sum_width), "squares": build.square_width})
        super().__init__({
            "i": In(stream.Signature(sums)), "count": In(build.count_width), "known": Out(1),
            "mean": Out(signed(ILAYERNORM_BITS)), "factor": Out(31),
        })

    def elaborate(self, platform):
        m = Module()
        sums, width = self.i.payload, self.build.divide_width
        # The root is at most max(2**16, V / 2**16) and its like.
        self.root = root = Signal(max(18, width - 14), reset_less=True)
        self.dividend, self.divisor = Signal(width, reset_less=True), Signal(len(root), reset_less=True)
        self.rest, self.bits = Signal(len(root), reset_less=True), Signal(range(width + 1), reset_less=True)
        variance = Signal(width, reset_less=True)
        left = Signal(range(_STEPS + 1), reset_less=True)
        self._products(m, sums, variance)
        magnitude = Mux(sums.total < 0, -sums.total, sums.total)
        odd, twice = self.dividend[0], self.rest << 1
        rounded = self.dividend + ((twice > self.count) | ((twice == self.count) & odd))
        following = ((root + self.dividend) >> 1)[: len(root)]
        m.d.comb += self.known.eq(0)
        with m.FSM():
            with m.State("idle"):
                m.d.sync += left.eq(_STEPS)
                with m.If(self.i.valid):
                    m.d.sync += self._load(magnitude, self.count)
                    m.next = "mean"
            with m.State("mean"):
                with m.If(self._divided(m)):
                    m.next = "centre"
            with m.State("centre"):
                m.d.sync += [self.mean.eq(Mux(sums.total < 0, -rounded, rounded)[:ILAYERNORM_BITS]), self.bits.eq(self._WAIT)]
                m.next = "square"
            with m.State("square"):
                m.d.sync += [self.bits.eq(self.bits - 1), root.eq(1 << _START_BIT)]
                with m.If(self.bits == 0):
                    m.d.sync += self._load(variance, root)
                    m.next = "root"
            with m.State("root"):
                with m.If(self._divided(m)):
                    m.next = "step"
            with m.State("step"):
                m.d.sync += [root.eq(following), left.eq(left - 1), *self._load(Mux(left == 1, _FULL, variance), following)]
                m.next = "root"
                with m.If(left == 0):
                    m.d.comb += [self.known.eq(1), self.i.ready.eq(1)]
                    m.next = "idle"
        m.d.comb += self.factor.eq(self.dividend)
        return m

    _WAIT = 6
    """Cycles from the mean to the sum of squares."""

    def _products(self, m, sums, variance):
        """variance = S2 - mean * (2 * S1 - k * mean), ``_WAIT`` cycles after the mean."""
        scaled = multiply(m, self.mean, self.count, "k_mean")
        spread = Signal(signed(self.build.sum_width + 2), reset_less=True)
        m.d.sync += spread.eq(Cat(Const(0, 1), sums.total).as_signed() - scaled)
        product = multiply(m, self.mean, spread, "product")
        m.d.sync += variance.eq((sums.squares - product)[: len(variance)])

    def _load(self, dividend, divisor):
        return [self.dividend.eq(dividend), self.divisor.eq(divisor), self.rest.eq(0), self.bits.eq(self.build.divide_width)]

    def _divided(self, m):
        """A bit of the quotient; high when there is none left, the quotient in ``dividend``."""
        done, wide = Signal(), Signal(len(self.rest) + 1)
        m.d.comb += [done.eq(self.bits == 0), wide.eq(Cat(self.dividend[-1], self.rest))]
        fits = wide >= self.divisor
        with m.If(~done):
            m.d.sync += [
                self.rest.eq(Mux(fits, wide - self.divisor, wide)[: len(self.rest)]),
                self.dividend.eq(Cat(fits, self.dividend)[: len(self.dividend)]), self.bits.eq(self.bits - 1),
            ]
        return done
