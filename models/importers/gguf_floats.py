"""Any GGUF file as float32 arrays, through the ``gguf`` package's own reader and dequantisers: the reference to hold ours to."""

import gguf
import numpy as np

from ..spec.errors import InputError
from .files import map_file
from .gguf_header import read_header

__all__ = ["read_floats"]


def read_floats(path):
    """``(metadata, tensors)``: every key with its value, arrays included, and every tensor as float32 in NumPy order.

    The file's structure is checked before the package reads it; InputError for an unsound file or a type that it cannot read.
    """
    data = map_file(path)
    if bytes(data[:4]) != b"GGUF":
        raise InputError(path, "file", "be GGUF", bytes(data[:4]))
    read_header(data, path)
    reader = gguf.GGUFReader(path)
    metadata = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    tensors = {}
    for tensor in reader.tensors:
        try:
            values = gguf.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError:
            raise InputError(path, tensor.name, "be of a type that the gguf package reads", tensor.tensor_type.name) from None
        tensors[tensor.name] = np.ascontiguousarray(values, np.float32)
        if not np.isfinite(tensors[tensor.name]).all():
            raise InputError(path, tensor.name, "hold finite numbers", "NaN or infinity")
    return metadata, tensors
