"""N:M pruning from its definition: the ``nnz`` largest magnitudes of each group, rounded to bfloat16, and which they were.

Magnitudes are compared as the 31 lower bits of a float32: +0 equals -0, subnormals count, a NaN is above infinity (so that it is
never lost, as with ``torch.topk``). Of equal magnitudes the lower index comes first. Weights beyond k are +0 and come behind all
real ones, as their indices are the highest.
"""

import numpy as np

from ..formats.bf16 import to_bf16
from ..spec.nm_pattern import check_pattern, groups_of

__all__ = ["draw_operands", "keep_mask", "magnitudes", "prune", "results"]

_MAGNITUDE = 0x7FFFFFFF


def magnitudes(w):
    """int64 of the shape of ``w`` float32: what is compared, monotone in abs(w)."""
    return np.ascontiguousarray(w).view(np.uint32).astype(np.int64) & _MAGNITUDE


def prune(w, nnz, group):
    """(``values`` bfloat16, ``index`` uint8), both [n, groups, nnz], of the weights ``w`` float32 [n, k], grouped along k.

    Row j, group g keeps the columns ``g * group + index[j, g]``, ascending; groups = ceil(k / group). TypeError or ValueError for
    another kind of array or no pattern of ``models.spec.nm_pattern.PATTERNS``.
    """
    nnz, group = check_pattern(nnz, group)
    if not isinstance(w, np.ndarray) or w.dtype != np.float32 or w.ndim != 2:
        raise TypeError(f"w must be float32 with 2 axes, got {getattr(w, 'dtype', type(w))} {list(getattr(w, 'shape', ()))}")
    n, k = w.shape
    groups = groups_of(k, group)
    padded = np.zeros((n, groups * group), np.float32)
    # By their bits: a copy of floats may change a NaN.
    padded.view(np.uint32)[:, :k] = np.ascontiguousarray(w).view(np.uint32)
    padded = padded.reshape(n, groups, group)
    # A stable sort keeps the lower index first among equals.
    order = np.argsort(-magnitudes(padded), axis=2, kind="stable")[:, :, :nnz]
    index = np.sort(order, axis=2)
    return to_bf16(np.take_along_axis(padded, index, axis=2)), index.astype(np.uint8)


def keep_mask(index, n, k, group):
    """bool [n, k]: which weights :func:`prune` kept, from its ``index`` uint8 [n, groups, nnz]."""
    groups = groups_of(k, group)
    if index.ndim != 3 or index.shape[:2] != (n, groups):
        raise ValueError(f"index must be [{n}, {groups}, nnz], got {list(index.shape)}")
    if index.size and index.max() >= group:
        raise ValueError(f"index must be less than group ({group}), got {index.max()}")
    mask = np.zeros((n, groups, group), bool)
    np.put_along_axis(mask, index.astype(np.int64), True, axis=2)
    return mask.reshape(n, groups * group)[:, :k]


def results(build, job, operands):
    """``values`` uint16 (bits of bfloat16) and ``index`` uint8 [n, groups, nnz]; ``keep`` uint16 [n, groups]: bit i tells whether
    weight i of the group was kept."""
    values, index = prune(operands["w"], job.nnz, job.group)
    keep = (1 << index.astype(np.int64)).sum(axis=2).astype(np.uint16)
    return {"values": values.view(np.uint16), "index": index, "keep": keep, "saturated": 0}


def draw_operands(build, job, rng):
    """Random weights float32 [n, k] without NaN: gradients' spread, many ties, zeros of both signs, corners, any bits."""
    shape, kind = (job.n, job.k), int(rng.integers(5))
    codes = rng.normal(0, 0.05, shape).astype(np.float32).view(np.uint32)
    if kind == 1:
        codes = rng.choice(np.array([0.5, -0.5, 0.25, 0, -0.0], np.float32), shape).view(np.uint32)
    elif kind == 2:
        codes = rng.choice(np.array(_CORNERS, np.uint32), shape)
    elif kind == 3:
        # Any bits but those of a NaN.
        codes = rng.integers(0, 0x7F800001, shape).astype(np.uint32) | rng.integers(0, 2, shape).astype(np.uint32) << 31
    elif kind == 4:
        # Equal but for the last bits, half of them halfway between two bfloat16.
        codes = rng.integers(0x3F800000, 0x3F800004, shape) + (rng.integers(0, 2, shape) << 15)
    return {"w": codes.astype(np.uint32).view(np.float32)}


_CORNERS = (0, 0x80000000, 1, 0x80000001, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x3F808000,
            0x3F818000, 0x3F7FFFFF)
"""Bits: zeros, subnormals, the largest numbers (which round to infinity), infinities, ties of the rounding, a carry."""
