"""The safetensors header: agreement with the safetensors library, and every unsound header refused in one line."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from sparseloom.models.importers import describe, load
from sparseloom.models.spec.errors import InputError


def write(path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(dtype="U8", shape=(4,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_names_shapes_and_types_as_the_library_reads_them(tmp_path):
    tensors = {
        "a.weight": np.zeros((3, 5), np.float32),
        "b": np.zeros((), np.float16),
        "c": np.zeros((2, 0, 4), np.int64),
        "embed_tokens.weight": np.zeros((7, 2), np.uint8),
    }
    save_file(tensors, tmp_path / "m", {"format": "pt"})
    rows = describe(tmp_path / "m")
    with safe_open(tmp_path / "m", "numpy") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}
        assert {row["name"]: (row["format"], row["shape"]) for row in rows} == {
            name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()
        }
    assert {row["name"]: (row["op"], row["runs_on"], row["bits_per_weight"]) for row in rows} == {
        "a.weight": ("linear", "unsupported", 32),
        "b": ("vector", "host", 16),
        "c": ("other", "unsupported", None),
        "embed_tokens.weight": ("embedding", "host", 8),
    }
    assert load(tmp_path / "m").metadata == {"format": "pt"}


def test_types_of_less_than_a_byte(tmp_path):
    header = {"a": entry("F4", (4, 2), (0, 4)), "b": entry("F6_E2M3", (4,), (4, 7))}
    assert [row["bytes"] for row in describe(write(tmp_path / "m", header, bytes(7)))] == [4, 3]


OVERLAP = {"a": entry(), "b": entry(offsets=(2, 6))}
HOLE = {"a": entry(), "b": entry(offsets=(8, 12))}


@pytest.mark.parametrize(
    "header, data, text",
    [
        ({"a": entry()}, b"123", "data must end at byte .* where its last tensor does"),
        ({"a": entry()}, b"12345", "data must end at byte .* where its last tensor does"),
        (OVERLAP, bytes(6), "data_offsets of b must begin at 4, where the tensor before ends, got 2"),
        (HOLE, bytes(12), "data_offsets of b must begin at 4, where the tensor before ends, got 8"),
        ({"a": entry(offsets=(4, 0))}, bytes(4), "data_offsets of a must be two integers, 0 <= begin <= end"),
        ({"a": entry(offsets=(0, 4, 4))}, bytes(4), "data_offsets of a must be two integers"),
        ({"a": entry(offsets=(-4, 0))}, bytes(4), "data_offsets of a must be two integers"),
        ({"a": entry(offsets=(0, 4.0))}, bytes(4), "data_offsets of a must be two integers"),
        ({"a": entry(offsets=(0, 1 << 63))}, bytes(4), "data_offsets of a must be two integers"),
        ({"a": entry(offsets=(0, 5))}, bytes(5), "data_offsets of a must span the 32 bits of U8"),
        ({"a": entry(shape=(1 << 40, 1 << 40))}, bytes(4), "data_offsets of a must span"),
        ({"a": entry(shape=(True,), offsets=(0, 1))}, bytes(1), "shape of a must be at most 8 integers"),
        ({"a": entry(shape=(1,) * 9, offsets=(0, 1))}, bytes(1), "shape of a must be at most 8 integers"),
        ({"a": entry(shape=(-1, -4))}, bytes(4), "shape of a must be at most 8 integers of 0 or more"),
        ({"a": entry(dtype="U9")}, bytes(4), "dtype of a must be one of F4, .*, got 'U9'"),
        ({"a": entry(dtype=["U8"])}, bytes(4), "dtype of a must be one of"),
        ({"a": entry("F4", (3,), (0, 1))}, bytes(1), "data_offsets of a must span the 12 bits"),
        ({"a": entry() | {"x": 1}}, bytes(4), "entry of a must have exactly dtype, shape and data_offsets"),
        ({"a": {"dtype": "U8"}}, bytes(4), "entry of a must have exactly"),
        ({"a": 1}, bytes(4), "entry of a must have exactly"),
        ({"__metadata__": {"a": 1}}, b"", "__metadata__ must be an object of strings"),
        ({"__metadata__": []}, b"", "__metadata__ must be an object of strings"),
        ({"../a": entry()}, bytes(4), "tensor name must be 1..1024 printable characters"),
        ({"a/../../b": entry()}, bytes(4), "tensor name must be"),
        ({"/a": entry()}, bytes(4), "tensor name must be"),
        ({"..\\a": entry()}, bytes(4), "tensor name must be"),
        ({"": entry()}, bytes(4), "tensor name must be"),
        ({"a\n": entry()}, bytes(4), "tensor name must be"),
        ({"\x1b[2J": entry()}, bytes(4), "tensor name must be"),
        ({"\ud800": entry()}, bytes(4), "tensor name must be"),
        ({"a" * 1025: entry()}, bytes(4), "tensor name must be"),
        (b'{"a": 1, "a": 2}', b"", "header must give each key once, got 'a'"),
        (b'{"a": ' + b"[" * 100_000, b"", "header must be JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", b"", "header must be JSON"),
        (b'{"a": "\xff"}', b"", "header must be JSON"),
        (b'{"a": }', b"", "header must be JSON"),
        (b"{", b"", "header must be JSON"),
    ],
)
def test_unsound_headers(tmp_path, header, data, text):
    with pytest.raises(InputError, match=text) as caught:
        load(write(tmp_path / "m", header, data))
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "m")) and "\n" not in message and len(message) < 600


@pytest.mark.parametrize("length", [3, 1 << 24, (1 << 24) + 1, (1 << 39) - 1])
def test_header_lengths_that_lie(tmp_path, length):
    with pytest.raises(InputError, match="header length must (fit in|be at most)|header must be JSON"):
        load(write(tmp_path / "m", {"a": entry()}, bytes(4), length))


def test_files_that_are_none(tmp_path):
    for name, content, text in (
        ("empty", b"", "file must have content, got '0 bytes'"),
        ("short", b"GG", "file must be GGUF, safetensors, ONNX, or the JSON index"),
        ("huge", ((1 << 64) - 1).to_bytes(8, "little") + b"{}", "file must be GGUF, safetensors, ONNX, or"),
        ("json", b"{}", "weight_map must be an object"),
        ("json2", b"{,", "index must be JSON"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=text):
            load(tmp_path / name)
    with pytest.raises(InputError, match="nowhere: file must be readable, got 'No such file or directory'"):
        load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="file must be a regular file"):
        load("/dev/null")
    with pytest.raises(InputError, match="folder must hold one model file, or name the file"):
        (tmp_path / "folder").mkdir()
        load(tmp_path / "folder")
    with pytest.raises(InputError, match="be readable, got"):
        load("a\0b")


def test_folders(tmp_path):
    write(tmp_path / "x.safetensors", {"a": entry()}, bytes(4))
    assert load(tmp_path).name == "x"
    write(tmp_path / "y.safetensors", {"a": entry()}, bytes(4))
    with pytest.raises(InputError, match=r"must hold one model file, or name the file, got \['x.safetensors', 'y.safetensors'\]"):
        load(tmp_path)
    write(tmp_path / "model.safetensors", {"a": entry()}, bytes(4))
    assert load(tmp_path).name == "model"
