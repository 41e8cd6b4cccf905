"""What TQ1_0 and TQ2_0 share: blocks of 256 weights along k that end in an fp16 scale ``d``; a block stands for ``d * trits``."""

import numpy as np

from ..spec.errors import InputError
from .trits import as_bytes, check_shape, check_trits

__all__ = ["BLOCK", "CHUNK", "SCALE_BYTES", "blocks_of", "one_scale", "read_scales", "start_blocks"]

BLOCK = 256
SCALE_BYTES = 2
CHUNK = 2048  # blocks at a time, so that temporaries stay in cache


def start_blocks(trits, scale, block_bytes):
    """``(out, blocks, codes)`` to pack ``trits`` int8 ``[n, k]``: ``out`` uint8 ``[n, k/256 * block_bytes]`` with every ``d``
    written, ``blocks`` a view of it with one block a row, ``codes`` uint8 ``[blocks, 256]``, the trits not yet incremented.

    ``scale`` is one for all or ``[n, k/256]``. TypeError unless the trits are int8; ValueError for k not a multiple of 256,
    another trit, or a scale that is negative, not finite, or above fp16.
    """
    n, k = check_trits(trits).shape
    if k % BLOCK:
        raise ValueError(f"k must be a multiple of {BLOCK}, got {k}")
    with np.errstate(over="ignore"):
        d = np.broadcast_to(np.asarray(scale, np.float32).astype("<f2"), (n, k // BLOCK))
    if not np.isfinite(d).all() or (d < 0).any():
        raise ValueError("scale must be finite, not negative, and at most 65504 (fp16)")
    out = np.empty((n, k // BLOCK * block_bytes), np.uint8)
    blocks = out.reshape(-1, block_bytes)
    blocks[:, -SCALE_BYTES:] = np.ascontiguousarray(d).view(np.uint8).reshape(-1, SCALE_BYTES)
    return out, blocks, np.ascontiguousarray(trits).view(np.uint8).reshape(-1, BLOCK)


def blocks_of(data, shape, block_bytes, where):
    """``data`` as uint8 ``[blocks, block_bytes]``; InputError unless k is a multiple of 256 and the size is that of ``shape``."""
    n, k = check_shape(shape)
    if k % BLOCK:
        raise InputError(where, "row length", f"be a multiple of {BLOCK}", k)
    return as_bytes(data, n * k // BLOCK * block_bytes, where).reshape(-1, block_bytes)


def read_scales(blocks, shape, where):
    """The scales float32 ``[n, k/256]`` at the end of ``blocks``; InputError if one is negative or not finite."""
    d = np.ascontiguousarray(blocks[:, -SCALE_BYTES:]).view("<f2").reshape(-1).astype(np.float32)
    bad = ~(np.isfinite(d) & (d >= 0))
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise InputError(where, f"d of block {at}", "be finite and not negative", float(d[at]))
    return d.reshape(shape[0], -1)


def one_scale(trits, scales, where):
    """``(trits, scale)`` of a matrix whose blocks share one scale; InputError if they do not.

    Quantisers store d = max|w|, hence 0 for a block without a nonzero weight, whatever its codes: such blocks become zero trits.
    ``trits`` int8 ``[n, k]``, ``scales`` float32 ``[n, k/256]``. A matrix of zeros has scale 0.
    """
    empty = scales == 0
    used = np.unique(scales[~empty])
    if used.size > 1:
        raise InputError(where, "block scales", "be one value for the whole tensor", f"{used.size} values")
    if empty.any():
        trits = np.where(np.repeat(empty, BLOCK, axis=1), np.int8(0), trits)
    return trits, float(used[0]) if used.size else 0.0
