"""Elementary functions on integer arrays, from the definitions in ``models.spec.functions``: exact, no floats."""

import numpy as np

from ..spec import functions as spec

__all__ = ["exp2_neg", "gelu", "interpolate", "reciprocal", "rsqrt", "sigmoid", "silu"]


def interpolate(table, u):
    """int64 like ``u``, unsigned and below ``table.reach``."""
    u = np.asarray(u, np.int64)
    values = np.asarray(table.values, np.int64)
    i, f = u >> table.step_bits, u & ((1 << table.step_bits) - 1)
    return values[i] + (((values[i + 1] - values[i]) * f + (1 << (table.step_bits - 1))) >> table.step_bits)


def exp2_neg(u):
    """2**-(u / 2**10) with 1.0 = 2**15; ``u`` >= 0 of any size."""
    u = np.asarray(u, np.int64)
    whole = np.minimum(u >> spec.EXP_FRACTION, spec.EXP_REACH)
    fine = interpolate(spec.EXP2, u & ((1 << spec.EXP_FRACTION) - 1))
    shift = whole + spec.EXP_GUARD
    return np.where(whole < spec.EXP_REACH, (fine + (np.int64(1) << (shift - 1))) >> shift, 0)


def sigmoid(x):
    """1 / (1 + e**-x) with 1.0 = 2**15; ``x`` has 12 fraction bits."""
    x = np.asarray(x, np.int64)
    size, half = np.abs(x), 1 << (spec.SIGMOID_GUARD - 1)
    inside = size < spec.SIGMOID.reach
    fine = (interpolate(spec.SIGMOID, np.where(inside, size, 0)) + half) >> spec.SIGMOID_GUARD
    y = np.where(inside, fine, spec.EXP_ONE)
    return np.where(x < 0, spec.EXP_ONE - y, y)


def gelu(x):
    """x * Phi(x), erf form; ``x`` and the result have 16 fraction bits."""
    return _rectified(spec.GELU, x)


def silu(x):
    """x * sigmoid(x); ``x`` and the result have 16 fraction bits."""
    return _rectified(spec.SILU, x)


def _rectified(table, x):
    x = np.asarray(x, np.int64)
    size = np.abs(x)
    inside = size < table.reach
    delta = (interpolate(table, np.where(inside, size, 0)) + (1 << (spec.RECTIFIED_GUARD - 1))) >> spec.RECTIFIED_GUARD
    return np.maximum(x, 0) - np.where(inside, delta, 0)


def reciprocal(x):
    """(mantissa, shift) int64 with 1 / x ~ mantissa * 2**-shift; ``x`` >= 0, int64 or Python integers of any size (object)."""
    p, u = _normalise(x)
    return _mantissa(interpolate(spec.RECIPROCAL, u), p, p)


def rsqrt(x):
    """(mantissa, shift) int64 with 1 / sqrt(x) ~ mantissa * 2**-shift; ``x`` as for :func:`reciprocal`."""
    p, u = _normalise(x)
    odd = (p & 1) << spec.NORMAL_BITS
    return _mantissa(interpolate(spec.RSQRT, u + np.where(p < 0, 0, odd)), p, p >> 1)


def _normalise(x):
    """(place of the leading one, -1 of 0; the ``NORMAL_BITS`` places below it)."""
    x = np.asarray(x)
    if x.dtype == object:
        places = [int(value).bit_length() - 1 for value in x.flat]
        u = [(int(value) << spec.NORMAL_BITS) >> max(place, 0) for value, place in zip(x.flat, places, strict=True)]
        p, u = (np.array(part, np.int64).reshape(x.shape) for part in (places, u))
        return p, np.where(p < 0, 0, u - (1 << spec.NORMAL_BITS))
    x = x.astype(np.int64)
    p = np.full(x.shape, -1, np.int64)
    for place in range(63):
        p += (x >> place) > 0
    u = np.where(p >= spec.NORMAL_BITS, x >> np.maximum(p - spec.NORMAL_BITS, 0), x << np.clip(spec.NORMAL_BITS - p, 0, 20))
    return p, np.where(p < 0, 0, u - (1 << spec.NORMAL_BITS))


def _mantissa(fine, p, power):
    mantissa = (fine + (1 << (spec.MANTISSA_GUARD - 1))) >> spec.MANTISSA_GUARD
    full = mantissa >> spec.MANTISSA_BITS
    some = p >= 0
    return np.where(some, mantissa >> full, 0), np.where(some, spec.MANTISSA_BITS + power - full, 0)
