"""GGUF Q4_1: w = d * code + m, 4 bits and fp16 ``d`` and ``m`` for each block of 32 along k; 20 bytes, 5 bits a weight."""

from .q_block import HALF_BYTES, NIBBLE_BYTES, blocks_of, halves, nibbles

__all__ = ["BITS", "BLOCK_BYTES", "unpack"]

BITS = 4
BLOCK_BYTES = 2 * HALF_BYTES + NIBBLE_BYTES


def unpack(data, shape, where="Q4_1"):
    """``(codes uint8 [n, k], d float32 [n, k/32], m float32 [n, k/32])`` of ``data`` for ``shape`` (n, k).

    InputError (at ``where``) for a wrong size, k not a multiple of 32, and a ``d`` or ``m`` that is not finite.
    """
    blocks = blocks_of(data, shape, BLOCK_BYTES, where)
    d, m = (halves(blocks, at, shape, name, where) for at, name in ((0, "d"), (HALF_BYTES, "m")))
    return nibbles(blocks, 2 * HALF_BYTES, shape), d, m
