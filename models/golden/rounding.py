"""The one rounding of integer arrays, where no engine's own definition says otherwise."""

import numpy as np

__all__ = ["round_half_even"]


def round_half_even(value, shift):
    """int64: ``value`` / 2**``shift``, ties to even; ``shift`` 0..62, a number or an array."""
    shift = np.asarray(shift, np.int64)
    quotient = value >> shift
    rest = value - (quotient << shift)
    # Nothing is left over of a shift by 0: half of it is out of reach.
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), np.int64(1) << 62)
    return quotient + ((rest > half) | ((rest == half) & (quotient & 1 == 1)))
