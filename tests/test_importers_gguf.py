"""GGUF files written by the `gguf` package, read here: the graph, the weights, and what is not supported."""

import gguf
import numpy as np
import pytest

from sparseloom.models.importers import load

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
