"""AWQ's GEMM layout: 4 bits, codes and zero points packed along the *output*, eight to an int32, in an order of its own.

``qweight`` int32 ``[k, n/8]``, ``qzeros`` int32 ``[groups, n/8]``, ``scales`` float16 ``[groups, n]``; nibble i of word c is
output 8c + (0, 2, 4, 6, 1, 3, 5, 7)[i]. w[n, k] = (code - zero) * scale; the zero is stored as it is.
"""

import numpy as np

from .bit_stream import unpack_bits

__all__ = ["BITS", "LANES", "unpack"]

BITS = 4
LANES = 8
NIBBLE_OF = [0, 4, 1, 5, 2, 6, 3, 7]  # the nibble that holds output 0, 1, ... of a word


def unpack(words):
    """uint8 ``[n, rows]`` of ``words`` int32 ``[rows, n/8]``: codes ``[n, k]`` of qweight, zeros ``[n, groups]`` of qzeros."""
    rows, count = words.shape
    data = np.ascontiguousarray(words, "<i4").view(np.uint8)
    lanes = unpack_bits(data, BITS, count * LANES).reshape(rows, count, LANES)
    return np.ascontiguousarray(lanes[..., NIBBLE_OF].reshape(rows, -1).T)
