"""GGUF headers put together byte by byte: what must be read, and every unsound claim refused in one line."""

import struct

import numpy as np
import pytest

from sparseloom.models.formats import i2_s
from sparseloom.models.importers import gguf_header, load
from sparseloom.models.importers.gguf_header import read_header
from sparseloom.models.spec.errors import InputError

F32, TQ2_0, I2_S = 0, 35, 36
UINT8, UINT32, STRING, ARRAY = 0, 4, 8, 9


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def key(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def array(kind, count, items=b""):
    return struct.pack("<IQ", kind, count) + items


def tensor(name="a", shape=(4,), kind=F32, offset=0):
    """``shape`` in the order of the file: the row length first."""
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def build(keys=(), tensors=(), data=b"", *, version=3, counts=None, magic=b"GGUF", alignment=32):
    count = counts or (len(tensors), len(keys))
    head = magic + struct.pack("<IQQ", version, *count) + b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data


def header_of(content):
    return read_header(np.frombuffer(content, np.uint8), "m")


@pytest.mark.parametrize("version", [2, 3])
def test_the_smallest_files(version):
    assert header_of(build(version=version)) == ({}, [])
    metadata, (found,) = header_of(build([key("n", UINT32, struct.pack("<I", 7))], [tensor()], bytes(16), version=version))
    assert metadata == {"n": 7} and (found.name, found.shape, found.nbytes) == ("a", (4,), 16)


def test_shapes_are_in_numpy_order_and_data_begins_aligned():
    content = build([], [tensor("a", (4, 3)), tensor("b", (), F32, 64)], bytes(68))
    assert [(t.shape, t.nbytes) for t in header_of(content)[1]] == [((3, 4), 48), ((), 4)]
    align = key("general.alignment", UINT32, struct.pack("<I", 1024))
    (found,) = header_of(build([align], [tensor(offset=1024)], bytes(2048), alignment=1024))[1]
    assert found.start == 2048


def test_arrays_are_passed_over():
    nested = array(ARRAY, 2, array(UINT8, 3, b"abc") + array(STRING, 1, text("x")))
    keys = [key("a", ARRAY, array(STRING, 2, text("x") + text(b"\xff"))), key("b", ARRAY, nested), key("c", STRING, text("end"))]
    assert header_of(build(keys)) == ({"c": "end"}, [])


def test_types_that_are_not_known_are_listed(tmp_path):
    (tmp_path / "m").write_bytes(build([], [tensor("a", (64, 2), 99), tensor("b", (4,), F32, 0)], bytes(16)))
    layer = load(tmp_path / "m")["a"]
    assert (layer.format, layer.runs_on, layer.reason) == ("type 99", "unsupported", "no engine takes type 99 weights")


def test_i2_s_only_by_request(tmp_path):
    """No package writes I2_S: the bytes are ours, their layout held by a loop of its own; type 36 as bitnet.cpp numbers it."""
    trits = np.random.default_rng(6).integers(-1, 2, (16, 64), np.int8)
    data = i2_s.pack(trits, 0.75).tobytes()
    assert len(data) == 288
    (tmp_path / "m").write_bytes(build([], [tensor("w", (64, 16), I2_S), tensor("b", (4,), F32, 288)], data + bytes(16)))
    layer = load(tmp_path / "m")["w"]
    assert (layer.format, layer.nbytes, layer.runs_on) == ("I2_S", 288, "unsupported") and "pass i2_s='x86'" in layer.reason
    layer = load(tmp_path / "m", i2_s="x86")["w"]
    weight = layer.weight.load()
    assert layer.runs_on == "engine" and np.array_equal(weight.trits, trits) and weight.scale == 0.75
    with pytest.raises(ValueError, match="i2_s must be one of x86, got 'arm'"):
        load(tmp_path / "m", i2_s="arm")


def test_parts_of_a_split_model_are_refused(tmp_path):
    (tmp_path / "m").write_bytes(build([key("split.count", UINT32, struct.pack("<I", 2))]))
    with pytest.raises(InputError, match="split.count must be 1: join the parts of a split file first, got 2"):
        load(tmp_path / "m")


def align(value, kind=UINT32, form="<I"):
    return [key("general.alignment", kind, struct.pack(form, value))]


HUGE = 1 << 40
TWO = [tensor("a"), tensor("b", offset=32)]


@pytest.mark.parametrize(
    "content, rule",
    [
        (b"GGUF", "version must end within the file of 4 bytes, got '4 bytes at offset 4'"),
        (build(version=1), "version must be 2 or 3, little-endian, got 1"),
        (build(version=3 << 24), "version must be 2 or 3, little-endian"),
        (build(counts=(HUGE, 0)), "tensor count must be at most 131072"),
        (build(counts=(1000, 0)), "tensor count must fit in the 16 bytes that follow, got 1000"),
        (build(counts=(0, HUGE)), "key count must be at most 65536"),
        (build(counts=(0, 65536)), "key count must fit in"),
        (build([text("a") + bytes(3)], counts=(0, 1), alignment=1), "key count must fit in the 12 bytes that follow, got 1"),
        (build([text("abcdef")], counts=(0, 1), alignment=1), "type of abcdef must end within the file"),
        (build([key("a", 13, b"")]), r"type of a must be a GGUF value type \(0..12\), got 13"),
        (build([key("a", ARRAY, array(13, 1))]), "type of a must be a GGUF value type"),
        (build([key("a", STRING, struct.pack("<Q", HUGE))]), "length of a must be at most 1048576"),
        (build([key("a", STRING, struct.pack("<Q", 1000))]), "length of a must fit in"),
        (build([key("a", STRING, text(b"\xff\xfe"))]), "a must be UTF-8"),
        (build([key(b"\xff", UINT8, b"a")]), "key must be UTF-8"),
        (build([key("", UINT8, b"a")]), "key must be 1..1024 printable"),
        (build([key("a\n", UINT8, b"a")]), "key must be 1..1024 printable"),
        (build([struct.pack("<Q", HUGE)], counts=(0, 1)), "length of key must be at most 65535|key count must fit"),
        (build([key("a", UINT8, b"a")] * 2), "keys must be given once each, got 'a'"),
        (build([key("a", ARRAY, array(UINT8, HUGE))]), "length of a must fit in"),
        (build([key("a", ARRAY, array(UINT8, HUGE + 1))]), "length of a must be at most"),
        (build([key("a", ARRAY, array(STRING, HUGE))]), "length of a must be at most 4194304"),
        (build([key("a", ARRAY, array(STRING, 4194304))]), "length of a must fit in"),
        (build([key("a", ARRAY, array(STRING, 1, struct.pack("<Q", HUGE)))]), "a must end within the file"),
        (build([key("a", ARRAY, array(ARRAY, 1) * 5)]), "a must nest arrays at most 4 deep, got 5"),
        (build([], [tensor(shape=(1,) * 5)], bytes(4)), "dimension count of a must be at most 4, got 5"),
        (build([], [tensor(shape=(4, 0))]), "shape of a must have no dimension of 0"),
        (build([], [tensor(shape=(1 << 62,))]), "data of a must end within the file"),
        (build([], [tensor(shape=(1 << 62, 2))]), "shape of a must hold at most 9223372036854775807 elements"),
        (build([], [tensor(shape=(1 << 63, 1 << 63), kind=99)]), "shape of a must hold at most"),
        (build([], [tensor(shape=(128, 2), kind=TQ2_0)], bytes(66)), "row length of a must be a multiple of 256 for TQ2_0"),
        (build([], [tensor(shape=(), kind=TQ2_0)], bytes(66)), "row length of a must be a multiple of 256 for TQ2_0"),
        (build([], [tensor(offset=8)], bytes(32)), "offset of a must be a multiple of 32, got 8"),
        (build([], [tensor(offset=1 << 63)], bytes(32)), "data of a must end within the file"),
        (build([], [tensor()], bytes(15)), "data of a must end within the file of .*, got '16 bytes at offset 64'"),
        (build([], [tensor(kind=99, offset=1 << 60)], b""), "data of a must end within the file"),
        (build([], [tensor("a", (64,)), tensor("b", offset=32)], bytes(256)), "data of b must begin after the data of a"),
        (build([], [tensor("a"), tensor("a", offset=32)], bytes(64)), "tensor names must be given once each, got 'a'"),
        (build([], [tensor("../a")], bytes(16)), "tensor name must be 1..1024 printable characters without"),
        (build([], [tensor("a/../../b")], bytes(16)), "tensor name must be"),
        (build([], [tensor("/etc")], bytes(16)), "tensor name must be"),
        (build([], [tensor("..\\a")], bytes(16)), "tensor name must be"),
        (build([], [tensor("a\0")], bytes(16)), "tensor name must be"),
        (build(align(0), TWO, bytes(64)), "general.alignment must be a power of two up to 1048576, got 0"),
        (build(align(48), TWO, bytes(64)), "general.alignment must be a power of two"),
        (build(align(1 << 31), TWO, bytes(64)), "general.alignment must be a power of two"),
        (build(align(True, 7, "<?"), TWO, bytes(64)), "general.alignment must be a power of two"),
        (build(align(32.0, 6, "<f"), TWO, bytes(64)), "general.alignment must be a power of two"),
    ],
)
def test_unsound_headers(tmp_path, content, rule):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(InputError, match=f": {rule}" if "|" not in rule else rule) as caught:
        load(tmp_path / "m")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_every_truncation_of_a_header_is_refused():
    content = build([key("a", ARRAY, array(STRING, 2, text("x") + text("yz"))), key("b", STRING, text("t"))], TWO, bytes(48))
    end = len(content)
    assert len(header_of(content)[1]) == 2
    for size in range(4, end):
        with pytest.raises(InputError):
            header_of(content[:size])


def test_the_strings_of_a_whole_file_are_bounded(monkeypatch):
    """Each array within its bound, all together not: they are visited one by one."""
    monkeypatch.setattr(gguf_header, "MAX_ITEMS", 10)
    many = array(STRING, 5, bytes(8 * 5))
    assert header_of(build([key(name, ARRAY, many) for name in "ab"])) == ({}, [])
    with pytest.raises(InputError, match="length of c must be at most 0, got 5$"):
        header_of(build([key(name, ARRAY, many) for name in "abc"]))
