"""compressed-tensors' ``sparse-24-bitmask``: two of every four values along the input, and a bit for each place.

``compressed`` ``[n, k/2]``: the kept values, row by row; ``bitmask`` uint8 ``[n, ceil(k/8)]``: bit k%8 of byte k//8, low bits
first, is 1 where a value is kept.
"""

import numpy as np

from ..spec.errors import InputError

__all__ = ["GROUP", "NNZ", "unpack"]

GROUP, NNZ, BYTE = 4, 2, 8


def unpack(compressed, bitmask, shape, where="sparse-24-bitmask"):
    """``(values [n, k], mask bool [n, k])``: ``compressed`` spread out, 0 where the mask is False.

    InputError (at ``where``) for shapes that contradict and unless every group of four keeps two.
    """
    n, k = shape
    if k % GROUP:
        raise InputError(where, "row length", f"be a multiple of {GROUP}", k)
    for name, part, want in (("compressed", compressed, (n, k // 2)), ("bitmask", bitmask, (n, -(-k // BYTE)))):
        if part.shape != want:
            raise InputError(where, name, f"have shape {list(want)}", list(part.shape))
    mask = np.unpackbits(bitmask, axis=1, bitorder="little").view(bool)
    if mask[:, k:].any():
        raise InputError(where, "bitmask", f"be 0 behind column {k - 1}", "1")
    mask = np.ascontiguousarray(mask[:, :k])
    kept = mask.reshape(n, -1, GROUP).sum(axis=2)
    if (kept != NNZ).any():
        row, group = np.argwhere(kept != NNZ)[0]
        raise InputError(where, f"bitmask of row {row}, group {group}", f"keep {NNZ} of {GROUP}", int(kept[row, group]))
    values = np.zeros(shape, compressed.dtype)
    values[mask] = compressed.reshape(-1)
    return values, mask
