"""bfloat16: the upper half of a float32, rounded half to even; every NaN is one quiet NaN."""

import ml_dtypes
import numpy as np

__all__ = ["BF16", "BF16_NAN", "from_bf16", "to_bf16"]

BF16 = np.dtype(ml_dtypes.bfloat16)
BF16_NAN = 0x7FC0


def to_bf16(x):
    """float32 array of any shape as bfloat16: IEEE rounding half to even, beyond the largest to infinity, NaN to
    :data:`BF16_NAN`."""
    x = np.asarray(x)
    if x.dtype != np.float32:
        raise TypeError(f"x must be float32, got {x.dtype}")
    with np.errstate(invalid="ignore"):  # a signalling NaN
        codes = np.ascontiguousarray(x).astype(BF16).view(np.uint16)
    codes[np.isnan(x)] = BF16_NAN
    return codes.view(BF16)


def from_bf16(x):
    """bfloat16 array as float32: exact."""
    x = np.asarray(x)
    if x.dtype != BF16:
        raise TypeError(f"x must be bfloat16, got {x.dtype}")
    return x.astype(np.float32)
