"""A group of cascaded DSP slices: a short dot product for one or two tokens, as a systolic chain of multipliers."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.errors import check_choice, check_int
from ..common.delay import delay
from ..common.fit import fit

__all__ = ["MAX_DSPS", "MAX_TOKENS", "OPERAND_BITS", "SUM_BITS", "TARGETS", "DspGroup"]

OPERAND_BITS = 8
MAX_DSPS = 8
MAX_TOKENS = 2
SUM_BITS = 19
"""Signed bits of a sum: 8 x (-128 x -128) is 2**17, one more than 18 signed bits hold."""

TARGETS = ("portable",)
"""What multiplies: any part by inference."""

_PIPELINE = 4  # registers on the way of one product: two before the multiplier, one behind it, the running sum


class DspGroup(Component):
    """A cascade of ``dsps`` multipliers, each of which multiplies one weight with the activations of ``tokens`` tokens.

    *Behaviour*: y[t] = sum over j of x[j][t] * w[j], exact for all operands, a new vector each cycle.
    *Parameters*: ``dsps`` 1..8; ``tokens`` 1 or 2; ``target`` one of :data:`TARGETS`: the same sums in the same cycle.
    *Members*: ``x[j][t]`` signed 8 in; ``w[j]`` signed 8 in; ``y[t]`` signed 19 out.
    *Latency*: operands of position j enter in cycle c + j (the sum runs from one position to the next, a cycle each); ``y`` is
    valid in cycle c + ``latency``, latency = dsps + 4.
    *Handshake*: none. Free-running: no enable, no reset of data; whoever feeds it keeps the valid bit beside it.
    """

    def __init__(self, dsps, tokens, target="portable"):
        self.dsps = check_int("dsps", dsps, 1, MAX_DSPS)
        self.tokens = check_int("tokens", tokens, 1, MAX_TOKENS)
        check_choice("target", target, TARGETS)
        self.target = target
        self.latency = dsps + _PIPELINE
        super().__init__({
            "x": In(data.ArrayLayout(data.ArrayLayout(signed(OPERAND_BITS), tokens), dsps)),
            "w": In(data.ArrayLayout(signed(OPERAND_BITS), dsps)),
            "y": Out(data.ArrayLayout(signed(SUM_BITS), tokens)),
        })

    def elaborate(self, platform):
        m = Module()
        sums = self._portable(m)
        for token, total in enumerate(sums):
            # After the cascade, where a packed sum must be split, one more register.
            result = Signal(signed(SUM_BITS), name=f"y{token}", reset_less=True)
            m.d.sync += fit(result, total)
            m.d.comb += self.y[token].eq(result)
        return m

    def _portable(self, m):
        sums = [0] * self.tokens
        for j in range(self.dsps):
            weight = delay(m, self.w[j], 2, f"w{j}")
            for token in range(self.tokens):
                act = delay(m, self.x[j][token], 2, f"x{j}_{token}")
                product = Signal(signed(2 * OPERAND_BITS), name=f"m{j}_{token}", reset_less=True)
                total = Signal(signed(SUM_BITS), name=f"p{j}_{token}", reset_less=True)
                m.d.sync += [fit(product, act * weight), total.eq(sums[token] + product)]
                sums[token] = total
        return sums
