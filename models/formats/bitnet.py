"""The packed BitNet weights of Hugging Face transformers: 2 bits a trit along the output features, one scale a tensor.

``packed`` is uint8 ``[r, k]`` with r = ceil(n / 4): row i*r + j of the matrix is bits 2i+1:2i of row j. When n is not a multiple
of 4 the last rows that unpack are padding (code 0): they are dropped, so n must be known from elsewhere.

The scale comes in **two opposite conventions**. The packed ``BitLinear`` divides by it (weight_scale = 1 / mean|W|),
``AutoBitLinear`` multiplies (weight_scale = mean|W|), a bias included: y = (acc + bias) * weight_scale, where ``BitLinear``
adds its bias last. The bytes do not say which: the model's configuration does.
"""

import numpy as np

from ..spec.errors import InputError, check_choice
from .trits import as_bytes, check_shape, check_trits, reject_code_3

__all__ = ["CONVENTIONS", "pack", "scale_of", "unpack", "weight_scale_of"]

PER_BYTE = 4
CONVENTIONS = {"divide": "packed BitLinear: y = acc / weight_scale", "multiply": "AutoBitLinear: y = acc * weight_scale"}
CHUNK = 1 << 18  # bytes at a time, so that temporaries stay in cache


def pack(trits):
    """``packed`` uint8 ``[ceil(n/4), k]`` of ``trits`` int8 ``[n, k]``; TypeError or ValueError for anything else."""
    n, k = check_trits(trits).shape
    rows = -(-n // PER_BYTE)
    codes = np.ascontiguousarray(trits).view(np.uint8)
    packed = np.zeros((rows, k), np.uint8)
    step = max(1, CHUNK // k)
    for at in range(0, rows, step):
        part = packed[at : min(at + step, rows)]
        for i in range(PER_BYTE):
            c = codes[i * rows + at : min(i * rows + at + len(part), n)]
            part[: len(c)] |= (c + np.uint8(1)) << 2 * i
    return packed


def unpack(packed, shape, where="packed weight"):
    """``trits`` int8 ``[n, k]`` of ``packed``, ceil(n/4)*k bytes; InputError (at ``where``) for a wrong size or code 3."""
    n, k = check_shape(shape)
    rows = -(-n // PER_BYTE)
    packed = as_bytes(packed, rows * k, where).reshape(rows, k)
    trits = np.empty((n, k), np.int8)
    codes = trits.view(np.uint8)
    step = max(1, CHUNK // k)
    for at in range(0, rows, step):
        p = packed[at : at + step]
        reject_code_3(p, where, lambda r, c, at=at: f"byte [{at + r}, {c}]")
        for i in range(PER_BYTE):
            out = codes[i * rows + at : min(i * rows + at + len(p), n)]
            np.subtract((p[: len(out)] >> 2 * i) & 3, 1, out=out)
    return trits


def scale_of(weight_scale, convention, where="weight_scale"):
    """The factor s of w = s * trit from a stored ``weight_scale``; ``convention`` is a key of :data:`CONVENTIONS`.

    InputError (at ``where``) unless the scale is finite and positive.
    """
    check_choice("convention", convention, CONVENTIONS)
    weight_scale = float(weight_scale)
    if not (np.isfinite(weight_scale) and weight_scale > 0):
        raise InputError(where, "weight_scale", "be finite and positive", weight_scale)
    return weight_scale if convention == "multiply" else 1.0 / weight_scale


def weight_scale_of(scale, convention):
    """The ``weight_scale`` to store for w = ``scale`` * trit; the inverse of :func:`scale_of`."""
    return scale_of(scale, convention, "scale")
