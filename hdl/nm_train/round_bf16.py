"""float32 to bfloat16."""

from amaranth.hdl import Cat, Const, Mux, Value

from ...models.spec.floats import CANONICAL_NAN

__all__ = ["round_bf16"]

_DROPPED = 16


def round_bf16(bits):
    """The 16 bits of the bfloat16 nearest to a float32 of 32 ``bits``, half to even; too large is infinity, NaN 0x7FC0."""
    bits = Value.cast(bits)
    kept, half, below = bits[_DROPPED:31], bits[_DROPPED - 1], bits[: _DROPPED - 1].any()
    # A carry runs from the fraction into the exponent, from the largest number to infinity; an infinity has no fraction.
    rounded = (kept + (half & (below | kept[0])))[:15]
    nan = bits[23:31].all() & bits[:23].any()
    return Mux(nan, Const(CANONICAL_NAN >> _DROPPED, 16), Cat(rounded, bits[31]))
