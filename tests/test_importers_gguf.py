"""GGUF files written by the `gguf` package, read here: the graph, the weights, and what is not supported."""

import gguf
import numpy as np
import pytest

from sparseloom.models.formats import tq2_0
from sparseloom.models.importers import describe, load
from sparseloom.models.importers.gguf_header import read_header
from sparseloom.models.spec.errors import InputError

TQ1_0, TQ2_0 = gguf.GGMLQuantizationType.TQ1_0, gguf.GGMLQuantizationType.TQ2_0


def random_trits(seed, shape):
    return np.random.default_rng(seed).integers(-1, 2, shape, np.int8)


def write(path, tensors, arch="llama", **options):
    """A GGUF file of ``{name: (array of stored values, type or None)}`` by the third-party writer."""
    writer = gguf.GGUFWriter(path, arch, **options)
    writer.add_name("tiny")
    writer.add_block_count(1)
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "a", "b"])
    writer.add_array("tiny.numbers", [1, 2, 3])
    for name, (data, qtype) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=qtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("qtype", [TQ1_0, TQ2_0])
def test_ternary_matrices_of_a_file_by_the_third_party_writer(tmp_path, qtype):
    trits = random_trits(0, (96, 512))
    trits[5] = 0  # whole blocks of zeros: the quantiser stores scale 0 for them
    path = write(tmp_path / "m", {"blk.0.ffn_up.weight": (gguf.quantize(trits * np.float32(0.03125), qtype), qtype)})
    graph = load(path)
    layer = graph["blk.0.ffn_up.weight"]
    assert (graph.name, len(graph.layers)) == ("tiny", 1)
    assert (layer.op, layer.runs_on, layer.n, layer.k, layer.format) == ("linear", "engine", 96, 512, qtype.name)
    assert layer.nbytes == gguf.GGUFReader(path).tensors[0].n_bytes == layer.weight.nbytes
    weight = layer.weight.load()
    assert np.array_equal(weight.trits, trits) and weight.scale == 0.03125
    assert graph.metadata["general.architecture"] == "llama" and graph.metadata["llama.block_count"] == 1


def quantised(seed, shape, qtype=TQ2_0, scale=0.5):
    return gguf.quantize(random_trits(seed, shape) * np.float32(scale), qtype), qtype


def test_a_model_as_the_third_party_reader_sees_it(tmp_path):
    """Names, shapes, types, places and bytes of every tensor, of several types and alignments."""
    tensors = {
        "token_embd.weight": (np.ones((40, 256), np.float16), None),
        "blk.0.attn_norm.weight": (np.ones(256, np.float32), None),
        "blk.0.attn_q.weight": quantised(1, (256, 256), TQ1_0),
        "blk.0.attn_k.weight": quantised(2, (64, 256), TQ2_0),
        "blk.0.ffn_gate_exps.weight": quantised(3, (2, 8, 256), TQ2_0),
        "blk.0.ffn_down.weight": (gguf.quantize(np.ones((8, 64), np.float32), gguf.GGMLQuantizationType.Q8_0),)
        + (gguf.GGMLQuantizationType.Q8_0,),
        "scalar": (np.ones(1, np.float32), None),
    }
    for alignment in (32, 256):
        path = tmp_path / f"m{alignment}"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_custom_alignment(alignment)
        for name, (data, qtype) in tensors.items():
            writer.add_tensor(name, data, raw_dtype=qtype)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        theirs = gguf.GGUFReader(path).tensors
        data = np.fromfile(path, np.uint8)
        ours = read_header(data, path)[1]
        assert len(ours) == len(theirs) == 7
        for our, their in zip(ours, theirs, strict=True):
            assert (our.name, our.type_name, our.start) == (their.name, their.tensor_type.name, their.data_offset)
            assert (list(our.shape), our.nbytes) == (their.shape.tolist()[::-1], their.n_bytes)
            assert data[our.start : our.start + our.nbytes].tobytes() == their.data.tobytes()
    assert [row["bits_per_weight"] for row in describe(path)] == [16, 32, 1.6875, 2.0625, 2.0625, 8.5, 32]
    three = "a tensor of 3 dimensions is no matrix product that an engine takes"
    assert {row["name"]: (row["op"], row["runs_on"], row["reason"]) for row in describe(path)} == {
        "token_embd.weight": ("embedding", "host", "rows are looked up on the host"),
        "blk.0.attn_norm.weight": ("vector", "host", "element-wise work stays on the host"),
        "blk.0.attn_q.weight": ("linear", "engine", ""),
        "blk.0.attn_k.weight": ("linear", "engine", ""),
        "blk.0.ffn_gate_exps.weight": ("other", "unsupported", three),
        "blk.0.ffn_down.weight": ("linear", "engine", ""),
        "scalar": ("vector", "host", "element-wise work stays on the host"),
    }


def test_metadata_values(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m", "llama")
    values = {}
    for bits in (8, 16, 32, 64):
        values |= {f"uint{bits}": (1 << bits) - 1, f"int{bits}": -(1 << bits - 1)}
    for kind, value in values.items():
        getattr(writer, f"add_{kind}")(kind, value)
    writer.add_float32("f32", 0.5)
    writer.add_float64("f64", 0.1)
    writer.add_bool("yes", True)
    writer.add_string("text", "naïve\n")
    writer.add_name("control\x1b[2J")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    graph = load(tmp_path / "m")
    expected = {"general.architecture": "llama", "general.name": "control\x1b[2J", "f32": 0.5, "f64": 0.1, "yes": True}
    assert graph.metadata == expected | values | {"text": "naïve\n"}
    assert graph.name == "m" and graph.layers == ()


def test_blocks_of_different_scales_are_refused_when_loaded(tmp_path):
    path = write(tmp_path / "m", {"w": (tq2_0.pack(random_trits(4, (2, 256)), [[0.5], [0.25]]), TQ2_0)})
    layer = load(path)["w"]
    with pytest.raises(InputError, match="m: w: block scales must be one value for the whole tensor, got '2 values'"):
        layer.weight.load()


def test_an_illegal_byte_is_named_when_the_weight_is_loaded(tmp_path):
    data = gguf.quantize(np.ones((3, 256), np.float32), TQ1_0)
    data[2, 7] = 20
    layer = load(write(tmp_path / "m", {"w": (data, TQ1_0)}))["w"]
    with pytest.raises(InputError, match=r"m: w: qs\[7\] of block 2 must be one of the 243 bytes .*, got '0x14'"):
        layer.weight.load()
