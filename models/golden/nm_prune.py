"""N:M pruning from its definition: the ``nnz`` largest magnitudes of each group, rounded to bfloat16, and which they were.

Magnitudes are compared as the 31 lower bits of a float32, so that +0 equals -0 and infinity is the largest. A NaN has magnitude 0:
it is kept only where nothing but zeros behind it is left, or the pattern is dense. Of equal magnitudes the lower index comes
first. Weights beyond k are +0 and come behind all real ones, as their indices are the highest.
"""

import numpy as np

from ..formats.bf16 import to_bf16
from ..spec.nm_pattern import check_pattern, groups_of

__all__ = ["keep_mask", "magnitudes", "prune"]

_MAGNITUDE, _INFINITY = 0x7FFFFFFF, 0x7F800000


def magnitudes(w):
    """int64 of the shape of ``w`` float32: what is compared, monotone in abs(w); 0 for every NaN."""
    codes = np.ascontiguousarray(w).view(np.uint32).astype(np.int64) & _MAGNITUDE
    return np.where(codes > _INFINITY, 0, codes)


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
