"""The header of a safetensors file: which tensor lies where, checked against the file before anything is read.

Layout: a u64 length, that many bytes of JSON ``{name: {dtype, shape, data_offsets}}``, then the data, which the tensors cover
without holes or overlap. As the format's own specification demands, plus a bound on the header's size.
"""

import math
from dataclasses import dataclass

from ..spec.errors import InputError
from .files import Cursor, check_name, parse_json

__all__ = ["StoredTensor", "is_safetensors", "read_header"]

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 1 << 24
MAX_DIMS = 8
MAX_OFFSET = 1 << 62
ENTRY_KEYS = {"dtype", "shape", "data_offsets"}
METADATA = "__metadata__"
BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
BITS |= dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8)
BITS |= dict.fromkeys(("U16", "I16", "F16", "BF16"), 16)
BITS |= dict.fromkeys(("U32", "I32", "F32"), 32)
BITS |= dict.fromkeys(("U64", "I64", "F64", "C64"), 64)


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A tensor's place: ``start`` from the beginning of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int


def is_safetensors(data):
    """Whether ``data`` (uint8 array) begins as a safetensors file does: a length below 2^40, then an opening brace."""
    head = bytes(data[: LENGTH_BYTES + 1])
    return head[5:LENGTH_BYTES] == bytes(3) and head[LENGTH_BYTES:] == b"{"


def read_header(data, where):
    """``(metadata, tensors)`` of the file ``data`` (uint8 array): a dict of strings, and StoredTensors in the order of the data.

    InputError at ``where`` for anything unsound.
    """
    cursor = Cursor(data, where)
    length = cursor.count("header length", MAX_HEADER_BYTES, 1)
    header = parse_json(data[LENGTH_BYTES : LENGTH_BYTES + length], where, "header")
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InputError(where, METADATA, "be an object of strings", metadata)
    base = LENGTH_BYTES + length
    tensors = [read_entry(name, entry, base, where) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.nbytes))
    cover(tensors, base, len(data), where)
    return metadata, tensors


def read_entry(name, entry, base, where):
    check_name(name, where, "tensor name")
    if not isinstance(entry, dict) or set(entry) != ENTRY_KEYS:
        raise InputError(where, f"entry of {name}", "have exactly dtype, shape and data_offsets", entry)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise InputError(where, f"dtype of {name}", f"be one of {', '.join(BITS)}", dtype)
    if not is_counts(shape) or len(shape) > MAX_DIMS:
        raise InputError(where, f"shape of {name}", f"be at most {MAX_DIMS} integers of 0 or more", shape)
    if not is_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise InputError(where, f"data_offsets of {name}", "be two integers, 0 <= begin <= end", offsets)
    bits = math.prod(shape) * BITS[dtype]
    if bits % 8 or bits // 8 != offsets[1] - offsets[0]:
        raise InputError(where, f"data_offsets of {name}", f"span the {bits} bits of {dtype} {shape}", offsets)
    return StoredTensor(name=name, dtype=dtype, shape=tuple(shape), start=base + offsets[0], nbytes=bits // 8)


def is_counts(value):
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= MAX_OFFSET for item in value)


def cover(tensors, base, file_bytes, where):
    """InputError unless the tensors, sorted, cover the bytes from ``base`` to the end of the file once each."""
    end = base
    for tensor in tensors:
        if tensor.start != end:
            raise InputError(
                where,
                f"data_offsets of {tensor.name}",
                f"begin at {end - base}, where the tensor before ends",
                tensor.start - base,
            )
        end += tensor.nbytes
    if end != file_bytes:
        raise InputError(where, "data", f"end at byte {end}, where its last tensor does", f"a file of {file_bytes} bytes")
