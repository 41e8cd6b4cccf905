"""GGUF TQ1_0: five trits a byte and an fp16 scale for each block of 256 along k; 54 bytes a block, 1.6875 bits a weight.

Block: ``qs[48]``, ``qh[4]``, then ``d``. ``qs[m]``, m < 32, holds weights m + 32 i; ``qs[32 + m]``, m < 16, weights
160 + m + 16 i (i = 0..4); ``qh[j]`` holds weights 240 + j + 4 i (i = 0..3) and a fifth digit 0. The codes are the digits of a
base-3 number v, i = 0 the most significant; the stored byte is ceil(256 v / 243), so that each multiplication by 3 carries out
one digit.
243 byte values are legal in ``qs``, 81 in ``qh``. Layout as ggml defines it (``block_tq1_0``).
"""

import numpy as np

from .tq_block import CHUNK, SCALE_BYTES, blocks_of, read_scales, start_blocks
from .trits import reject_bytes

__all__ = ["BLOCK_BYTES", "LEGAL_QH", "LEGAL_QS", "pack", "unpack"]

CODES = 3**5
QS_BYTES, QH_BYTES = 48, 4
BLOCK_BYTES = QS_BYTES + QH_BYTES + SCALE_BYTES
# (first byte, bytes, first weight, trits a byte): the weights of a group lie `bytes` apart
GROUPS = ((0, 32, 0, 5), (32, 16, 160, 5), (48, 4, 240, 4))

# The stored byte of each v, and which bytes can occur: qh leaves the last digit 0, so only every third v.
BYTE_OF = ((np.arange(CODES, dtype=np.uint16) * 256 + CODES - 1) // CODES).astype(np.uint8)
LEGAL_QS = np.isin(np.arange(256), BYTE_OF)
LEGAL_QH = np.isin(np.arange(256), BYTE_OF[::3])
# A byte b carries out the digit floor(3 b / 256): 1 from 86 up, 2 from 171 up.
DIGIT_1, DIGIT_2 = 86, 171


def pack(trits, scale):
    """Bytes uint8 ``[n, k/256 * 54]`` of ``trits`` int8 ``[n, k]``; ``scale`` one for all or ``[n, k/256]``.

    TypeError unless the trits are int8; ValueError for k not a multiple of 256, another trit, or a scale outside fp16.
    """
    out, blocks, codes = start_blocks(trits, scale, BLOCK_BYTES)
    for at in range(0, len(blocks), CHUNK):
        for first, count, weight, digits in GROUPS:
            c = codes[at : at + CHUNK, weight : weight + count * digits].reshape(-1, digits, count)
            value = c[:, 0] + np.uint8(1)
            for i in range(1, digits):
                value *= 3
                value += c[:, i]
                value += 1
            if digits == 4:
                value *= 3
            blocks[at : at + CHUNK, first : first + count] = BYTE_OF[value]
    return out


def unpack(data, shape, where="TQ1_0"):
    """``(trits int8 [n, k], scales float32 [n, k/256])`` of ``data`` for ``shape`` (n, k).

    InputError (at ``where``) for a wrong size, k not a multiple of 256, a byte that no five (``qh``: four) trits give, and a
    scale that is negative or not finite.
    """
    blocks = blocks_of(data, shape, BLOCK_BYTES, where)
    scales = read_scales(blocks, shape, where)
    trits = np.empty(shape, np.int8)
    weights = trits.view(np.uint8).reshape(len(blocks), -1)
    for at in range(0, len(blocks), CHUNK):
        reject_illegal(blocks[at : at + CHUNK], at, where)
        for first, count, weight, digits in GROUPS:
            rest = np.ascontiguousarray(blocks[at : at + CHUNK, first : first + count])
            for i in range(digits):
                code = (rest >= DIGIT_1).view(np.uint8) + (rest >= DIGIT_2).view(np.uint8)
                weights[at : at + CHUNK, weight + i * count : weight + (i + 1) * count] = code - np.uint8(1)
                rest = rest * np.uint8(3)
    return trits, scales


def reject_illegal(blocks, first_block, where):
    qs, qh = np.split(blocks[:, : QS_BYTES + QH_BYTES], [QS_BYTES], axis=1)
    for field, data, legal in (("qs", qs, LEGAL_QS), ("qh", qh, LEGAL_QH)):
        rule = f"be one of the {legal.sum()} bytes ceil(256 v / 243)"
        reject_bytes(~legal[data], data, where, rule, lambda b, i, field=field: f"{field}[{i}] of block {first_block + b}")
