"""Registers that delay a value by whole cycles."""

from amaranth.hdl import Signal, Value

__all__ = ["delay"]


def delay(m, value, cycles, name, *, reset_less=True):
    """``value`` as it was ``cycles`` cycles ago; pass ``reset_less=False`` for valid and control bits."""
    for index in range(cycles):
        later = Signal(Value.cast(value).shape(), name=f"{name}_{index + 1}", reset_less=reset_less)
        m.d.sync += later.eq(value)
        value = later
    return value
