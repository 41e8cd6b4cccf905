"""What every ternary format shares: the checks on unpacked weights, on shapes and on stored bytes.

A trit is an int8 of -1, 0 or +1; a matrix of them is ``[n, k]``: n output features (rows), k inputs. The stored code of a trit
is ``trit + 1`` in every format here.
"""

import numpy as np

from ..spec.errors import InputError, check_int

__all__ = ["as_bytes", "check_shape", "check_trits", "reject_bytes", "reject_code_3"]

MAX_DIM = 1 << 32


def check_trits(trits):
    """``trits`` if it is an int8 array ``[n, k]`` of -1, 0 and +1; TypeError for another dtype, ValueError for the rest."""
    if not isinstance(trits, np.ndarray) or trits.dtype != np.int8:
        raise TypeError(f"trits must be an int8 array, got {getattr(trits, 'dtype', type(trits).__name__)}")
    if trits.ndim != 2 or not trits.size:
        raise ValueError(f"trits must be a matrix [n, k] that is not empty, got shape {trits.shape}")
    if trits.min() < -1 or trits.max() > 1:
        raise ValueError(f"trits must be -1, 0 or +1, got values from {trits.min()} to {trits.max()}")
    return trits


def check_shape(shape):
    """``(n, k)`` as plain ints of at least 1; TypeError or ValueError otherwise."""
    n, k = shape
    return check_int("n", n, 1, MAX_DIM), check_int("k", k, 1, MAX_DIM)


def as_bytes(data, count, where):
    """``data`` (bytes-like or uint8 array) as a flat uint8 array without a copy; InputError unless it has ``count`` bytes."""
    if not isinstance(data, np.ndarray):
        data = np.frombuffer(data, np.uint8)
    if data.dtype != np.uint8:
        raise TypeError(f"data must be uint8, got {data.dtype}")
    if data.size != count:
        raise InputError(where, "data", f"have {count} bytes for its shape", data.size)
    return data.reshape(-1)


def reject_bytes(bad, data, where, rule, name):
    """InputError for the first byte of ``data`` where ``bad`` (same shape) is not 0; ``name(*index)`` says which field it is."""
    if bad.any():
        index = tuple(int(i) for i in np.unravel_index(np.flatnonzero(bad)[0], bad.shape))
        raise InputError(where, name(*index), rule, f"0x{int(data[index]):02x}")


def reject_code_3(data, where, name):
    """InputError for the first byte of ``data`` with a 2-bit code of 3, which no trit has; ``name`` as above."""
    reject_bytes(data & (data >> 1) & 0x55, data, where, "hold the 2-bit codes 0, 1 and 2 only", name)
