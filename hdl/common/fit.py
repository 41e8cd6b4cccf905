"""Assignment that refuses to truncate."""

from amaranth.hdl import Shape, Value

__all__ = ["fit"]


def fit(dst, expr):
    """``dst.eq(expr)``; ValueError while elaborating if some value of ``expr``'s shape does not fit ``dst``."""
    have, want = Value.cast(expr).shape(), Value.cast(dst).shape()
    if not _holds(want, have):
        raise ValueError(f"{getattr(dst, 'name', dst)!s} ({want!r}) must hold every value of its source, got {have!r}")
    return dst.eq(expr)


def _holds(want: Shape, have: Shape):
    if have.signed:
        return want.signed and want.width >= have.width
    return want.width - want.signed >= have.width
