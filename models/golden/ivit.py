"""I-ViT's integer operators (arXiv 2207.01405) as its PyTorch code has them, in exact integers, over the last axis.

PyTorch carries these integers in float32, which rounds those above 2**24; the TVM code of the same authors differs from both (see
``docs/vector.md``). Divisions round down.
"""

import numpy as np

__all__ = ["FULL", "ROOT_START", "ROOT_STEPS", "ilayernorm", "integer_root", "shift_exp", "shiftgelu", "shiftmax"]

FULL = (1 << 31) - 1
ROOT_START, ROOT_STEPS = 1 << 16, 10
_MOST_DOUBLINGS = 8
"""From exp(8 * unit) on, a positive argument gives 2**31 or more for any unit below 2**8 with 23 fraction bits."""


def shift_exp(x, unit, steps):
    """int64: exp(x / unit) with ``steps`` fraction bits more than ``unit`` has, at most 2**31 - 1.

    xp = x + floor(x / 2) - floor(x / 16), not below -``steps`` * unit; q = floor(-xp / unit); r = xp + q * unit in (-unit, 0];
    floor((r / 2 + unit) * 2**(steps - q)). ``x`` int64, negative or 0; if positive, q is negative and the formula the same.
    """
    x = np.asarray(x, np.int64)
    xp = np.clip(x + (x >> 1) - (x >> 4), -steps * unit, _MOST_DOUBLINGS * unit)
    q = -xp // unit
    r = xp + q * unit
    return np.minimum(((r + 2 * unit) << (steps - q)) >> 1, FULL)


def shiftmax(x, unit):
    """int64: 16-bit softmax, 1.0 = 2**15, of integers with scale 1 / ``unit``."""
    x = np.asarray(x, np.int64)
    e = shift_exp(x - x.max(axis=-1, keepdims=True), unit, 15)
    total = np.minimum(e.sum(axis=-1, keepdims=True), FULL)
    return e * (FULL // total) >> 16


def shiftgelu(x, unit):
    """int64: x * sigmoid(1.702 * x), scale that of x times 2**-7; ``unit`` = 1 / (1.702 * scale of x), rounded up.

    Where all of a row is negative, exp(-max) has a positive argument; the formula of :func:`shift_exp` holds there too.
    """
    x = np.asarray(x, np.int64)
    most = x.max(axis=-1, keepdims=True)
    e = shift_exp(x - most, unit, 23)
    total = np.minimum(e + shift_exp(-most, unit, 23), FULL)
    return x * (e * (FULL // total) >> 24)


def integer_root(square):
    """int64: about sqrt(``square``) by exactly ten steps k = floor((k + floor(square / k)) / 2) from 2**16.

    floor(sqrt(square)) for all that is larger than 183,183; of what is smaller, 51,100 have not converged.
    """
    square = np.asarray(square, np.int64)
    k = np.full(square.shape, ROOT_START, np.int64)
    for _ in range(ROOT_STEPS):
        k = (k + square // k) >> 1
    return k


def ilayernorm(x, bias):
    """int64: floor(y * floor((2**31 - 1) / root(sum of y**2)) / 2) + bias, y = x - round_half_even(mean).

    ``bias`` is floor((beta / gamma) / s'), s' = sqrt(C) / 2**30; the output's scale is s' * gamma.
    """
    x = np.asarray(x, np.int64)
    count = x.shape[-1]
    total = x.sum(axis=-1, keepdims=True)
    mean, rest = total // count, total % count
    mean += (2 * rest > count) | ((2 * rest == count) & (mean & 1 == 1))
    y = x - mean
    factor = FULL // integer_root((y * y).sum(axis=-1, keepdims=True))
    return (y * factor >> 1) + np.asarray(bias, np.int64)
