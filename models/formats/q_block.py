"""What GGUF's Q4_0, Q4_1 and Q8_0 share: blocks of 32 weights along k that begin with fp16 numbers."""

import numpy as np

from ..spec.errors import InputError
from .trits import as_bytes, check_shape

__all__ = ["BLOCK", "HALF_BYTES", "NIBBLE_BYTES", "blocks_of", "halves", "nibbles"]

BLOCK = 32
HALF_BYTES = 2
NIBBLE_BYTES = BLOCK // 2


def blocks_of(data, shape, block_bytes, where):
    """``data`` as uint8 ``[blocks, block_bytes]``; InputError unless k is a multiple of 32 and the size is that of ``shape``."""
    n, k = check_shape(shape)
    if k % BLOCK:
        raise InputError(where, "row length", f"be a multiple of {BLOCK}", k)
    return as_bytes(data, n * k // BLOCK * block_bytes, where).reshape(-1, block_bytes)


def halves(blocks, at, shape, name, where):
    """The fp16 number ``name`` at byte ``at`` of every block as float32 ``[n, k/32]``; InputError if one is not finite."""
    value = np.ascontiguousarray(blocks[:, at : at + HALF_BYTES]).view("<f2").reshape(-1).astype(np.float32)
    bad = ~np.isfinite(value)
    if bad.any():
        block = int(np.flatnonzero(bad)[0])
        raise InputError(where, f"{name} of block {block}", "be finite", float(value[block]))
    return value.reshape(shape[0], -1)


def nibbles(blocks, at, shape):
    """The codes uint8 ``[n, k]`` of 16 bytes at ``at`` of every block: byte j holds weight j, low, and weight j + 16, high."""
    packed = blocks[:, at : at + NIBBLE_BYTES]
    codes = np.empty((len(blocks), BLOCK), np.uint8)
    np.bitwise_and(packed, 15, out=codes[:, :NIBBLE_BYTES])
    np.right_shift(packed, 4, out=codes[:, NIBBLE_BYTES:])
    return codes.reshape(shape)
