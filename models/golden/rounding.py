"""The one rounding of integer arrays, where no engine's own definition says otherwise."""

import numpy as np

__all__ = ["round_half_even"]


def round_half_even(value, shift):
    """value / 2**shift, ties to even; ``shift`` a number or an array. Python integers of any size where ``value`` is of objects,
    else int64 below 2**62."""
    shift = np.asarray(shift, np.int64)
    if np.asarray(value).dtype != object:
        shift = np.minimum(shift, 62)  # of values below 2**61 more places leave the same, 0
    one = value * 0 + 1
    quotient = value >> shift
    rest, half = value - (quotient << shift), (one << shift) >> 1
    return quotient + (((rest > half) | ((rest == half) & (quotient & 1 == 1))) & (shift > 0))
