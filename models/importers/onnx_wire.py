"""An ONNX file's protobuf bytes, walked before they are parsed: how many fields there are, how deep, and that all are whole.

A parsed message takes a hundred times the bytes of an empty one in the file. So what a hostile file can take of memory is bounded
here, by the count of its fields, before the parser sees it.
"""

from ..spec.errors import InputError

__all__ = ["check_wire", "is_onnx"]

MAX_BYTES = (1 << 31) - 1  # of any protobuf message
MAX_FIELDS = 1 << 21
MAX_DEPTH = 64
IR_VERSION = 0x08  # the tag of a model's first field
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# message -> {field: message within}; the other fields are numbers, texts, bytes, or packed lists
MESSAGES = {
    "model": {7: "graph", 8: "entry", 14: "entry", 20: "training", 25: "function", 26: "entry"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 14: "annotation", 15: "sparse", 16: "entry"},
    "node": {5: "attribute", 9: "entry", 10: "devices"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 14: "type", 15: "type", 22: "sparse", 23: "sparse"},
    "tensor": {3: "entry", 13: "entry", 16: "entry"},
    "sparse": {1: "tensor", 2: "tensor"},
    "value": {2: "type", 4: "entry"},
    "type": {1: "tensor type", 4: "element", 5: "map", 7: "entry", 8: "tensor type", 9: "element"},
    "tensor type": {2: "shape"},
    "shape": {1: "entry"},
    "element": {1: "type"},
    "map": {2: "type"},
    "annotation": {2: "entry"},
    "function": {7: "node", 9: "entry", 11: "attribute", 12: "value", 14: "entry"},
    "training": {1: "graph", 2: "graph", 3: "entry", 4: "entry"},
    "devices": {2: "sharding"},
    "sharding": {3: "entry", 4: "dimension"},
    "dimension": {2: "entry"},
    "entry": {},
}


def is_onnx(data):
    """Whether ``data`` (uint8 array) begins as an ONNX model does: with the version of its format, a number below 128."""
    return len(data) > 2 and data[0] == IR_VERSION and 0 < data[1] < 128


def check_wire(data, where):
    """InputError at ``where`` unless ``data`` (uint8 array) is a whole model of at most MAX_FIELDS fields."""
    if len(data) > MAX_BYTES:
        raise InputError(where, "file", f"be at most {MAX_BYTES} bytes, with larger tensors in files beside it", len(data))
    view = memoryview(data)
    left = MAX_FIELDS
    todo = [("model", 0, len(view), 0)]
    while todo:
        kind, at, end, depth = todo.pop()
        if depth > MAX_DEPTH:
            raise InputError(where, f"{kind} at byte {at}", "be nested less deep", depth)
        within = MESSAGES[kind]
        while at < end:
            start = at
            tag, at = varint(view, at, end, where)
            field, wire = tag >> 3, tag & 7
            if wire == BYTES:
                size, at = varint(view, at, end, where)
                if field in within and size <= end - at:
                    todo.append((within[field], at, at + size, depth + 1))
                at += size
            elif wire == VARINT:
                _, at = varint(view, at, end, where)
            elif wire in (FIXED64, FIXED32):
                at += 8 if wire == FIXED64 else 4
            else:
                raise InputError(where, f"{kind} at byte {start}", "be made of protobuf fields", f"wire type {wire}")
            if at > end or not field:
                raise InputError(where, f"{kind} at byte {start}", f"end by byte {end}", f"field {field} to byte {at}")
            left -= 1
            if left < 0:
                raise InputError(where, "file", f"have at most {MAX_FIELDS} fields", "more")


def varint(view, at, end, where):
    """``(value, place behind it)`` of the number at ``at``."""
    value = shift = 0
    for place in range(at, min(end, at + 10)):
        byte = view[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise InputError(where, f"number at byte {at}", f"end by byte {end}, within ten bytes", "more")
