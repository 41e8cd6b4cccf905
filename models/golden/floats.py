"""float32 operations as gates must do them: one rounding each, half to even, subnormals kept, one NaN."""

import numpy as np

from ..formats.bf16 import from_bf16, to_bf16
from ..spec.floats import CANONICAL_NAN

__all__ = ["add", "bits", "canonical", "from_bits", "multiply", "negate", "product_bf16", "round_bf16", "sign"]


def add(a, b):
    """a + b, float32 arrays or scalars, broadcast."""
    a, b = _float32("a", a), _float32("b", b)
    with np.errstate(all="ignore"):
        return canonical(a + b)


def multiply(a, b):
    """a * b, float32 arrays or scalars, broadcast."""
    a, b = _float32("a", a), _float32("b", b)
    with np.errstate(all="ignore"):
        return canonical(a * b)


def product_bf16(a, b):
    """a * b of bfloat16 arrays as float32: exact but for overflow and for what is too small."""
    return multiply(from_bf16(a), from_bf16(b))


def negate(a):
    """-a; a NaN becomes the canonical one."""
    return canonical(-_float32("a", a))


def sign(a):
    """-1, +0 or 1 as float32; NaN of a NaN."""
    a = _float32("a", a)
    with np.errstate(all="ignore"):
        return canonical(np.where(a > 0, np.float32(1), np.where(a < 0, np.float32(-1), a * np.float32(0) + np.float32(0))))


def round_bf16(a):
    """The nearest bfloat16, half to even."""
    return to_bf16(_float32("a", a))


def canonical(a):
    """``a`` with every NaN replaced by the canonical one."""
    a = np.array(a, np.float32)
    a.view(np.uint32)[...] = np.where(np.isnan(a), np.uint32(CANONICAL_NAN), a.view(np.uint32))
    return a


def bits(a):
    """uint32 patterns of float32: what comparisons that must see a zero's sign and NaN are made with."""
    return np.ascontiguousarray(_float32("a", a)).view(np.uint32).reshape(np.shape(a))


def from_bits(a):
    """float32 of uint32 patterns."""
    return np.ascontiguousarray(np.asarray(a, np.uint32)).view(np.float32).reshape(np.shape(a))


def _float32(name, value):
    value = np.asarray(value)
    if value.dtype != np.float32:
        raise TypeError(f"{name} must be float32, got {value.dtype}")
    return value
