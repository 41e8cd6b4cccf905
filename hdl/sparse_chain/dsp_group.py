"""A group of cascaded DSP slices: a short dot product for one or two tokens, as a systolic chain of multipliers."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.errors import check_choice, check_int
from ..common.fit import fit
from .dsp48e2 import dsp48e2_sums
from .dsp_portable import MAX_DSPS, OPERAND_BITS, SUM_BITS, portable_sums
from .mult18x18d import mult18x18d_sums

__all__ = ["MAX_TOKENS", "TARGETS", "DspGroup"]

MAX_TOKENS = 2

TARGETS = ("portable", "dsp48e2", "ecp5")
"""What multiplies: whatever synthesis infers, DSP48E2 slices (UltraScale, UltraScale+), MULT18X18D cells (Lattice ECP5)."""

_PIPELINE = 4  # registers on the way of one product: two before the multiplier, one behind it, the running sum


class DspGroup(Component):
    """A cascade of ``dsps`` multipliers, each of which multiplies one weight with the activations of ``tokens`` tokens.

    *Behaviour*: y[t] = sum over j of x[j][t] * w[j], exact for all operands, a new vector each cycle.
    *Parameters*: ``dsps`` 1..8; ``tokens`` 1 or 2; ``target`` one of :data:`TARGETS`: the same sums in the same cycle. It takes
    ``dsps`` DSP48E2, for one token or two, and elsewhere ``dsps * tokens`` multipliers. Amaranth's own simulator can run
    ``portable`` alone.
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
        sums_of = {"portable": portable_sums, "dsp48e2": dsp48e2_sums, "ecp5": mult18x18d_sums}[self.target]
        sums = sums_of(m, [[self.x[j][token] for token in range(self.tokens)] for j in range(self.dsps)], list(self.w))
        for token, total in enumerate(sums):
            # After the cascade, where a packed sum must be split, one more register.
            result = Signal(signed(SUM_BITS), name=f"y{token}", reset_less=True)
            m.d.sync += fit(result, total)
            m.d.comb += self.y[token].eq(result)
        return m
