"""The one activation quantiser: golden models, hosts and gates all start from its codes."""

import numpy as np

from sparseloom.models.spec.errors import check_int

__all__ = ["quantize"]

FLOOR = np.float32(1e-5)  # of the largest magnitude, as the released MatMul-free code has it


def quantize(x, bits=8):
    """Symmetric absmax codes per token: ``(codes int8 [..., k], scale float32 [..., 1])`` with x about codes / scale.

    ``x`` is cast to float32, its last dimension is one token. scale = (2^(bits-1) - 1) / max(max |x|, 1e-5);
    codes = x * scale rounded half to even, within +-(2^(bits-1) - 1); ``bits`` is 2..8. A token that is not finite, or an
    empty one, is a ValueError.
    """
    top = np.float32(2 ** (check_int("bits", bits, 2, 8) - 1) - 1)
    x = np.asarray(x, np.float32)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"x must have at least one element in its last dimension, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("x must be finite, got NaN or infinity")
    scale = top / np.maximum(np.abs(x).max(axis=-1, keepdims=True), FLOOR)
    return np.clip(np.rint(x * scale), -top, top).astype(np.int8), scale
