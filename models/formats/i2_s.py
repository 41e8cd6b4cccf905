"""I2_S as bitnet.cpp writes it on x86 (its ACT_PARALLEL build, the default): 2 bits a trit, one float32 scale a tensor.

The tensor is taken flat, in blocks of 128 weights = 32 bytes that run on over the rows: byte p of a block holds the codes of
weights p, p+32, p+64, p+96, the first in bits 7:6, the last in bits 1:0. After the n*k/4 bytes comes a tail of 32 bytes that
begins with the scale; w = scale * trit. On ARM the same program writes blocks of 64 under the same type number: **another layout,
which the file does not tell apart**.
"""

import numpy as np

from ..spec.errors import InputError
from .trits import as_bytes, check_shape, check_trits, reject_code_3

__all__ = ["BLOCK", "TAIL_BYTES", "pack", "stored_bytes", "unpack"]

BLOCK, BLOCK_BYTES, PLANES = 128, 32, 4
TAIL_BYTES = 32
SCALE_BYTES = 4
CHUNK = 4096  # blocks at a time, so that temporaries stay in cache


def stored_bytes(n, k):
    """Bytes of an I2_S tensor of n x k weights, tail included."""
    return n * k // PLANES + TAIL_BYTES


def pack(trits, scale):
    """Bytes uint8 ``[n*k/4 + 32]`` of ``trits`` int8 ``[n, k]`` and ``scale``, the rest of the tail 0.

    TypeError unless the trits are int8; ValueError for n*k not a multiple of 128, another trit, or a bad scale.
    """
    if check_trits(trits).size % BLOCK:
        raise ValueError(f"n * k must be a multiple of {BLOCK}, got {trits.size}")
    scale = np.float32(scale)
    if not (np.isfinite(scale) and scale >= 0):
        raise ValueError(f"scale must be finite and not negative, got {scale}")
    out = np.zeros(stored_bytes(*trits.shape), np.uint8)
    codes = np.ascontiguousarray(trits).view(np.uint8).reshape(-1, PLANES, BLOCK_BYTES)
    packed = out[:-TAIL_BYTES].reshape(-1, BLOCK_BYTES)
    for at in range(0, len(codes), CHUNK):
        c = codes[at : at + CHUNK] + np.uint8(1)
        packed[at : at + CHUNK] = c[:, 0] << 6 | c[:, 1] << 4 | c[:, 2] << 2 | c[:, 3]
    out[-TAIL_BYTES:][:SCALE_BYTES] = np.array(scale, "<f4").reshape(1).view(np.uint8)
    return out


def unpack(data, shape, where="I2_S"):
    """``(trits int8 [n, k], scale float)`` of ``data`` for ``shape`` (n, k).

    InputError (at ``where``) for a wrong size, n*k not a multiple of 128, code 3, and a scale that is negative or not finite.
    """
    n, k = check_shape(shape)
    if n * k % BLOCK:
        raise InputError(where, "n * k", f"be a multiple of {BLOCK}", n * k)
    data = as_bytes(data, stored_bytes(n, k), where)
    scale = float(data[-TAIL_BYTES:][:SCALE_BYTES].copy().view("<f4")[0])
    if not (np.isfinite(scale) and scale >= 0):
        raise InputError(where, "scale", "be finite and not negative", scale)
    trits = np.empty((n, k), np.int8)
    planes = trits.view(np.uint8).reshape(-1, PLANES, BLOCK_BYTES)
    packed = data[:-TAIL_BYTES].reshape(-1, BLOCK_BYTES)
    for at in range(0, len(planes), CHUNK):
        p = packed[at : at + CHUNK]
        reject_code_3(p, where, lambda b, i, at=at: f"byte {(at + b) * BLOCK_BYTES + i}")
        for plane in range(PLANES):
            planes[at : at + CHUNK, plane] = ((p >> (6 - 2 * plane)) & 3) - np.uint8(1)
    return trits, scale
