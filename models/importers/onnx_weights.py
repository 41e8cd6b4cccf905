"""Matrices of ONNX files as weights that an engine takes, or the reason why none does."""

from functools import partial

import numpy as np

from ..formats.quantize import quantize_groups
from ..graph import GroupedForm, GroupedWeight, StoredWeight, TernaryWeight
from ..spec.errors import InputError
from .layers import FLOAT_REASON
from .onnx_matrix import BIPOLAR, CODES, FLOAT, QUANT, spread

__all__ = ["quantised", "weight_of"]

WIDTHS = (2, 3, 4, 8)  # of a grouped weight's codes
MAX_BITS = 8
TERNARY_BITS = 2
PER_INPUT = "a scale or zero point for each input cannot leave the sum: have one for each output, or for blocks of inputs"


def weight_of(matrix, nbytes, where, float_weights=None):
    """``(weight or None, reason)`` for a Matrix [n, k] that takes ``nbytes`` of the file; ``where`` is for messages.

    A weight's values are checked when it is loaded. Codes that need fewer bits than they are stored in are taken with fewer. InputError for a quantiser that is no quantiser.
    """
    n, k = matrix.values.shape
    stored = partial(StoredWeight, n=n, k=k, nbytes=nbytes)
    if matrix.kind == FLOAT:
        if float_weights is None:
            return None, FLOAT_REASON
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
    limits, reason = code_limits(matrix, where)
    if reason:
        return None, reason
    low, high = limits
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


def code_limits(matrix, where):
    """``((least, largest code), reason)``."""
    if matrix.kind == CODES:
        return (int(matrix.values.min()), int(matrix.values.max())), ""
    if matrix.kind == BIPOLAR:
        return (-1, 1), ""
    if not matrix.quantiser.bits.is_integer() or not 1 <= matrix.quantiser.bits <= MAX_BITS:
        return None, f"Quant weights of {matrix.quantiser.bits:g} bits: engines take 1 to {MAX_BITS}, whole"
    return limits_of(matrix.quantiser), ""


def limits_of(quantiser):
    """(least, largest) code of a QONNX Quant."""
    bits, narrow = int(quantiser.bits), int(quantiser.narrow)
    if quantiser.signed:
        return (-1, 1) if bits == 1 else (narrow - (1 << (bits - 1)), (1 << (bits - 1)) - 1)
    return 0, (1 << bits) - 1 - narrow


def width(low, high):
    """``(bits, centre)``: the code of a value is value + centre; (0, 0) if there is no width that holds them."""
    for bits in WIDTHS:
        if -(1 << (bits - 1)) <= low and high < 1 << (bits - 1):
            return bits, 1 << (bits - 1)
        if low >= 0 and high < 1 << bits:
            return bits, 0
    return 0, 0


ROUNDINGS = {
    "ROUND": np.rint, "HALF_EVEN": np.rint, "CEIL": np.ceil, "FLOOR": np.floor, "DOWN": np.trunc, "ROUND_TO_ZERO": np.trunc,
    "UP": lambda x: np.copysign(np.ceil(np.abs(x)), x),
    "HALF_UP": lambda x: np.copysign(np.floor(np.abs(x) + np.float32(0.5)), x),
    "HALF_DOWN": lambda x: np.copysign(np.ceil(np.abs(x) - np.float32(0.5)), x),
}  # fmt: skip


def quantised(values, scale, zero, quantiser, where):
    """QONNX's codes of float values, as float32: clamped, then rounded. InputError for a rounding mode that is not known."""
    if quantiser.rounding not in ROUNDINGS:
        raise InputError(where, "rounding_mode", f"be one of {', '.join(ROUNDINGS)}", quantiser.rounding)
    with np.errstate(all="ignore"):
        x = np.asarray(values, np.float32) / np.asarray(scale, np.float32) + np.asarray(zero, np.float32)
        if quantiser.signed and quantiser.bits == 1:
            return np.where(x >= 0, np.float32(1), np.float32(-1))
        return ROUNDINGS[quantiser.rounding](np.clip(x, *map(np.float32, limits_of(quantiser))))


def codes_of(matrix, where):
    """Integers [n, k] of the matrix, int32."""
    if matrix.kind == BIPOLAR:
        codes = np.where(matrix.values >= 0, 1, -1)
    elif matrix.kind == QUANT:
        codes = quantised(matrix.values, matrix.scale, matrix.zero, matrix.quantiser, where)
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
            value = np.zeros((1, 1)) if zero is None else zero[0]
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
