"""The tensors of a GPTQ layer: codes packed along the input, zero points along the output, both as bit streams in int32 words.

``qweight`` int32 ``[k*bits/32, n]``, ``qzeros`` int32 ``[groups, n*bits/32]``, ``scales`` float ``[groups, n]``, ``g_idx`` int32
``[k]``, the group of each input. w[n, k] = scales[g, n] * (code - zero), g = g_idx[k].

**The zero point comes in two conventions**: version 1 stores zero - 1, version 2 zero itself. A file that says "gptq" may hold
either: :func:`zero_convention` goes by the stored constant where the weights are symmetric, since then the zero is 2**(bits-1).
"""

import numpy as np

from ..spec.errors import InputError, check_choice
from .bit_stream import unpack_bits

__all__ = ["CONVENTIONS", "column_order", "constant_convention", "unpack_codes", "unpack_zeros", "zero_convention", "zeros_of"]

CONVENTIONS = ("v1", "v2")


def unpack_codes(qweight, bits):
    """The codes uint8 ``[n, k]`` of ``qweight`` int32 ``[k*bits/32, n]``."""
    return words_along(qweight.T, bits)


def unpack_zeros(qzeros, bits):
    """The stored zero points uint8 ``[n, groups]`` of ``qzeros`` int32 ``[groups, n*bits/32]``, of either convention."""
    return np.ascontiguousarray(words_along(qzeros, bits).T)


def words_along(words, bits):
    data = np.ascontiguousarray(words, "<i4").view(np.uint8)
    return unpack_bits(data, bits, data.shape[1] * 8 // bits)


def constant_convention(stored, bits):
    """The convention in which all ``stored`` zero points are those of symmetric weights, 2**(bits-1); None if in neither."""
    middle = 1 << (bits - 1)
    for convention, value in (("v1", middle - 1), ("v2", middle)):
        if (stored == value).all():
            return convention
    return None


def zero_convention(stored, bits, label, symmetric, where):
    """The convention, "v1" or "v2", of ``stored`` zero points (uint8), from what they are and else from ``label``, which the
    file says.

    ``symmetric``: True, False or None for unknown. Symmetric weights have one zero, 2**(bits-1), so the constant tells, whatever
    the label. InputError (at ``where``) if they are said to be symmetric and are neither, and if no reading of the label makes
    sense: version 1 cannot store the largest value, since no zero is 2**bits.
    """
    check_choice("label", label, CONVENTIONS)
    middle, top = 1 << (bits - 1), (1 << bits) - 1
    constant = constant_convention(stored, bits)
    if symmetric is not False and constant:
        return constant
    if symmetric:
        value = sorted(set(np.unique(stored).tolist()))[:4]
        rule = f"all be {middle - 1} (version 1) or all {middle} (version 2), since the weights are said to be symmetric"
        raise InputError(where, "stored zero points", rule, value)
    if label == "v1" and int(stored.max()) == top:
        rule = (f"be below {top} in version 1, which stores zero - 1: these are of version 2 under a wrong label, or damaged; "
                "pass gptq_zeros='v2' if you know")
        raise InputError(where, "stored zero points", rule, top)
    return label


def zeros_of(stored, convention, where):
    """The zero points (uint8) of ``stored`` ones; InputError where version 1 stores 255: a zero of 256 is none of 8 bits."""
    if convention == "v2":
        return stored
    if int(stored.max()) == np.iinfo(np.uint8).max:
        raise InputError(where, "stored zero points", "be below 255 in version 1", 255)
    return stored + np.uint8(1)


def column_order(g_idx, groups, group, where):
    """int32 ``[k]``: the columns sorted by group, as they came within one; None if they already lie so.

    InputError (at ``where``) for a group outside 0..groups-1 and unless each has ``group`` columns.
    """
    bad = (g_idx < 0) | (g_idx >= groups)
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise InputError(where, f"g_idx[{at}]", f"be 0..{groups - 1}", int(g_idx[at]))
    counts = np.bincount(g_idx, minlength=groups)
    if (counts != group).any():
        at = int(np.flatnonzero(counts != group)[0])
        raise InputError(where, "g_idx", f"name each group {group} times", f"group {at} {counts[at]} times")
    order = np.argsort(g_idx, kind="stable").astype(np.int32)
    return None if np.array_equal(order, np.arange(len(order))) else order
