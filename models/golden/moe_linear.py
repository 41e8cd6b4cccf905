"""Linear layers of int8, dense or with experts, from their definition: exact integers, every rounding half to even."""

import numpy as np

from ..spec.moe_linear_job import SCORE_FRACTION
from .functions import gelu
from .rounding import round_half_even

__all__ = ["draw_operands", "products", "results"]

_INT32 = -(1 << 31), (1 << 31) - 1
_NARROW = -127, 127


def products(x, w):
    """int64 [rows, n]: x [rows, k] times w [n, k], both int8. Float64 is exact: sums stay below 2**53."""
    return np.rint(x.astype(np.float64) @ w.astype(np.float64).T).astype(np.int64)


def results(build, job, operands):
    """``y`` int32 [y_rows, n] (0 for tokens without an expert), ``saturated``: how often a number was clamped."""
    count = _Clamped()
    y = np.zeros((job.y_rows, job.n), np.int64)
    place = 0
    for expert, tokens in enumerate(job.routes if job.queued else (tuple(range(job.m)),)):
        if not tokens:
            continue
        tokens = np.array(tokens)
        places = place + np.arange(len(tokens))
        place += len(tokens)
        z = _layer(job, operands, expert, tokens if job.gather else places, count)
        if not job.use_score:
            y[places if job.queued else tokens] = z
            continue
        scored = round_half_even(z * np.asarray(operands["score"], np.int64)[places, None], SCORE_FRACTION)
        # Clamped after every expert, the first one included: y starts from 0.
        y[tokens] = count.clamp(y[tokens] + scored, _INT32)
    if job.narrow:
        y = count.clamp(round_half_even(y * job.out_multiplier, job.out_shift), _NARROW)
    return {"y": y.astype(np.int32), "saturated": count.number}


def _layer(job, operands, expert, rows, count):
    """int64 [rows, n]: scaled, with bias, clamped, and GELU where the job has it."""
    x_scale, w_scale, bias = (np.asarray(operands[name]).astype(np.int64) for name in ("x_scale", "w_scale", "bias"))
    total = products(operands["x"][rows], operands["w"][expert]) * w_scale[expert] * x_scale[rows, None]
    z = count.clamp(round_half_even(total, job.shift) + bias[expert], _INT32)
    return gelu(z) if job.gelu else z


class _Clamped:
    """Clamps and counts."""

    def __init__(self):
        self.number = 0

    def clamp(self, value, limits):
        limited = np.clip(value, *limits)
        self.number += int((limited != value).sum())
        return limited


def draw_operands(build, job, rng):
    """Random operands, corner values included."""
    shape = (job.experts, job.n)
    operands = {
        "x": rng.integers(-128, 128, (job.x_rows, job.k), dtype=np.int8),
        "x_scale": rng.integers(0, 1 << 16, job.x_rows).astype(np.int32),
        "w": rng.integers(-128, 128, (*shape, job.k), dtype=np.int8),
        "w_scale": rng.integers(0, 1 << 16, shape).astype(np.int32),
        "bias": rng.integers(-(1 << int(rng.integers(4, 32))), 1 << int(rng.integers(4, 32)), shape).astype(np.int32),
    }
    if job.use_score:
        operands["score"] = rng.integers(0, 1 << 15, job.pairs, endpoint=True).astype(np.int32)
    kind = int(rng.integers(5))
    if kind == 0:
        # All products 128 * 128 under the largest scales: the corner of every sum.
        operands["x"][:], operands["w"][:] = -128, rng.choice([-128, 127])
        operands["x_scale"][:] = operands["w_scale"][:] = (1 << 16) - 1
        operands["bias"][:] = rng.choice(_INT32)
        if job.use_score:
            operands["score"][:] = (1 << 16) - 1
    elif kind == 1:
        # Small odd numbers: ties.
        operands["x_scale"][:], operands["w_scale"][:] = 1, rng.integers(1, 4, shape)
    return operands
