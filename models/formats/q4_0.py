"""GGUF Q4_0: w = d * (code - 8), 4 bits and an fp16 ``d`` for each block of 32 along k; 18 bytes a block, 4.5 bits a weight."""

from .q_block import HALF_BYTES, NIBBLE_BYTES, blocks_of, halves, nibbles

__all__ = ["BITS", "BLOCK_BYTES", "unpack"]

BITS = 4
BLOCK_BYTES = HALF_BYTES + NIBBLE_BYTES


def unpack(data, shape, where="Q4_0"):
    """``(codes uint8 [n, k], d float32 [n, k/32])`` of ``data`` for ``shape`` (n, k); ``d`` has either sign.

    InputError (at ``where``) for a wrong size, k not a multiple of 32, and a ``d`` that is not finite.
    """
    blocks = blocks_of(data, shape, BLOCK_BYTES, where)
    return nibbles(blocks, HALF_BYTES, shape), halves(blocks, 0, shape, "d", where)
