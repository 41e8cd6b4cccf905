"""A GGUF language model as it computes in floating point: every tensor as float32, and the lists that make its tokenizer."""

import math

import gguf
import numpy as np

from ..spec.errors import InputError
from .files import map_file
from .gguf_header import read_header

__all__ = ["read_floats"]

MAGIC = b"GGUF"
LISTS = tuple(f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", "merges"))


def read_floats(path):
    """``(metadata, tensors)``: the keys with their values, of arrays those of the tokenizer; every tensor in NumPy order.

    Tensors of any type that the ``gguf`` package dequantises. InputError for an unsound file, another type, or NaN.
    """
    data = map_file(path)
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise InputError(path, "file", "be GGUF", bytes(data[: len(MAGIC)]))
    metadata, tensors = read_header(data, path, LISTS)
    return metadata, {tensor.name: values_of(tensor, data, path) for tensor in tensors}


def values_of(tensor, data, where):
    """The float32 array of a tensor."""
    rows = data[tensor.start : tensor.start + tensor.nbytes].reshape(math.prod(tensor.shape[:-1]), -1)
    try:
        values = gguf.dequantize(rows, gguf.GGMLQuantizationType(tensor.type_id))
    except (NotImplementedError, ValueError):
        raise InputError(where, tensor.name, "be of a type that the gguf package dequantises", tensor.type_name) from None
    values = np.array(values, np.float32).reshape(tensor.shape)
    if not np.isfinite(values).all():
        raise InputError(where, tensor.name, "hold finite numbers", "NaN or infinity")
    return values
