"""The multipliers of a DSP group as plain products and sums, for whatever multipliers synthesis finds; and a group's limits."""

from amaranth.hdl import Signal, signed

from ..common.delay import delay
from ..common.fit import fit

__all__ = ["MAX_DSPS", "OPERAND_BITS", "SUM_BITS", "portable_sums"]

MAX_DSPS = 8
OPERAND_BITS = 8
SUM_BITS = 19
"""Signed bits of a sum: 8 x (-128 x -128) is 2**17, one more than 18 signed bits hold."""


def portable_sums(m, x, w):
    """The sums, one Value of 19 signed bits a token, of activations ``x[j][token]`` and weights ``w[j]`` that come skewed by j.

    Four registers from the operands of position 0 to its sum (two before the product, one behind it, the sum's own), one more a
    position. The other targets' functions have the same arguments, result and delay.
    """
    sums = [0] * len(x[0])
    for j, (acts, weight) in enumerate(zip(x, w, strict=True)):
        weight = delay(m, weight, 2, f"w{j}")
        for token, act in enumerate(acts):
            product = Signal(signed(2 * OPERAND_BITS), name=f"m{j}_{token}", reset_less=True)
            total = Signal(signed(SUM_BITS), name=f"p{j}_{token}", reset_less=True)
            m.d.sync += [fit(product, delay(m, act, 2, f"x{j}_{token}") * weight), total.eq(sums[token] + product)]
            sums[token] = total
    return sums
