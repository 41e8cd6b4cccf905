"""The vector engine's functions from their definitions: exact integers, every rounding named."""

import numpy as np

from ..spec.vector_job import ELEMENTWISE, ILAYERNORM_BITS, NORM_FRACTION, NORMS, POWER_FRACTION
from . import functions, ivit
from .rounding import round_half_even

__all__ = ["draw_operands", "normalised", "results"]

INT32 = -(1 << 31), (1 << 31) - 1
INT8 = -128, 127


def results(build, job, operands):
    """``y`` int32 [m, k] and ``saturated``: clamped arguments (elementwise, ilayernorm) and clamped results."""
    x = operands["x"].astype(np.int64)
    value, saturated = _value(build, job, x, operands)
    rounded = round_half_even(value * job.out_multiplier, job.out_shift)
    y, over = _clamp(rounded, *(INT8 if job.narrow else INT32))
    return {"y": y.astype(np.int32), "saturated": saturated + over}


def _value(build, job, x, operands):
    """(v, clamped arguments)."""
    function = build.function
    if function in ELEMENTWISE:
        t, over = _clamp(round_half_even(x * job.in_multiplier, job.in_shift), *INT32)
        return _ELEMENTWISE[function](t), over
    if function in NORMS:
        n = normalised(x, job.eps, centred=function == "layernorm")
        return round_half_even(n * operands["gamma"].astype(np.int64), job.shift) + operands["beta"], 0
    if function == "ilayernorm":
        top = 1 << ILAYERNORM_BITS - 1
        x, over = _clamp(x, -top, top - 1)
        return ivit.ilayernorm(x, operands["beta"]), over
    return {"shiftmax": ivit.shiftmax, "shiftgelu": ivit.shiftgelu}[function](x, job.unit), 0


def normalised(x, eps, *, centred):
    """int64 like ``x`` int64 [m, k]: (x - mean) / sqrt(variance + eps / k**2), ``centred``, or x / sqrt(mean of squares + ...).

    20 fraction bits, rounded half to even from the mantissa of rsqrt.
    """
    k = x.shape[1]
    # Sums of products of 64 bits and more: Python integers, one of each a row.
    first = [sum(row) if centred else 0 for row in x.tolist()]
    squares = [sum(value * value for value in row) for row in x.tolist()]
    variance = np.array([k * s2 - s1 * s1 + int(eps) for s1, s2 in zip(first, squares, strict=True)], object)
    mantissa, shift = functions.rsqrt(variance)
    c = k * x - np.array(first, np.int64)[:, None]
    product = c.astype(object) * mantissa[:, None].astype(object)
    # The shift is at least 16: four bits more than the fraction needs.
    return round_half_even(product << NORM_FRACTION, shift[:, None]).astype(np.int64)


def _power(function):
    def value(t):
        mantissa, shift = function(np.maximum(t, 0))
        # At most 2**30, as mantissa 2**16 and shift 16.
        return round_half_even(mantissa << POWER_FRACTION, shift)
    return value


_ELEMENTWISE = {
    "gelu": functions.gelu, "silu": functions.silu, "sigmoid": functions.sigmoid,
    "exp2": lambda t: functions.exp2_neg(-np.minimum(t, 0)),
    "reciprocal": _power(functions.reciprocal), "rsqrt": _power(functions.rsqrt),
}


def _clamp(value, low, high):
    """(value within ``low``..``high``, how many were not)."""
    limited = np.clip(value, low, high)
    return limited, int((limited != value).sum())


def draw_operands(build, job, rng):
    """Random operands: rows of all magnitudes, constant rows, rows at the corners."""
    x = rng.integers(-(1 << 31), 1 << 31, (job.m, job.k)) >> rng.integers(0, 31, (job.m, 1))
    for row in x:
        kind = int(rng.integers(8))
        if kind == 0:
            row[:] = row[0]
        elif kind == 1:
            row[:] = rng.choice([-(1 << 31), (1 << 31) - 1], job.k)
        elif kind == 2:
            row[:] = -np.abs(row) - (row > -(1 << 31))
        elif kind == 3:
            row[:] = 0
            row[int(rng.integers(job.k))] = rng.choice([1, -1, 127, -(1 << 31)])
        elif kind == 4:
            row[:] = row >> 24
    operands = {"x": np.clip(x, *INT32).astype(np.int32)}
    if build.weighted:
        operands["beta"] = (rng.integers(-(1 << 31), 1 << 31, job.k) >> int(rng.integers(0, 31))).astype(np.int32)
    if build.function in NORMS:
        operands["gamma"] = rng.integers(-(1 << 15), 1 << 15, job.k).astype(np.int16)
        if rng.integers(4) == 0:
            operands["gamma"][:] = -(1 << 15)
    return operands
