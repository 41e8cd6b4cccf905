"""Packed BitNet checkpoints: files that Hugging Face transformers wrote and ran, in both scale conventions."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sparseloom.models.formats import bitnet
from sparseloom.models.importers import describe, load
from sparseloom.models.spec.errors import InputError

CLASSES = ("bitlinear", "autobitlinear")


@pytest.fixture
def fixtures(root):
    return root / "tests" / "fixtures"


def bitlinear(x, weight):
    """BitLinear by its definition: int8 codes by absmax, half-even; an integer product; both scales undone."""
    scale = np.float32(127) / np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.float32(1e-5))
    codes = np.clip(np.rint(x * scale), -128, 127).astype(np.int64)
    return codes @ weight.trits.T.astype(np.int64) / scale * weight.scale


def test_the_fixtures_are_the_files_of_the_recipe(fixtures):
    lines = (fixtures / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == 6
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((fixtures / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("linear_class", CLASSES)
def test_trits_and_outputs_of_transformers(fixtures, linear_class):
    folder = fixtures / f"hf_{linear_class}"
    graph, expected = load(folder), load_file(folder / "expected.safetensors")
    compared = 0
    for name in ("plain", "biased", "ragged"):
        layer = graph[f"{name}.weight"]
        weight = layer.weight.load()
        assert (layer.runs_on, layer.format, layer.shape) == ("engine", "HF BitNet", weight.trits.shape)
        assert np.array_equal(weight.trits, expected[f"{name}.trits"])
        if name == "ragged":
            continue
        y = bitlinear(expected[f"{name}.x"], weight)
        if name == "biased":
            bias = load_file(folder / "model.safetensors")["biased.bias"]
            y += bias if linear_class == "bitlinear" else bias * weight.scale
        np.testing.assert_allclose(y, expected[f"{name}.y"], rtol=2e-6, atol=2e-6)
        compared += y.size
    assert compared == 3 * (24 + 12)


def test_the_conventions_are_opposite(fixtures):
    """The wrong one is off by weight_scale squared: the outputs above would not agree."""
    for linear_class, right, wrong in (("bitlinear", "divide", "multiply"), ("autobitlinear", "multiply", "divide")):
        folder = fixtures / f"hf_{linear_class}"
        stored = float(load_file(folder / "model.safetensors")["plain.weight_scale"][0])
        scales = [load(folder, scale_convention=c)["plain.weight"].weight.load().scale for c in (right, wrong)]
        assert load(folder)["plain.weight"].weight.load().scale == scales[0]
        assert scales[0] / scales[1] == pytest.approx(stored**2 if right == "multiply" else stored**-2)


def test_what_the_file_lists(fixtures):
    rows = {row["name"]: row for row in describe(fixtures / "hf_bitlinear" / "model.safetensors")}
    assert sorted(rows) == ["biased.bias", "biased.weight", "norm.weight", "plain.weight", "ragged.bias", "ragged.weight"]
    assert rows["plain.weight"] == {
        "name": "plain.weight", "op": "linear", "shape": [24, 48], "format": "HF BitNet", "bytes": 24 * 48 // 4 + 4,
        "bits_per_weight": 2 + 32 / (24 * 48), "runs_on": "engine", "reason": "",
    }  # fmt: skip
    assert rows["ragged.weight"]["shape"] == [10, 16] and rows["ragged.weight"]["bytes"] == 3 * 16 + 4
    assert (rows["norm.weight"]["op"], rows["norm.weight"]["runs_on"], rows["norm.weight"]["format"]) == ("vector", "host", "F32")


def checkpoint(path, metadata=None, weight_scale=None, **more):
    """A file with one packed layer `a`, 8 x 6."""
    trits = np.random.default_rng(5).integers(-1, 2, (8, 6), np.int8)
    scale = np.array([4.0], np.float32) if weight_scale is None else weight_scale
    save_file({"a.weight": bitnet.pack(trits), "a.weight_scale": scale, **more}, path, metadata)
    return trits


QUANTISATION = {"quant_method": "bitnet", "linear_class": "bitlinear", "quantization_mode": "offline"}


def test_without_a_config_the_convention_must_be_given(tmp_path):
    trits = checkpoint(tmp_path / "m")
    with pytest.raises(InputError, match="scale convention of packed weights must be known: pass scale_convention='divide'"):
        load(tmp_path / "m")
    for convention, scale in (("divide", 0.25), ("multiply", 4.0)):
        weight = load(tmp_path / "m", scale_convention=convention)["a.weight"].weight.load()
        assert weight.scale == scale and np.array_equal(weight.trits, trits)
    with pytest.raises(ValueError, match="scale_convention must be one of divide, multiply, got 'both'"):
        load(tmp_path / "m", scale_convention="both")


def test_a_file_without_packed_layers_needs_none(tmp_path):
    save_file({"w": np.zeros((4, 4), np.float32), "u.weight": np.zeros((4, 4), np.uint8)}, tmp_path / "m")
    layers = load(tmp_path / "m").layers
    assert [layer.runs_on for layer in layers] == ["unsupported"] * 2
    assert {layer.name: layer.reason for layer in layers} == {
        "w": "float weights: compress first",
        "u.weight": "uint8 without a weight_scale beside it is no packed ternary matrix",
    }


def test_the_config_may_be_in_the_file_itself_and_then_counts(tmp_path):
    checkpoint(tmp_path / "m", {"quantization_config": json.dumps(QUANTISATION)})
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": QUANTISATION | {"linear_class": "autobitlinear"}}))
    assert load(tmp_path / "m")["a.weight"].weight.load().scale == 0.25


def test_the_defaults_are_those_of_transformers(tmp_path):
    checkpoint(tmp_path / "m")
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "bitnet"}}')
    assert load(tmp_path / "m")["a.weight"].weight.load().scale == 0.25


@pytest.mark.parametrize(
    "config, text",
    [
        ('{"quantization_config": {"quant_method": "gptq"}}', "quantization_config.quant_method must be 'bitnet'.*got 'gptq'"),
        ('{"quantization_config": {}}', "quantization_config.quant_method must be 'bitnet'.*got None"),
        ('{"quantization_config": []}', r"quantization_config must be a JSON object, got \[\]"),
        ("{", "config.json: file must be JSON"),
        ("[]", "config.json: file must be a JSON object, got 'list'"),
        ('{"a": 1, "a": 2}', "config.json: file must give each key once, got 'a'"),
        ("{}", "must be known: pass .*, got 'no quantization_config'"),
        (json.dumps({"quantization_config": QUANTISATION | {"linear_class": ["x"]}}), "linear_class must be 'bitlinear' or"),
        (json.dumps({"quantization_config": QUANTISATION | {"quantization_mode": "online"}}), "got .*quantization_mode 'online'"),
        (" " * ((1 << 20) + 1), "config.json: file must be at most 1048576 bytes"),
    ],
)
def test_configs_that_do_not_tell(tmp_path, config, text):
    checkpoint(tmp_path / "m")
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match=text):
        load(tmp_path / "m")


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_scale_dtypes(tmp_path, dtype):
    checkpoint(tmp_path / "m", weight_scale=np.array(4, dtype))
    assert load(tmp_path / "m", scale_convention="divide")["a.weight"].weight.load().scale == 0.25


def test_bfloat16_scale(tmp_path):
    header = {
        "a.weight": {"dtype": "U8", "shape": [1, 2], "data_offsets": [0, 2]},
        "a.weight_scale": {"dtype": "BF16", "shape": [1], "data_offsets": [2, 4]},
    }
    text = json.dumps(header).encode()
    (tmp_path / "m").write_bytes(len(text).to_bytes(8, "little") + text + bytes([0x24, 0x24]) + bytes.fromhex("803e"))
    weight = load(tmp_path / "m", scale_convention="multiply")["a.weight"].weight.load()
    assert weight.scale == 0.25 and weight.trits.tolist() == [[-1, -1], [0, 0], [1, 1], [-1, -1]]


@pytest.mark.parametrize("scale", [np.array([1, 2], np.float32), np.array([[1]], np.float32), np.array([1], np.int32)])
def test_scales_that_are_not_one_number(tmp_path, scale):
    checkpoint(tmp_path / "m", weight_scale=scale)
    with pytest.raises(InputError, match="a.weight_scale must be one number in F64, F32, F16 or BF16"):
        load(tmp_path / "m", scale_convention="divide")


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_scales_that_are_no_scale(tmp_path, scale):
    checkpoint(tmp_path / "m", weight_scale=np.array([scale], np.float32))
    layer = load(tmp_path / "m", scale_convention="divide")["a.weight"]
    with pytest.raises(InputError, match="m: a.weight: weight_scale must be finite and positive"):
        layer.weight.load()


def test_an_illegal_byte_is_named_when_the_weight_is_loaded(tmp_path):
    save_file({"a.weight": np.array([[0, 0], [0, 0x0C]], np.uint8), "a.weight_scale": np.ones(1, np.float32)}, tmp_path / "m")
    layer = load(tmp_path / "m", scale_convention="divide")["a.weight"]
    with pytest.raises(InputError, match=r"m: a.weight: byte \[1, 1\] must hold the 2-bit codes .*, got '0x0c'"):
        layer.weight.load()


def sharded(folder, weight_map):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def test_shards(tmp_path, fixtures):
    one = load_file(fixtures / "hf_bitlinear" / "model.safetensors")
    first = {name: value for name, value in one.items() if name.startswith("plain")}
    save_file(first, tmp_path / "a.safetensors")
    save_file({name: value for name, value in one.items() if name not in first}, tmp_path / "b.safetensors")
    shutil.copy(fixtures / "hf_bitlinear" / "config.json", tmp_path)
    sharded(tmp_path, {name: "a.safetensors" if name in first else "b.safetensors" for name in one})
    for path in (tmp_path, tmp_path / "model.safetensors.index.json"):
        graph, whole = load(path), load(fixtures / "hf_bitlinear")
        assert sorted(layer.name for layer in graph.layers) == sorted(layer.name for layer in whole.layers)
        for layer in graph.on("engine"):
            assert np.array_equal(layer.weight.load().trits, whole[layer.name].weight.load().trits)


@pytest.mark.parametrize(
    "weight_map, text",
    [
        ({"a": "../a.safetensors"}, "file of a must be 1..1024 printable characters without"),
        ({"a": "/a.safetensors"}, "file of a must be 1..1024 printable"),
        ({"a": "x/a.safetensors"}, "file of a must be the name of a file in the same folder"),
        ({"a": "x\\a.safetensors"}, "file of a must be the name of a file in the same folder"),
        ({"../a": "a.safetensors"}, "tensor name must be 1..1024 printable"),
        ({"a": 3}, "file of a must be the name of a file in the same folder, got 3"),
        ({"a": "none.safetensors"}, "none.safetensors: file must be readable, got 'No such file or directory'"),
        ({"b": "a.safetensors"}, "file of b must hold that tensor, got 'a.safetensors'"),
        ({"a": "text"}, "text: file must be safetensors"),
        ({}, "weight_map must be an object"),
        ([], "weight_map must be an object"),
        ({str(i): f"{i}" for i in range(513)}, "weight_map must name at most 512 files, got 513"),
    ],
)
def test_hostile_indexes(tmp_path, weight_map, text):
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "a.safetensors")
    (tmp_path / "text").write_text("some text")
    sharded(tmp_path, weight_map)
    with pytest.raises(InputError, match=text):
        load(tmp_path)
