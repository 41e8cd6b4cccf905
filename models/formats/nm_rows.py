"""Rows of N:M sparse codes: what is kept of every ``group`` columns, with the place of each, as the N:M container holds them.

A row has ``nnz`` slots for each group, group after group. The kept columns of a group fill its first slots in rising order, their
places 0..group-1 being the ``indices``; slots that are left over have code 0 and index 0, and how many are in use is in ``kept``.
"""

import numpy as np

from ..spec.errors import InputError

__all__ = ["index_bits", "join", "refuse_above", "split"]


def index_bits(group):
    """Bits of an index into ``group`` columns: ceil(log2(group))."""
    return (group - 1).bit_length()


def split(codes, mask, nnz, group):
    """``(values, indices, kept)`` of ``codes`` uint8 and ``mask`` bool ``[n, k]``: uint8 ``[n, k/group*nnz]`` twice, and uint8
    ``[n, k/group]``. ``mask`` keeps at most ``nnz`` of a group."""
    n, k = codes.shape
    mask = mask.reshape(n, k // group, group)
    places = np.argsort(~mask, axis=2, kind="stable")[..., :nnz].astype(np.uint8)
    kept = mask.sum(axis=2).astype(np.uint8)
    used = np.arange(nnz) < kept[..., None]
    values = np.where(used, np.take_along_axis(codes.reshape(mask.shape), places, axis=2), np.uint8(0))
    return values.reshape(n, -1), np.where(used, places, np.uint8(0)).reshape(n, -1), kept


def join(values, indices, kept, nnz, group, where):
    """``(codes, mask)`` of what :func:`split` returns, ``kept`` None for all slots in use.

    InputError (at ``where``) for an index outside the group, indices that do not rise within a group, more than ``nnz`` kept, and
    a left-over slot that is not 0.
    """
    n = len(values)
    shape = n, values.shape[1] // nnz, nnz
    values, indices = values.reshape(shape), indices.reshape(shape)
    if kept is None:
        kept = np.full(shape[:2], nnz, np.uint8)
    refuse(kept > nnz, kept, where, "kept", f"be at most nnz ({nnz})")
    refuse(indices >= group, indices, where, "index", f"be below group ({group})")
    used = np.arange(nnz) < kept[..., None]
    falls = (indices[..., 1:] <= indices[..., :-1]) & used[..., 1:]
    refuse(falls, indices[..., 1:], where, "indices", "rise within their group, without repetition")
    for name, part in (("code", values), ("index", indices)):
        refuse((part != 0) & ~used, part, where, name, "be 0 in a slot that is left over")
    codes = np.zeros((*shape[:2], group), np.uint8)
    mask = np.zeros(codes.shape, bool)
    row, part, slot = np.nonzero(used)
    place = indices[row, part, slot]
    codes[row, part, place] = values[row, part, slot]
    mask[row, part, place] = True
    return codes.reshape(n, -1), mask.reshape(n, -1)


def refuse_above(numbers, limit, where, name):
    """InputError for the first of ``numbers`` uint8 ``[n, slots]`` that is not below ``limit``."""
    bad = numbers >= limit if limit <= np.iinfo(np.uint8).max else np.zeros(1, bool)
    if bad.any():
        row, slot = (int(i) for i in np.argwhere(bad)[0])
        raise InputError(where, f"{name} {slot} of row {row}", f"be below {limit}", int(numbers[row, slot]))


def refuse(bad, data, where, name, rule):
    """InputError, naming row and group, for the first entry of ``data`` where ``bad``."""
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(where, f"{name} of row {at[0]}, group {at[1]}", rule, int(data[at]))
