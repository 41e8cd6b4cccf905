"""Matrices of ONNX files as weights that an engine takes, or the reason why none does."""

from functools import partial

import numpy as np

from ..formats.qonnx import bipolar_codes, quant_codes
from ..formats.quantize import quantize_groups
from ..graph import GroupedForm, GroupedWeight, StoredWeight, TernaryWeight
from ..spec.errors import InputError
from .layers import FLOAT_REASON
from .onnx_matrix import BIPOLAR, CODES, FLOAT, QUANT, spread

__all__ = ["weight_of"]

WIDTHS = (2, 3, 4, 8)  # of a grouped weight's codes
MAX_BITS = 8
TERNARY_BITS = 2
PER_INPUT = "a scale or zero point for each input cannot leave the sum: have one for each output, or for blocks of inputs"


def weight_of(matrix, nbytes, where, float_weights=None):
    """``(weight or None, reason)`` for a Matrix [n, k] that takes ``nbytes`` of the file; ``where`` is for messages.

    A weight's values are checked when it is loaded. Codes that need fewer bits than they are stored in are taken with fewer.
    InputError for a quantiser that is no quantiser.
    """
    n, k = matrix.values.shape
    stored = partial(StoredWeight, n=n, k=k, nbytes=nbytes)
    if matrix.kind == FLOAT:
        if float_weights is None:
            return None, f"{FLOAT_REASON}, or take them as int8 (--float-weights int8)"
        return stored(kind="grouped", format=f"{matrix.form} as int8", read=partial(read_float, matrix, where),
                      form=GroupedForm(bits=8, scale_group=k)), ""
    scale = spread(matrix, np.ones((1, 1)) if matrix.scale is None else matrix.scale)
    zero = None if matrix.zero is None or not np.any(matrix.zero) else spread(matrix, matrix.zero)
    if scale is None or zero is None and matrix.zero is not None and np.any(matrix.zero):
        return None, PER_INPUT
    if not (np.isfinite(scale[0]) & (scale[0] >= 0)).all() or matrix.kind == QUANT and not scale[0].all():
        raise InputError(where, "scale", "be finite and above 0", float(scale[0].min()))
    if matrix.kind == BIPOLAR or is_ternary(matrix):
        if scale[0].size == 1 or (scale[0] == scale[0].flat[0]).all():
            return stored(kind="ternary", format=matrix.form, read=partial(read_ternary, matrix, scale, where)), ""
    low, high = code_limits(matrix)
    if zero is not None:
        values = zero[0]
        if (values != np.rint(values)).any() or not np.isfinite(values).all():
            return None, f"a zero point must be a whole number, one is {values[values != np.rint(values)].flat[0]:g}"
        low, high = min(low, int(values.min())), max(high, int(values.max()))
    bits, centre = width(low, high)
    if not bits:
        return None, f"codes and zero points from {low} to {high} take more than {MAX_BITS} bits"
    groups = [part[1] for part in (scale, zero) if part is not None]
    group = min(groups)
    if any(each != group and each != k for each in groups):
        return None, "scales and zero points must have groups of one size"
    header = "scale" if zero is None and centre == 1 << (bits - 1) else "zero"
    form = GroupedForm(bits=bits, scale_group=group, header=header)
    read = partial(read_grouped, matrix, scale, zero, (bits, centre, group), where)
    return stored(kind="grouped", format=matrix.form, read=read, form=form), ""


def is_ternary(matrix):
    quantiser = matrix.quantiser
    return (matrix.kind == QUANT and quantiser.bits == TERNARY_BITS and quantiser.signed and quantiser.narrow
            and not np.any(matrix.zero))


def code_limits(matrix):
    """(least, largest) code."""
    if matrix.kind == CODES:
        return int(matrix.values.min()), int(matrix.values.max())
    return (-1, 1) if matrix.kind == BIPOLAR else matrix.quantiser.limits


def width(low, high):
    """``(bits, centre)``: the code of a value is value + centre; (0, 0) if there is no width that holds them."""
    for bits in WIDTHS:
        if -(1 << (bits - 1)) <= low and high < 1 << (bits - 1):
            return bits, 1 << (bits - 1)
        if low >= 0 and high < 1 << bits:
            return bits, 0
    return 0, 0


def codes_of(matrix, where):
    """Integers [n, k] of the matrix, int32."""
    if matrix.kind == BIPOLAR:
        codes = bipolar_codes(matrix.values)
    elif matrix.kind == QUANT:
        codes = quant_codes(matrix.values, matrix.scale, matrix.zero, matrix.quantiser)
        if not np.isfinite(codes).all():
            raise InputError(where, "weights", "be finite", "NaN or infinity")
    else:
        codes = matrix.values
    return codes.astype(np.int32)


def read_float(matrix, where):
    with legal(where):
        codes, scale = quantize_groups(matrix.values)
        codes = (codes.astype(np.int16) + 128).astype(np.uint8)
        return GroupedWeight(codes=codes, bits=8, scale=np.ascontiguousarray(scale), scale_group=codes.shape[1],
                             format=f"{matrix.form} as int8")


def read_ternary(matrix, scale, where):
    with legal(where):
        return TernaryWeight(trits=codes_of(matrix, where).astype(np.int8), scale=float(np.float32(scale[0].flat[0])))


def read_grouped(matrix, scale, zero, form, where):
    bits, centre, group = form
    n, k = matrix.values.shape
    shape = n, -(-k // group)
    with legal(where):
        if zero is not None or centre != 1 << (bits - 1):
            value = np.zeros((1, 1), np.int32) if zero is None else zero[0].astype(np.int32)
            zero = np.broadcast_to(value + centre, shape).astype(np.uint8)
        return GroupedWeight(
            codes=np.ascontiguousarray(codes_of(matrix, where) + centre).astype(np.uint8), bits=bits, zero=zero,
            scale=np.ascontiguousarray(np.broadcast_to(scale[0], shape), np.float32), scale_group=group, format=matrix.form,
        )  # fmt: skip


class legal:
    """A weight's own errors name the file."""

    def __init__(self, where):
        self.where = where

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind in (ValueError, TypeError):
            raise InputError(self.where, "weights", "make a legal matrix", str(error)) from None
