"""float32 to bfloat16."""

from amaranth.hdl import Cat, Const, Mux

from .float_fields import NAN, Fields, round_up

__all__ = ["round_bf16"]


def round_bf16(value):
    """The 16 bits of the bfloat16 nearest to a float32 of 32 bits, half to even; too large is infinity, NaN the canonical one."""
    up = round_up(value[16], value[15], value[:15].any())
    return Mux(Fields(value, 8, 23).nan, Const(NAN.value >> 16, 16), Cat((value[16:31] + up)[:15], value[31]))
