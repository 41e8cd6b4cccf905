"""GGUF Q8_0: w = d * int8, with an fp16 ``d`` for each block of 32 along k; 34 bytes a block, 8.5 bits a weight."""

import numpy as np

from .q_block import BLOCK, HALF_BYTES, blocks_of, halves

__all__ = ["BITS", "BLOCK_BYTES", "ZERO", "unpack"]

BITS = 8
BLOCK_BYTES = HALF_BYTES + BLOCK
ZERO = 128


def unpack(data, shape, where="Q8_0"):
    """``(codes uint8 [n, k], d float32 [n, k/32])`` of ``data`` for ``shape`` (n, k); a code is the stored int8 plus 128.

    InputError (at ``where``) for a wrong size, k not a multiple of 32, and a ``d`` that is not finite.
    """
    blocks = blocks_of(data, shape, BLOCK_BYTES, where)
    codes = (blocks[:, HALF_BYTES:] ^ np.uint8(ZERO)).reshape(shape)  # flipping the sign bit adds 128
    return codes, halves(blocks, 0, shape, "d", where)
