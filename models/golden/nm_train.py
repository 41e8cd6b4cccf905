"""Products of bfloat16 matrices, dense or N:M sparse, from their definition: float32, operation by operation.

Each result begins with +0; each product is rounded to float32 and then added, k ascending. No order is left open, so that gates
of any shape and both data flows must deliver these bits.
"""

from functools import cache

import numpy as np

from ..formats.bf16 import BF16, from_bf16, to_bf16
from ..spec.floats import CANONICAL_NAN
from ..spec.nm_pattern import groups_of

__all__ = ["check_operands", "dense", "draw_operands", "product", "results"]

_ROWS = 512
"""Rows at a time: their sums and a column of A stay in the nearest cache."""


def product(a, values, index, group):
    """float32 [m, n] of ``a`` bfloat16 [m, k] times the operand of ``values`` bfloat16 and ``index`` uint8 [n, groups, nnz].

    ``values[j, g, t]`` stands in column j and row ``g * group + index[j, g, t]``; elements of a group are added in the order of
    t.
    """
    check_operands(a, values, index, group)
    m, k = a.shape
    n, groups, nnz = values.shape
    columns = np.zeros((groups * group, m), np.float32)
    columns[:k] = from_bf16(a).T
    places = (np.arange(groups)[:, None] * group + index).reshape(n, groups * nnz).astype(np.int64)
    weights = from_bf16(values).reshape(n, groups * nnz)
    sums = np.zeros((n, m), np.float32)
    with np.errstate(all="ignore"):
        (_compiled() or _sums)(columns, weights, places, sums)
    y = np.ascontiguousarray(sums.T)
    y.view(np.uint32)[np.isnan(y)] = CANONICAL_NAN
    return y


def dense(b):
    """(values, index, group) of a dense ``b`` bfloat16 [k, n], as :func:`product` takes them."""
    values = np.ascontiguousarray(np.asarray(b).T)[:, :, None]
    return values, np.zeros(values.shape, np.uint8), 1


def check_operands(a, values, index, group):
    """TypeError or ValueError unless the operands of :func:`product` fit together and point into a group."""
    for name, array, kind, dims in (("a", a, BF16, 2), ("values", values, BF16, 3), ("index", index, np.uint8, 3)):
        if not isinstance(array, np.ndarray) or array.dtype != kind or array.ndim != dims:
            raise TypeError(f"{name} must be {np.dtype(kind)} with {dims} axes, got {getattr(array, 'dtype', type(array))} "
                            f"{list(getattr(array, 'shape', ()))}")
    if index.shape != values.shape:
        raise ValueError(f"index must have the shape of values {list(values.shape)}, got {list(index.shape)}")
    groups = groups_of(a.shape[1], group)
    if values.shape[1] != groups:
        raise ValueError(f"values must have {groups} groups of {group} for k = {a.shape[1]}, got {values.shape[1]}")
    if index.size and index.max() >= group:
        raise ValueError(f"index must be less than group ({group}), got {index.max()}")


def _sums(columns, weights, places, sums):
    for at in range(weights.shape[1]):
        sums += columns[places[:, at]] * weights[:, at : at + 1]


@cache
def _compiled():
    """:func:`_sums` compiled, None without numba."""
    try:
        import numba
    except ImportError:
        return None

    # No fastmath: products and sums must not be fused or reordered.
    @numba.njit(cache=True, nogil=True, error_model="numpy")
    def sums_of(columns, weights, places, sums):
        m = columns.shape[1]
        for start in range(0, m, _ROWS):
            end = min(m, start + _ROWS)
            for j in range(len(weights)):
                total = sums[j, start:end]
                for at in range(weights.shape[1]):
                    weight = weights[j, at]
                    column = columns[places[j, at], start:end]
                    for i in range(end - start):
                        total[i] += column[i] * weight

    return sums_of


def results(_build, job, operands):
    """``y`` uint32 [m, n]: bits of :func:`product`, of bfloat16 where the job is ``narrow``."""
    y = product(operands["a"], operands["values"], operands["index"], job.group)
    return {"y": to_bf16(y).view(np.uint16).astype(np.uint32) if job.narrow else y.view(np.uint32), "saturated": 0}


def draw_operands(build, job, rng):
    """Random operands: numbers alike in size, or of every size, or any bits at all, infinities and NaN included."""
    shape = job.n, build.groups(job), job.nnz
    index = np.sort(rng.permuted(np.broadcast_to(np.arange(job.group, dtype=np.uint8), (*shape[:2], job.group)), axis=2)
                    [:, :, : job.nnz], axis=2)
    kind = int(rng.integers(4))
    a, values = (_draw(rng, kind, size) for size in ((job.m, job.k), shape))
    beyond = np.arange(shape[1])[:, None] * job.group + index >= job.k
    values.view(np.uint16)[beyond] = 0
    return {"a": a, "values": values, "index": index}


def _draw(rng, kind, shape):
    if kind == 0:
        return rng.integers(0, 1 << 16, shape, dtype=np.uint16).view(BF16)
    x = rng.standard_normal(shape).astype(np.float32)
    if kind == 1:
        # Of any size: sums that lose one side, products below the smallest and beyond the largest number.
        x = np.ldexp(x, rng.integers(-70, 70, shape)).astype(np.float32)
    x[rng.random(shape) < 0.1] = 0
    return to_bf16(x)
