"""The header of a GGUF file, versions 2 and 3, little-endian: metadata and where each tensor lies.

Written to be shown hostile files: every count, length, offset and size is checked against the file before it is used, so a claim
costs no more memory or time than the bytes that back it. The format is ggml's ``gguf.md``; type names and block sizes come from
the `gguf` package.
"""

import itertools
import math
import struct
from dataclasses import dataclass, replace

from gguf.constants import GGML_QUANT_SIZES, GGUFValueType

from ..formats import i2_s
from ..spec.errors import InputError
from .files import Cursor, check_name

__all__ = ["I2_S", "GgufTensor", "read_header"]

MAGIC_BYTES = 4
VERSIONS = (2, 3)
I2_S = 36  # only in bitnet.cpp's copy of ggml; upstream has no such type
DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 20
MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 17
MAX_KEY_BYTES = (1 << 16) - 1
MAX_TEXT_BYTES = 1 << 20
MAX_DIMS = 4
MAX_ELEMENTS = (1 << 63) - 1
MAX_ARRAY = 1 << 40  # numbers; they are skipped as a whole
MAX_ITEMS = 1 << 22  # strings and arrays inside arrays, over the whole file; they are visited one by one
MAX_DEPTH = 4
MIN_KEY_BYTES = 8 + 1 + 4 + 1
MIN_TENSOR_BYTES = 8 + 1 + 4 + 4 + 8

NUMBERS = {
    GGUFValueType.UINT8: struct.Struct("<B"),
    GGUFValueType.INT8: struct.Struct("<b"),
    GGUFValueType.UINT16: struct.Struct("<H"),
    GGUFValueType.INT16: struct.Struct("<h"),
    GGUFValueType.UINT32: struct.Struct("<I"),
    GGUFValueType.INT32: struct.Struct("<i"),
    GGUFValueType.FLOAT32: struct.Struct("<f"),
    GGUFValueType.BOOL: struct.Struct("<?"),
    GGUFValueType.UINT64: struct.Struct("<Q"),
    GGUFValueType.INT64: struct.Struct("<q"),
    GGUFValueType.FLOAT64: struct.Struct("<d"),
}
SIZES = {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}


@dataclass(frozen=True, kw_only=True)
class GgufTensor:
    """A tensor's place: ``shape`` in NumPy order; ``start`` from the beginning of the file; ``nbytes`` 0 for an unknown type."""

    name: str
    type_id: int
    type_name: str
    shape: tuple[int, ...]
    start: int
    nbytes: int


