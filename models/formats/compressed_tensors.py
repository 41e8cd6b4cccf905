"""The int32 words of compressed-tensors' ``pack-quantized``: a value plus 2**(bits-1), packed along the input in each row.

Numbers of 2, 4 and 8 bits fill their words. For **3 bits there are two layouts**: releases up to 0.12 put ten in a word and leave
two bits (``apart``), later ones let them run on over the words (``running``). The number of words tells, if the rows are a
multiple of 32 numbers and for some other lengths.
"""

import numpy as np

from ..spec.errors import InputError, check_choice
from .bit_stream import unpack_bits

__all__ = ["LAYOUTS", "layout_of", "unpack_words"]

LAYOUTS = ("apart", "running")
WORD = 32


def words_of(layout, bits, count):
    return -(-count // (WORD // bits)) if layout == "apart" else -(-count * bits // WORD)


def layout_of(have, bits, count, where):
    """The layout in which ``count`` numbers take ``have`` words; None if both do and differ; InputError if neither does."""
    apart, running = (words_of(layout, bits, count) for layout in LAYOUTS)
    if have not in (apart, running):
        rule = f"have {running} words for {count} numbers of {bits} bits" + (f", or {apart}" if apart != running else "")
        raise InputError(where, "packed tensor", rule, have)
    if WORD % bits == 0 or apart == 1:
        return "apart"
    return None if apart == running else "apart" if have == apart else "running"


def unpack_words(words, bits, count, layout, where):
    """uint8 ``[rows, count]`` of ``words`` int32 ``[rows, words]`` in ``layout``; InputError for another number of words."""
    check_choice("layout", layout, LAYOUTS)
    want = words_of(layout, bits, count)
    if words.shape[1] != want:
        raise InputError(where, "packed tensor", f"have {want} words for {count} numbers of {bits} bits", words.shape[1])
    if layout == "running":
        return unpack_bits(np.ascontiguousarray(words, "<i4").view(np.uint8), bits, count)
    data = np.ascontiguousarray(words, "<i4").view("<u4")
    lanes = WORD // bits
    out = np.empty((*words.shape, lanes), np.uint8)
    for lane in range(lanes):
        out[..., lane] = data >> np.uint32(bits * lane) & np.uint32((1 << bits) - 1)
    return np.ascontiguousarray(out.reshape(len(words), -1)[:, :count])
