"""GGUF TQ2_0: 2 bits a trit and an fp16 scale for each block of 256 along k; 66 bytes a block, 2.0625 bits a weight.

Block: ``qs[64]``, then ``d``. Each half of 128 weights has 32 bytes: byte m holds the codes of weights m, m+32, m+64, m+96 of
its half, the first in bits 1:0, the last in bits 7:6. Layout as ggml defines it (``block_tq2_0``).
"""

import numpy as np

from .tq_block import CHUNK, SCALE_BYTES, blocks_of, read_scales, start_blocks
from .trits import reject_code_3

__all__ = ["BLOCK_BYTES", "pack", "unpack"]

QS_BYTES = 64
BLOCK_BYTES = QS_BYTES + SCALE_BYTES
HALVES, PLANES, STRIDE = 2, 4, 32


def pack(trits, scale):
    """Bytes uint8 ``[n, k/256 * 66]`` of ``trits`` int8 ``[n, k]``; ``scale`` one for all or ``[n, k/256]``.

    TypeError unless the trits are int8; ValueError for k not a multiple of 256, another trit, or a scale outside fp16.
    """
    out, blocks, codes = start_blocks(trits, scale, BLOCK_BYTES)
    for at in range(0, len(blocks), CHUNK):
        c = (codes[at : at + CHUNK] + np.uint8(1)).reshape(-1, HALVES, PLANES, STRIDE)
        qs = c[:, :, 0] | c[:, :, 1] << 2 | c[:, :, 2] << 4 | c[:, :, 3] << 6
        blocks[at : at + CHUNK, :QS_BYTES] = qs.reshape(-1, QS_BYTES)
    return out


def unpack(data, shape, where="TQ2_0"):
    """``(trits int8 [n, k], scales float32 [n, k/256])`` of ``data`` for ``shape`` (n, k).

    InputError (at ``where``) for a wrong size, k not a multiple of 256, code 3, and a scale that is negative or not finite.
    """
    blocks = blocks_of(data, shape, BLOCK_BYTES, where)
    scales = read_scales(blocks, shape, where)
    trits = np.empty(shape, np.int8)
    planes = trits.view(np.uint8).reshape(-1, HALVES, PLANES, STRIDE)
    for at in range(0, len(blocks), CHUNK):
        qs = np.ascontiguousarray(blocks[at : at + CHUNK, :QS_BYTES])
        reject_code_3(qs, where, lambda b, i, at=at: f"qs[{i}] of block {at + b}")
        qs = qs.reshape(-1, HALVES, STRIDE)
        for plane in range(PLANES):
            planes[at : at + CHUNK, :, plane] = ((qs >> 2 * plane) & 3) - np.uint8(1)
    return trits, scales