def read_header(data, where, lists=()):
    """``(metadata, tensors)`` of ``data`` (uint8 array), a file that begins with "GGUF"; tensors are GgufTensor in its order.

    Metadata holds numbers, booleans and strings, and under the keys in ``lists`` flat arrays of these; other arrays are checked
    and left out. InputError at ``where`` for anything unsound.
    """
    cursor = Cursor(data, where)
    cursor.skip(MAGIC_BYTES, "magic")
    version = cursor.u32("version")
    if version not in VERSIONS:
        raise InputError(where, "version", "be 2 or 3, little-endian", version)
    tensor_count = cursor.count("tensor count", MAX_TENSORS, MIN_TENSOR_BYTES)
    key_count = cursor.count("key count", MAX_KEYS, MIN_KEY_BYTES)
    metadata = read_metadata(cursor, key_count, where, lists)
    alignment = read_alignment(metadata, where)
    tensors = [read_tensor(cursor, where, alignment) for _ in range(tensor_count)]
    base = -(-cursor.pos // alignment) * alignment
    return metadata, place(tensors, base, len(data), where)


def read_metadata(cursor, count, where, lists):
    values, seen, budget = {}, set(), [MAX_ITEMS]
    for _ in range(count):
        key = check_name(cursor.text("key", MAX_KEY_BYTES), where, "key")
        if key in seen:
            raise InputError(where, "keys", "be given once each", key)
        seen.add(key)
        kind = value_type(cursor, key, where)
        if kind is GGUFValueType.ARRAY and key in lists:
            values[key] = read_list(cursor, key, where, budget)
        elif kind is GGUFValueType.ARRAY:
            skip_array(cursor, key, where, budget, 1)
        elif kind is GGUFValueType.STRING:
            values[key] = cursor.text(key, MAX_TEXT_BYTES)
        else:
            values[key] = cursor.unpack(NUMBERS[kind], key)
    return values


def value_type(cursor, key, where):
    number = cursor.u32(f"type of {key}")
    try:
        return GGUFValueType(number)
    except ValueError:
        raise InputError(where, f"type of {key}", "be a GGUF value type (0..12)", number) from None


def read_list(cursor, key, where, budget):
    """A flat array as a list; ``budget`` as for :func:`skip_array`."""
    kind = value_type(cursor, key, where)
    if kind is GGUFValueType.ARRAY:
        raise InputError(where, key, "be a flat array", "arrays in it")
    size = NUMBERS[kind].size if kind in NUMBERS else cursor.U64.size
    count = cursor.count(f"length of {key}", budget[0], size)
    budget[0] -= count
    if kind in NUMBERS:
        return [cursor.unpack(NUMBERS[kind], key) for _ in range(count)]
    return [cursor.text(key, MAX_TEXT_BYTES) for _ in range(count)]


def skip_array(cursor, key, where, budget, depth):
    """Passes over an array, checking it; ``budget`` is the number of items that the file may still have visited one by one."""
    if depth > MAX_DEPTH:
        raise InputError(where, key, f"nest arrays at most {MAX_DEPTH} deep", depth)
    kind = value_type(cursor, key, where)
    field = f"length of {key}"
    if kind in NUMBERS:
        cursor.skip(NUMBERS[kind].size * cursor.count(field, MAX_ARRAY, NUMBERS[kind].size), key)
        return
    count = cursor.count(field, budget[0], cursor.U64.size)
    budget[0] -= count
    for _ in range(count):
        if kind is GGUFValueType.ARRAY:
            skip_array(cursor, key, where, budget, depth + 1)
        else:
            cursor.skip(cursor.u64(key), key)


def read_alignment(metadata, where):
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(value) is not int or not 0 < value <= MAX_ALIGNMENT or value & (value - 1):
        raise InputError(where, "general.alignment", f"be a power of two up to {MAX_ALIGNMENT}", value)
    return value


def read_tensor(cursor, where, alignment):
    """A GgufTensor whose ``start`` is still relative to the data section."""
    name = check_name(cursor.text("tensor name", MAX_KEY_BYTES), where, "tensor name")
    dims = cursor.u32(f"dimension count of {name}")
    if dims > MAX_DIMS:
        raise InputError(where, f"dimension count of {name}", f"be at most {MAX_DIMS}", dims)
    shape = tuple(reversed([cursor.u64(f"shape of {name}") for _ in range(dims)]))
    if 0 in shape:
        raise InputError(where, f"shape of {name}", "have no dimension of 0", shape)
    type_id = cursor.u32(f"type of {name}")
    offset = cursor.u64(f"offset of {name}")
    if offset % alignment:
        raise InputError(where, f"offset of {name}", f"be a multiple of {alignment}", offset)
    type_name, nbytes = size_of(type_id, shape, where, name)
    return GgufTensor(name=name, type_id=type_id, type_name=type_name, shape=shape, start=offset, nbytes=nbytes)


def size_of(type_id, shape, where, name):
    """``(type name, bytes)`` of a tensor; the bytes are 0 where the type is not known."""
    elements = math.prod(shape)
    if elements > MAX_ELEMENTS:
        raise InputError(where, f"shape of {name}", f"hold at most {MAX_ELEMENTS} elements", shape)
    if type_id == I2_S:
        return "I2_S", i2_s.stored_bytes(1, elements)
    if type_id not in SIZES:
        return f"type {type_id}", 0
    type_name, block, block_bytes = SIZES[type_id]
    if shape and shape[-1] % block or not shape and block > 1:
        raise InputError(where, f"row length of {name}", f"be a multiple of {block} for {type_name}", shape)
    return type_name, elements // block * block_bytes


def place(tensors, base, file_bytes, where):
    """The tensors with ``start`` from the beginning of the file; InputError unless they lie inside it, apart, under own names."""
    placed, names = [], set()
    for tensor in tensors:
        if tensor.name in names:
            raise InputError(where, "tensor names", "be given once each", tensor.name)
        names.add(tensor.name)
        start = base + tensor.start
        if start + tensor.nbytes > file_bytes:
            rule = f"end within the file of {file_bytes} bytes"
            raise InputError(where, f"data of {tensor.name}", rule, f"{tensor.nbytes} bytes at offset {start}")
        placed.append(replace(tensor, start=start))
    in_order = sorted((t for t in placed if t.nbytes), key=lambda t: t.start)
    for before, after in itertools.pairwise(in_order):
        if before.start + before.nbytes > after.start:
            raise InputError(where, f"data of {after.name}", f"begin after the data of {before.name}", f"offset {after.start}")
    return placed
