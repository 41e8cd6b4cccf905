"""Weights without a sum: the sigmoid of a score and a bias."""

from amaranth.hdl import Module, Mux, Signal, signed

from ...models.spec.attention_job import SCORE_BITS
from ...models.spec.functions import SIGMOID_LATENCY
from ..common.delay import delay
from ..common.fit import fit
from ..vector.sigmoid import Sigmoid
from .weights import Weights

__all__ = ["SigmoidWeights"]


class SigmoidWeights(Weights):
    """e = sigmoid(t + bias)."""

    def elaborate(self, platform):
        m = Module()
        m.submodules.sigmoid = sigmoid = Sigmoid(SCORE_BITS + 1)
        x = Signal(signed(SCORE_BITS + 1), reset_less=True)
        m.d.sync += fit(x, self.t + self.job.bias)
        m.d.comb += fit(sigmoid.i, x)
        wait = 1 + SIGMOID_LATENCY
        e = Mux(delay(m, self.seen, wait, "seen"), sigmoid.o, 0)
        self.finish(m, delay(m, self.valid, wait, "valid", reset_less=False), e,
                    delay(m, self.first, wait, "first"), 0, summed=False)
        return m
