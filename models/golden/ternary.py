"""Ternary products from their definition: exact integers, named rounding, no tiling."""

import numpy as np

__all__ = ["matmul", "matmul_numpy", "requantise", "statistics"]

try:
    import numba
except ImportError:
    numba = None


def matmul_numpy(x, w):
    """y[m, n] = sum over k of x[m, k] * w[n, k]; x int8 codes, w int8 trits, y int32 (|y| <= 128 k fits for k < 2**24)."""
    return x.astype(np.int32) @ w.astype(np.int32).T


def requantise(acc, multiplier, shift, low=-128, high=127):
    """clamp(round_half_even(acc * multiplier / 2**shift)): (int32 values, number clamped)."""
    product = acc.astype(np.int64) * int(multiplier)
    quotient = product >> shift
    twice_rest = (product - (quotient << shift)) * 2
    one = np.int64(1) << shift
    up = (twice_rest > one) | ((twice_rest == one) & (quotient & 1 == 1))
    rounded = quotient + up
    limited = np.clip(rounded, low, high)
    return limited.astype(np.int32), int((limited != rounded).sum())


def statistics(acc):
    """Per token (row of ``acc`` [m, n]): (largest magnitude int64 [m], sum of squares, Python ints [m])."""
    wide = acc.astype(np.int64)
    squares = wide * wide  # below 2**63 for any int32; their sum may not be, so halves are added up apart
    low, high = (squares & 0xFFFFFFFF).sum(axis=1), (squares >> 32).sum(axis=1)
    total = np.array([(int(top) << 32) + int(rest) for top, rest in zip(high, low, strict=True)], object)
    return np.abs(wide).max(axis=1), total


if numba is None:
    matmul = matmul_numpy
else:
    @numba.njit(cache=True)
    def _matmul(x, w, y):
        for n in range(w.shape[0]):
            for m in range(x.shape[0]):
                total = np.int32(0)
                for k in range(w.shape[1]):
                    total += np.int32(x[m, k]) * np.int32(w[n, k])
                y[m, n] = total

    def matmul(x, w):
        """As :func:`matmul_numpy`, compiled."""
        y = np.empty((x.shape[0], w.shape[0]), np.int32)
        _matmul(np.ascontiguousarray(x), np.ascontiguousarray(w), y)
        return y
