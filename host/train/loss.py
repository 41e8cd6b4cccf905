"""Softmax cross-entropy in float64 of float32 logits, in one documented order of operations.

exp is computed here, of additions, multiplications and a power of two alone, so that a gradient has the same bits wherever IEEE
arithmetic has; library versions of exp differ in their last bits from one processor to the next.
"""

from math import factorial

import numpy as np

from ...models.formats.bf16 import to_bf16

__all__ = ["cross_entropy"]

_LN2_HIGH, _LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10
_TERMS = 14


def exp(x):
    """exp(x) of float64 x <= 0, within 1e-15 of it; 0 below -700."""
    low = x < -700
    x = np.maximum(x, -700)
    whole = np.rint(x * 1.4426950408889634)
    rest = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    value = np.full_like(rest, 1 / factorial(_TERMS))
    for power in reversed(range(_TERMS)):
        value = value * rest + 1 / factorial(power)
    return np.where(low, 0.0, np.ldexp(value, np.nan_to_num(whole).astype(np.int32)))


def cross_entropy(logits, labels):
    """(mean loss float64, its gradient bfloat16 [batch, classes], right answers) of float32 ``logits`` and integer ``labels``.

    Sums run over the classes from the first to the last, then over the batch alike; the gradient (softmax - one) / batch is
    rounded to float32 and then to bfloat16. A NaN among the logits makes a NaN loss.
    """
    batch, rows = len(logits), np.arange(len(logits))
    z = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinities: the loss becomes NaN, for the caller to see
        z = z - z.max(axis=1, keepdims=True)
        e = exp(z)
        total = np.add.accumulate(e, axis=1)[:, -1]
        losses = np.log(total) - z[rows, labels]
        gradient = e / total[:, None]
        gradient[rows, labels] -= 1
        gradient = to_bf16((gradient / batch).astype(np.float32))
    right = int((logits.argmax(axis=1) == labels).sum())
    return float(np.add.accumulate(losses)[-1] / batch), gradient, right
