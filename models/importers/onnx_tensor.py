"""Tensors of ONNX files as NumPy arrays: sizes checked against the bytes that are there before anything is made of them."""

import math
import os
from pathlib import Path

import numpy as np

from ..spec.errors import InputError
from .files import check_name, map_file

__all__ = ["DTYPES", "as_text", "read_tensor", "stored_bytes"]

MAX_DIMS = 16
MAX_SIZE = 1 << 40
EXTERNAL = 1
# ONNX's number of a type -> its name, how it is stored, and the field of the message that holds values which are not raw
TYPES = {
    1: ("float32", "<f4", "float_data"), 2: ("uint8", "u1", "int32_data"), 3: ("int8", "i1", "int32_data"),
    4: ("uint16", "<u2", "int32_data"), 5: ("int16", "<i2", "int32_data"), 6: ("int32", "<i4", "int32_data"),
    7: ("int64", "<i8", "int64_data"), 9: ("bool", "?", "int32_data"), 10: ("float16", "<f2", "int32_data"),
    11: ("float64", "<f8", "double_data"), 12: ("uint32", "<u4", "uint64_data"), 13: ("uint64", "<u8", "uint64_data"),
    16: ("bfloat16", "<u2", "int32_data"), 21: ("uint4", "u1", "int32_data"), 22: ("int4", "i1", "int32_data"),
}  # fmt: skip
DTYPES = {number: name for number, (name, _, _) in TYPES.items()}
LISTS = {"int32_data": np.int32, "int64_data": np.int64, "uint64_data": np.uint64}
BITS_16 = ("float16", "bfloat16")
NIBBLES = ("uint4", "int4")
STRING = 8


def read_tensor(tensor, name, path):
    """The array of a message ``tensor`` of the file ``path``; int4 and uint4 become int8 and uint8, bfloat16 float32.

    InputError for anything unsound: a type that is not known, sizes that do not fit the bytes, a file outside the folder.
    """
    where = f"{path}: {name}"
    shape = tuple(tensor.dims)
    if len(shape) > MAX_DIMS or min(shape, default=0) < 0 or math.prod(shape) > MAX_SIZE:
        raise InputError(where, "shape", f"be at most {MAX_DIMS} sizes of 0 or more, {MAX_SIZE} elements in all", list(shape))
    if tensor.data_type == STRING:
        return texts(tensor, shape, where)
    if tensor.data_type not in TYPES:
        raise InputError(where, "type", f"be one of {', '.join(DTYPES.values())}", tensor.data_type)
    dtype, stored, field = TYPES[tensor.data_type]
    count = math.prod(shape)
    if tensor.HasField("segment"):
        raise InputError(where, "segment", "be absent: whole tensors alone are read", "one")
    if tensor.data_location == EXTERNAL:
        raw = external(tensor, nbytes_of(dtype, stored, count), path, where)
    elif tensor.HasField("raw_data"):
        raw = np.frombuffer(tensor.raw_data, np.uint8)
    else:
        raw = typed(getattr(tensor, field), field, dtype, stored, count, where)
    want = nbytes_of(dtype, stored, count)
    if len(raw) != want:
        raise InputError(where, "data", f"be {want} bytes, as {dtype} {list(shape)} has them", len(raw))
    if dtype in NIBBLES:
        return nibbles(raw, dtype, count).reshape(shape)
    if dtype == "bfloat16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if dtype == "bool" and (np.asarray(raw) > 1).any():
        raise InputError(where, "data", "be 0 or 1 in a bool tensor", int(np.max(raw)))
    return np.frombuffer(raw, stored).astype(stored[-2:], copy=False).reshape(shape)


def stored_bytes(tensor, array):
    """The bytes of a tensor in its file, given the array that was read from it."""
    dtype, stored, _ = TYPES.get(tensor.data_type, (array.dtype.name, array.dtype.str, ""))
    return nbytes_of(dtype, stored, array.size)


def nbytes_of(dtype, stored, count):
    return -(-count // 2) if dtype in NIBBLES else count * np.dtype(stored).itemsize


def typed(values, field, dtype, stored, count, where):
    """uint8 bytes of values from a list of the message: bits of 16-bit floats and pairs of 4-bit integers come as integers."""
    want = -(-count // 2) if dtype in NIBBLES else count
    if len(values) != want:
        raise InputError(where, "data", f"be {want} values", len(values))
    kind = "<u2" if dtype in BITS_16 else "u1" if dtype in NIBBLES or dtype == "bool" else stored
    array = np.array(values, LISTS.get(field, kind))
    if np.dtype(kind).kind in "iu" and array.size:
        limits = np.iinfo(kind)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise InputError(where, "data", f"be {limits.min}..{limits.max}", int(array[np.argmax(np.abs(array))]))
    return np.frombuffer(array.astype(kind).tobytes(), np.uint8)


def nibbles(raw, dtype, count):
    """Two elements a byte, the first in the low half. The array's dtype keeps the four bits in its metadata."""
    pairs = np.stack([raw & 15, raw >> 4], axis=-1).reshape(-1)[:count].astype(np.uint8)
    values = pairs if dtype == "uint4" else (pairs ^ 8).astype(np.int8) - np.int8(8)
    return values.view(np.dtype(values.dtype, metadata={"bits": 4}))


def texts(tensor, shape, where):
    values = list(tensor.string_data)
    if len(values) != math.prod(shape):
        raise InputError(where, "data", f"be {math.prod(shape)} texts", len(values))
    array = np.empty(len(values), object)
    array[:] = [as_text(bytes(value)) for value in values]
    return array.reshape(shape)


def as_text(value):
    """A text of a message, which comes as bytes if it is no UTF-8."""
    return value if isinstance(value, str) else value.decode(errors="replace")


def external(tensor, want, path, where):
    """The bytes of a tensor that lies in another file: in the folder of ``path`` or below it, and nowhere else."""
    told = {as_text(entry.key): as_text(entry.value) for entry in tensor.external_data}
    location = check_name(told.get("location", ""), where, "location of the data")
    if "\\" in location or location.startswith("/") or ":" in location:
        raise InputError(where, "location of the data", "be a path below the model's folder", location)
    folder = os.path.realpath(Path(path).parent)
    place = os.path.realpath(Path(folder) / location)
    if os.path.commonpath([folder, place]) != folder:
        raise InputError(where, "location of the data", "stay in the model's folder", location)
    numbers = {}
    for key in ("offset", "length"):
        text = told.get(key, "0" if key == "offset" else str(want))
        if not text.isascii() or not text.isdigit() or len(text) > 15:
            raise InputError(where, f"{key} of the data", "be a number of bytes", text)
        numbers[key] = int(text)
    if numbers["length"] != want:
        raise InputError(where, "length of the data", f"be {want} bytes, as the tensor has", numbers["length"])
    if not want:
        return np.zeros(0, np.uint8)
    data = map_file(place)
    if numbers["offset"] + want > len(data):
        raise InputError(where, "data", f"end within the {len(data)} bytes of {location}", numbers["offset"] + want)
    return data[numbers["offset"] : numbers["offset"] + want]
