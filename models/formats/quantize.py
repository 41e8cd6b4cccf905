"""The activation quantisers, per token and per group: golden models, hosts and gates all start from their codes."""

import numpy as np

from sparseloom.models.spec.errors import check_int

__all__ = ["dequantize_groups", "quantize", "quantize_groups"]

TOP = np.float32(127)
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


def quantize_groups(x, group=None):
    """Symmetric absmax int8 codes for groups of ``group`` consecutive elements of a token: x about codes * scale.

    ``(codes int8 [..., k], scales float32 [..., ceil(k / group)])`` of x, cast to float32, [..., k]; the last group may be
    shorter, without ``group`` there is one, the token. scale = max |x| / 127; codes = x / scale rounded half to even, within
    +-127; a group of zeros has scale 0 and codes 0. Both operations are float32's. A token that is not finite, or an empty
    one, is a ValueError.
    """
    x = np.asarray(x, np.float32)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"x must have at least one element in its last dimension, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("x must be finite, got NaN or infinity")
    k = x.shape[-1]
    group = k if group is None else check_int("group", group, 1, 1 << 31)
    scales = np.maximum.reduceat(np.abs(x), np.arange(0, k, group), axis=-1) / TOP
    spread = _spread(scales, group, k)
    codes = np.divide(x, spread, out=np.zeros_like(x), where=spread > 0)
    return np.clip(np.rint(codes), -TOP, TOP).astype(np.int8), scales


def dequantize_groups(codes, scales, group=None):
    """float32 codes * scale of :func:`quantize_groups`'s results, or of other integers and scales of these shapes."""
    k = codes.shape[-1]
    return codes.astype(np.float32) * _spread(np.asarray(scales, np.float32), k if group is None else group, k)


def _spread(per_group, group, k):
    return np.repeat(per_group, group, axis=-1)[..., :k] if group < k else per_group
