"""Leading zeros, and shifts that remember what fell off: what float units are made of."""

from amaranth.hdl import Cat, Const, Mux, Value

__all__ = ["leading_zeros", "shift_down"]


def leading_zeros(value):
    """How many zeros stand above the highest one of an unsigned ``value`` of at least 2 bits; of 0 an arbitrary count."""
    value = Value.cast(value)
    width = 1 << (len(value) - 1).bit_length()
    return _count(Cat(Const(0, width - len(value)), value) if width > len(value) else value)


def _count(value):
    if len(value) == 2:
        return ~value[1]
    half = len(value) // 2
    low, high = value[:half], value[half:]
    empty = ~high.any()
    return Cat(Mux(empty, _count(low), _count(high)), empty)


def shift_down(value, places):
    """(``value >> places``, whether a one fell off), both of any width."""
    value, lost = Value.cast(value), Const(0, 1)
    for bit in reversed(range(len(places))):
        by = min(1 << bit, len(value))
        lost = lost | (places[bit] & value[:by].any())
        value = Mux(places[bit], Cat(value[by:], Const(0, by)), value)
    return value, lost
