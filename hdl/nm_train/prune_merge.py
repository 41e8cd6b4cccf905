"""Sorted lists of weights by magnitude, merged by comparing each with each: one comparator deep, and stable."""

from amaranth.hdl import Cat, Const, Mux, Signal, Value
from amaranth.lib import data

__all__ = ["leaf", "merge", "registered", "weight_layout"]


def weight_layout(index_bits):
    """A weight on its way: the magnitude that is compared (bits 30..0 of the float32), sign, place in the group so far."""
    return data.StructLayout({"magnitude": 31, "sign": 1, "index": index_bits})


def leaf(word, index, index_bits):
    """The weight of a float32 ``word`` at a constant ``index``, as a view of :func:`weight_layout`."""
    return data.View(weight_layout(index_bits), Cat(word[:31], word[31], Const(index, index_bits)))


def merge(a, b, keep, *, b_there=1, a_there=None):
    """The ``keep`` largest of two lists, largest first, as Values of their layout's bits.

    Views ``a`` and ``b`` are sorted each, and all of ``a`` have lower indices than any of ``b``: of equal magnitudes a's come
    first. ``b_there``: whether b counts; ``a_there``: which of a do, the first ones (default: all). Results beyond what there is
    are arbitrary.
    """
    a_there = a_there or [1] * len(a)
    # first[i][j]: a[i] comes before b[j]. Only pairs that decide one of the first ``keep`` places have a comparator.
    first = {}
    for i, mine in enumerate(a):
        for j, other in enumerate(b):
            if i + j < keep:
                first[i, j] = ((mine.magnitude >= other.magnitude) | ~_bit(b_there)) & _bit(a_there[i])
    merged = []
    for place in range(min(keep, len(a) + len(b))):
        # a[i] is here if exactly place - i of b are before it; b's are sorted, so that two comparisons tell.
        choices = []
        for i in range(min(place + 1, len(a))):
            j = place - i
            if j > len(b):
                continue
            here = Const(1, 1) if j == len(b) else first[i, j]
            if j:
                here &= ~first[i, j - 1]
            choices.append((here, a[i]))
        for j in range(min(place + 1, len(b))):
            i = place - j
            if i > len(a):
                continue
            here = Const(1, 1) if i == len(a) else ~first[i, j]
            if i:
                here &= first[i - 1, j]
            choices.append((here, b[j]))
        # One of them is here: the last needs no condition.
        value = Value.cast(choices[-1][1])
        for here, one in choices[-2::-1]:
            value = Mux(here, Value.cast(one), value)
        merged.append(value)
    return merged


def _bit(value):
    return Value.cast(value) if not isinstance(value, int) else Const(value, 1)


def registered(m, values, shape, name):
    """The list one cycle later."""
    later = [Signal(shape, name=f"{name}_{rank}", reset_less=True) for rank in range(len(values))]
    for one, value in zip(later, values, strict=True):
        m.d.sync += Value.cast(one).eq(value)
    return later
