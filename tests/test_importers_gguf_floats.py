"""GGUF files as floats: the third party's reader and our own grouped weights agree; lists of the tokenizer; refusals."""

import gguf
import numpy as np
import pytest

from sparseloom.models.importers import load
from sparseloom.models.importers.gguf_floats import read_floats
from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo.smollm2 import fetch

KINDS = gguf.GGMLQuantizationType


def agree(path):
    """Check the file against both readers; returns how many weights of engines were compared."""
    metadata, tensors = read_floats(path)
    reader = gguf.GGUFReader(path)
    assert list(tensors) == [tensor.name for tensor in reader.tensors] and tensors
    for tensor in reader.tensors:
        value = tensors[tensor.name]
        assert value.dtype == np.float32 and value.flags.c_contiguous and value.shape == tuple(tensor.shape[::-1])
        assert np.array_equal(value, gguf.dequantize(tensor.data, tensor.tensor_type)), tensor.name
    keys = {name: field.contents() for name, field in reader.fields.items()}
    assert {name: keys[name] for name in metadata} == metadata
    assert len(metadata["tokenizer.ggml.tokens"]) == len(metadata["tokenizer.ggml.token_type"]) > len(
        metadata["tokenizer.ggml.merges"]) > 0
    layers = [layer for layer in load(path).layers if layer.runs_on == "engine"]
    for layer in layers:
        expected = tensors.get(layer.name, tensors["token_embd.weight"])
        assert np.array_equal(layer.weight.load().dequantise(), expected), layer.name
    return len(layers)


@pytest.mark.parametrize("kind, engine", [("Q4_0", 15), ("Q4_1", 15), ("Q8_0", 15), ("Q5_1", 14), ("F16", 14), ("BF16", 14)])
def test_values_are_the_third_partys_and_the_engines(write_llama, tmp_path, kind, engine):
    head = (np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32), KINDS[kind])
    assert agree(write_llama(tmp_path / "m.gguf", tensors={"blk.0.attn_q.weight": head})) == engine


@pytest.mark.slow
def test_smollm2_is_read_as_the_third_party_and_the_engine_read_it():
    assert agree(fetch()) == 211


def test_other_arrays_are_left_out(write_llama, tmp_path):
    metadata, _ = read_floats(write_llama(tmp_path / "m.gguf", keys={"general.languages": ["en"], "some.numbers": [1, 2]}))
    assert "general.languages" not in metadata and "some.numbers" not in metadata
    assert metadata["tokenizer.ggml.token_type"][:4] == [3, 3, 3, 1]


def test_lists_of_lists_are_refused(write_llama, tmp_path):
    path = write_llama(tmp_path / "m.gguf", keys={"tokenizer.ggml.tokens": [["a"], ["b"]]})
    with pytest.raises(InputError, match="tokenizer.ggml.tokens must be a flat array"):
        read_floats(path)


@pytest.mark.parametrize("count", [1 << 22, 1 << 40, (1 << 64) - 1])
def test_a_list_longer_than_its_file_is_refused(write_llama, tmp_path, count):
    path = write_llama(tmp_path / "m.gguf")
    data, key = bytearray(path.read_bytes()), b"tokenizer.ggml.merges"
    at = data.index(key) + len(key) + 8  # behind the types of the value and of its items
    data[at : at + 8] = count.to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(InputError, match="length of tokenizer.ggml.merges must"):
        read_floats(path)


def test_types_without_floats_are_refused(write_llama, tmp_path):
    path = write_llama(tmp_path / "m.gguf")
    data, name = bytearray(path.read_bytes()), b"blk.0.attn_norm.weight"
    at = data.index(name) + len(name) + 4 + 8  # behind one dimension
    data[at : at + 4] = int(KINDS.I32).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(InputError, match="attn_norm.weight must be of a type that the gguf package dequantises, got 'I32'"):
        read_floats(path)
