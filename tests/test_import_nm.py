"""The N:M container: what is saved comes back, in the bytes of the definition; what it may not hold is refused by name."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from sparseloom.models.graph import GroupedWeight
from sparseloom.models.importers import describe, load
from sparseloom.models.importers.nm_file import save_nm
from sparseloom.models.spec.errors import InputError

PARTS = ("codes", "scale", "zero", "offset", "codebook", "mask", "order")


def draw(seed, n, k, bits, scale_group=32, nnz=None, group=None, *, fewer=False, zero=False, offset=False, codebook=False,
         order=False):  # fmt: skip
    rng = np.random.default_rng(seed)
    shape = n, -(-k // scale_group)
    mask = None
    if group:
        places = rng.random((n, k // group, group)).argsort(axis=2).argsort(axis=2)
        kept = rng.integers(0, nnz + 1, (n, k // group, 1)) if fewer else nnz
        mask = (places < kept).reshape(n, k)
    codes = rng.integers(0, 1 << bits, (n, k)).astype(np.uint8)
    return GroupedWeight(
        codes=codes if mask is None else np.where(mask, codes, np.uint8(0)), bits=bits, scale_group=scale_group,
        scale=rng.standard_normal(shape).astype(np.float32), mask=mask, nnz=nnz or 1, group=group or 1,
        zero=rng.integers(0, (1 << bits) + (bits < 8), shape).astype(np.uint8) if zero else None,
        offset=rng.standard_normal(shape).astype(np.float32) if offset else None,
        codebook=rng.integers(-128, 128, 16).astype(np.int8) if codebook else None,
        order=rng.permutation(k).astype(np.int32) if order else None,
    )  # fmt: skip


WEIGHTS = {
    f"w{i}": draw(i, **arguments)
    for i, arguments in enumerate([
        *({"n": 5, "k": 48, "bits": bits, "nnz": nnz, "group": group} for bits, group, nnz in (
            (2, 4, 1), (3, 4, 2), (4, 4, 4), (8, 8, 1), (2, 8, 2), (3, 8, 4), (4, 8, 8), (8, 16, 1), (4, 16, 2), (3, 16, 8))),
        *({"n": 3, "k": 40, "bits": bits} for bits in (2, 3, 4, 8)),
        {"n": 1, "k": 1, "bits": 3}, {"n": 7, "k": 33, "bits": 3, "zero": True}, {"n": 2, "k": 64, "bits": 4, "offset": True},
        {"n": 4, "k": 64, "bits": 4, "codebook": True}, {"n": 4, "k": 64, "bits": 4, "codebook": True, "nnz": 2, "group": 8},
        {"n": 6, "k": 32, "bits": 4, "nnz": 4, "group": 8, "fewer": True, "zero": True, "scale_group": 8},
        {"n": 6, "k": 96, "bits": 4, "nnz": 8, "group": 16, "order": True, "scale_group": 96},
    ])
}  # fmt: skip


def same(one, other):
    for name in PARTS:
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None) and (a is None or np.array_equal(a, b) and a.dtype == b.dtype), name
    for name in ("bits", "scale_group", "nnz", "group"):
        assert getattr(one, name) == getattr(other, name)
    return one.codes.size


def test_what_is_saved_comes_back(tmp_path):
    floats = {"norm": np.arange(4, dtype=np.float32), "embed": np.ones((3, 2), np.float16)}
    save_nm(tmp_path / "m.safetensors", WEIGHTS, floats, {"tokeniser": "none"})
    assert [file.name for file in tmp_path.iterdir()] == ["m.safetensors"]
    graph = load(tmp_path)
    compared = sum(same(graph[name].weight.load(), weight) for name, weight in WEIGHTS.items())
    assert compared == sum(weight.codes.size for weight in WEIGHTS.values()) > 4000
    assert graph.metadata["tokeniser"] == "none" and graph.on("unsupported") == ()
    assert {layer.name: layer.op for layer in graph.on("host")} == {"norm": "vector", "embed": "embedding"}
    assert np.array_equal(load_file(tmp_path / "m.safetensors")["norm"], floats["norm"])


def test_what_is_listed(tmp_path):
    save_nm(tmp_path / "m", {"a": draw(0, 16, 64, 4, nnz=4, group=8), "b": draw(1, 16, 64, 3)})
    assert [(row["name"], row["format"], row["bits_per_weight"], row["runs_on"]) for row in describe(tmp_path / "m")] == [
        ("a", "N:M 4:8 4-bit", 4 / 2 + 3 / 2 + 32 / 32, "engine"), ("b", "grouped 3-bit", 3 + 32 / 32, "engine"),
    ]  # fmt: skip


def test_the_bytes_are_those_of_the_definition(tmp_path):
    """Bit by bit: slot s of a row is bits [s*b ..] of its stream, in places that rise."""
    for name, weight in WEIGHTS.items():
        save_nm(tmp_path / "m", {name: weight})
        stored = load_file(tmp_path / "m")
        streams = {"codes": weight.bits} | ({"indices": (weight.group - 1).bit_length()} if weight.mask is not None else {})
        for row in range(weight.n):
            slots = [(int(code), 0) for code in weight.codes[row]]
            if weight.mask is not None:
                slots = []
                for start in range(0, weight.k, weight.group):
                    places = [i for i in range(weight.group) if weight.mask[row, start + i]]
                    pairs = [(int(weight.codes[row, start + i]), i) for i in places]
                    slots += pairs + [(0, 0)] * (weight.nnz - len(pairs))
            for which, (part, bits) in enumerate(streams.items()):
                number = sum(slot[which] << bits * i for i, slot in enumerate(slots))
                assert stored[f"{name}.{part}"][row].tobytes() == number.to_bytes(-(-len(slots) * bits // 8), "little")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    save_nm(tmp_path / "m", {"a": WEIGHTS["w0"]})
    before = (tmp_path / "m").read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        save_nm(tmp_path / "m", {"b": WEIGHTS["w1"]})
    assert (tmp_path / "m").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_what_save_refuses(tmp_path):
    with pytest.raises(ValueError, match="names of tensors must be unique, got a.scale twice"):
        save_nm(tmp_path / "m", {"a": WEIGHTS["w0"]}, {"a.scale": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match="metadata must be without the keys format, version, layers"):
        save_nm(tmp_path / "m", {"a": WEIGHTS["w0"]}, metadata={"version": "2"})
    with pytest.raises(InputError, match="layer name must be"):
        save_nm(tmp_path / "m", {"../a": WEIGHTS["w0"]})
    assert list(tmp_path.iterdir()) == []


def plain(path, tensors=None, entry=None, metadata=None, nnz=2, group=4):
    """A file by hand, a byte a code and index: layer `a`, 2 x 8, 4 bits, codes 1..8 at places 0 and 2 of each group of 4."""
    slots = 8 // group * nnz
    stored = {"codes": np.arange(1, 1 + 2 * slots, dtype=np.uint8).reshape(2, slots) % 16, "scale": np.ones((2, 2), np.float32)}
    stored["indices"] = np.tile(np.arange(0, 2 * nnz, 2, dtype=np.uint8), (2, 8 // group))
    stored |= tensors or {}
    layers = {"a": {"n": 2, "k": 8, "bits": 4, "scale_group": 4, "packed": False, "nnz": nnz, "group": group} | (entry or {})}
    layers["a"] = {key: value for key, value in layers["a"].items() if value is not None}
    metadata = {"format": "sparseloom-nm", "version": "1", "layers": json.dumps(layers)} | (metadata or {})
    save_file({f"a.{name}": array for name, array in stored.items() if array is not None}, path, metadata)
    return path


def test_a_file_by_hand(tmp_path):
    weight = load(plain(tmp_path / "m"))["a"].weight.load()
    assert weight.codes.tolist() == [[1, 0, 2, 0, 3, 0, 4, 0], [5, 0, 6, 0, 7, 0, 8, 0]]
    assert np.array_equal(weight.mask, weight.codes > 0) and weight.dequantise()[1].tolist() == [-3, 0, -2, 0, -1, 0, 0, 0]
    book = np.array([9, 0, -5, 7, 1, 1, 1, 1, 100], np.int8)
    weight = load(plain(tmp_path / "m", {"codebook": book}))["a"].weight.load()
    assert weight.dequantise()[0].tolist() == [0, 0, -5, 0, 7, 0, 1, 0] and weight.dequantise()[1, 6] == 100


def bytes_of(*rows):
    return np.array(rows, np.uint8)


INDICES = bytes_of([0, 2, 0, 2], [0, 2, 0, 2])
REFUSED = [  # tensors, description, metadata, message
    ({"indices": bytes_of([0, 2, 0, 2], [0, 2, 1, 4])}, {}, {}, "a: index of row 1, group 1 must be below group \\(4\\), got 4"),
    ({"indices": bytes_of([0, 2, 2, 1], [0, 2, 0, 2])}, {}, {}, "a: indices of row 0, group 1 must rise within .* got 1"),
    ({"indices": bytes_of([3, 3, 0, 2], [0, 2, 0, 2])}, {}, {}, "a: indices of row 0, group 0 must rise within .* got 3"),
    ({"codes": bytes_of([1, 2, 3, 16], [1, 2, 3, 4])}, {}, {}, "a: code 3 of row 0 must be below 16, got 16"),
    ({"codebook": np.zeros(8, np.int8)}, {}, {}, "a: index into the codebook 3 of row 1 must be below 8, got 8"),
    ({"codebook": np.zeros(17, np.int8)}, {}, {}, "a.codebook must be I8 of shape"),
    ({"codebook": np.zeros(16, np.int8)}, {"bits": 8}, {}, "a: layer must be a legal weight, got 'codebook must come"),
    ({"kept": bytes_of([2, 2], [2, 3])}, {}, {}, "a: kept of row 1, group 1 must be at most nnz \\(2\\), got 3"),
    ({"kept": bytes_of([2, 2], [1, 2])}, {}, {}, "a: code of row 1, group 0 must be 0 in a slot that is left over, got 6"),
    ({"kept": bytes_of([2, 2])}, {}, {}, r"a.kept must be U8 of shape \[2, 2\], got 'U8 \[1, 2\]'"),
    ({"scale": np.full((2, 2), np.nan, np.float32)}, {}, {}, r"a.scale\[0, 0\] must be finite, got nan"),
    ({"scale": np.ones((2, 3), np.float32)}, {}, {}, r"a.scale must be F32 of shape \[2, 2\], got 'F32 \[2, 3\]'"),
    ({"scale": None}, {}, {}, "a: scale must be there"),
    ({"indices": None}, {}, {}, "a: indices must be there"),
    ({"zero": np.full((2, 2), 17, np.uint8)}, {}, {}, "a: layer must be a legal weight, got 'zero must be at most 16, got 17'"),
    ({"offset": np.ones((2, 2), np.float32)}, {}, {}, "a: layer must be a legal weight, got 'offset must be absent with a mask"),
    ({"order": np.zeros(8, np.int32)}, {}, {}, "a: layer must be a legal weight, got 'order must be a permutation"),
    ({"order": np.zeros(7, np.int32)}, {}, {}, r"a.order must be I32 of shape \[8\], got 'I32 \[7\]'"),
    ({}, {"bits": 5}, {}, "a: bits must be 2, 3, 4 or 8, got 5"),
    ({}, {"bits": 4.0}, {}, "a: bits must be 2, 3, 4 or 8, got 4.0"),
    ({}, {"group": 6}, {}, "a: group must be 4, 8 or 16, got 6"),
    ({}, {"nnz": 3}, {}, "a: nnz must be a power of two up to group, got 3"),
    ({}, {"nnz": 8}, {}, "a: nnz must be a power of two up to group, got 8"),
    ({}, {"k": 10}, {}, "a: group must divide the 10 inputs, got 4"),
    ({}, {"k": 16}, {}, r"a.codes must be U8 of shape \[2, 8\], got 'U8 \[2, 4\]'"),
    ({}, {"n": 1 << 40}, {}, "a: n must be 1..2147483648, got 1099511627776"),
    ({}, {"n": True}, {}, "a: n must be 1..2147483648, got True"),
    ({}, {"scale_group": 0}, {}, "a: scale_group must be 1..2147483648, got 0"),
    ({}, {"packed": 1}, {}, "a: packed must be true or false, got 1"),
    ({}, {"packed": True}, {}, r"a.codes must be U8 of shape \[2, 2\], got 'U8 \[2, 4\]'"),
    ({}, {"nnz": None}, {}, "a: description must have the keys bits, k, n, packed, scale_group and, if N:M, nnz and group"),
    ({}, {"nnz": None, "group": None}, {}, "a: indices and kept must be absent without nnz and group"),
    ({}, {}, {"version": "2"}, "version must be '1', got '2'"),
    ({}, {}, {"layers": "[]"}, "layers must be a JSON object, got 'list'"),
    ({}, {}, {"layers": '{"../a": {}}'}, "layer name must be"),
    ({}, {}, {"layers": '{"b": {"n": 2, "k": 8, "bits": 4, "scale_group": 4, "packed": false}}'}, "b: codes must be there"),
]


@pytest.mark.parametrize("tensors, entry, metadata, message", REFUSED)
def test_what_a_file_may_not_hold(tmp_path, tensors, entry, metadata, message):
    plain(tmp_path / "m", tensors, entry, metadata)
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path / "m")["a"].weight.load()
    assert str(caught.value).startswith(str(tmp_path / "m"))


def test_padding_must_be_zero(tmp_path):
    save_nm(tmp_path / "m", {"a": draw(3, 2, 33, 3)})
    with safe_open(tmp_path / "m", "numpy") as file:
        metadata = file.metadata()
    stored = {name: array.copy() for name, array in load_file(tmp_path / "m").items()}
    stored["a.codes"][1, -1] |= 0x80
    save_file(stored, tmp_path / "m", metadata)
    with pytest.raises(InputError, match="a: codes must have padding bits of 0"):
        load(tmp_path / "m")["a"].weight.load()


def test_the_container_is_one_file(tmp_path):
    plain(tmp_path / "shard")
    index = {"weight_map": {f"a.{name}": "shard" for name in ("codes", "scale", "indices")}}
    (tmp_path / "index").write_text(json.dumps(index))
    with pytest.raises(InputError, match="weight_map must name no file of the N:M container, which is one file"):
        load(tmp_path / "index")
