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
    # first[i, j]: a[i] comes before b[j]. Only pairs that decide one of the first ``keep`` places have a comparator.
    first = {}
    for i, mine in enumerate(a):
        for j, other in enumerate(b[: keep - i] if keep > i else ()):
            first[i, j] = (mine.magnitude >= other.magnitude) | ~_bit(b_there)
            if a_there:
                first[i, j] &= _bit(a_there[i])

    def before(i, j):
        return Const(0, 1) if i == len(a) else Const(1, 1) if j == len(b) else first[i, j]

    merged = []
    for place in range(min(keep, len(a) + len(b))):
        # So many of a come before this place: more than i exactly if a[i] comes before b[place - 1 - i].
        counts = range(max(0, place - len(b)), min(place, len(a)) + 1)
        more = [before(i, place - 1 - i) for i in counts[:-1]]
        mine = _pick(more, [Value.cast(a[min(i, len(a) - 1)]) for i in counts])
        other = _pick(more, [Value.cast(b[min(place - i, len(b) - 1)]) for i in counts])
        merged.append(Mux(_pick(more, [before(i, place - i) for i in counts]), mine, other))
    return merged


def _pick(more, choices):
    """The choice whose number is how many of ``more`` are 1; these are the first ones. At most four: two bits choose."""
    if len(choices) == 1:
        return choices[0]
    if len(choices) == 2:
        return Mux(more[0], choices[1], choices[0])
    high = more[1]
    if len(choices) == 3:
        return Mux(high, choices[2], Mux(more[0], choices[1], choices[0]))
    low = Mux(high, more[2], more[0])
    return Mux(high, Mux(low, choices[3], choices[2]), Mux(low, choices[1], choices[0]))


def _bit(value):
    return Value.cast(value) if not isinstance(value, int) else Const(value, 1)


def registered(m, values, shape, name):
    """The list one cycle later."""
    later = [Signal(shape, name=f"{name}_{rank}", reset_less=True) for rank in range(len(values))]
    for one, value in zip(later, values, strict=True):
        m.d.sync += Value.cast(one).eq(value)
    return later
