"""Files that other people's libraries wrote, against the matrices that the same libraries read from them: equal, bit for bit."""

import hashlib
import json
import shutil

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from sparseloom.models.graph import GroupedWeight
from sparseloom.models.importers import describe, load
from sparseloom.models.importers.sparse_floats import read_sparse_floats
from sparseloom.models.zoo import smollm2

Q4_0, Q4_1, Q8_0 = (gguf.GGMLQuantizationType[name] for name in ("Q4_0", "Q4_1", "Q8_0"))

# case: format as listed, bits, columns a scale, has zero points, has an order
SAFETENSORS = {
    "awq_gemm": ("AWQ 4-bit", 4, 64, True, False),
    "ct20_2bit": ("pack-quantized 2-bit", 2, 32, True, False),
    "ct20_3bit": ("pack-quantized 3-bit", 3, 32, False, False),
    "ct20_channel": ("pack-quantized 8-bit", 8, 64, False, False),
    "ct20_group": ("pack-quantized 4-bit", 4, 32, False, False),
    "ct20_zero_points": ("pack-quantized 4-bit", 4, 32, True, False),
    "ct_2bit": ("pack-quantized 2-bit", 2, 32, True, False),
    "ct_3bit": ("pack-quantized 3-bit", 3, 32, False, False),
    "ct_act_order": ("pack-quantized 4-bit", 4, 32, False, True),
    "ct_channel": ("pack-quantized 8-bit", 8, 64, False, False),
    "ct_group": ("pack-quantized 4-bit", 4, 32, False, False),
    "ct_int8": ("int-quantized 8-bit", 8, 48, False, False),
    "ct_int8_sparse": ("2:4 int-quantized 8-bit", 8, 48, False, False),
    "ct_int8_zero_points": ("int-quantized 8-bit", 8, 16, True, False),
    "ct_zero_points": ("pack-quantized 4-bit", 4, 32, True, False),
    "gptq_2bit": ("GPTQ 2-bit", 2, 32, True, False),
    "gptq_3bit": ("GPTQ 3-bit", 3, 32, True, False),
    "gptq_4bit": ("GPTQ 4-bit", 4, 32, True, False),
    "gptq_4bit_sym": ("GPTQ 4-bit", 4, 64, False, False),
    "gptq_8bit_channel": ("GPTQ 8-bit", 8, 64, False, False),
    "gptq_act_order": ("GPTQ 4-bit", 4, 32, True, True),
    "gptq_mislabelled": ("GPTQ 4-bit", 4, 32, False, False),
    "gptq_v2": ("GPTQ 4-bit", 4, 32, True, False),
    "gptq_v2_3bit": ("GPTQ 3-bit", 3, 32, True, False),
}


@pytest.fixture(scope="module")
def fixtures(root):
    return root / "tests" / "fixtures" / "quantised"


def test_the_fixtures_are_the_files_of_the_recipe(fixtures):
    lines = (fixtures / "SHA256SUMS").read_text().splitlines()
    named = {name for _, name in (line.split("  ") for line in lines)}
    assert len(lines) == 77 == len(named)
    assert named == {str(file.relative_to(fixtures)) for file in fixtures.glob("*/*")}
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((fixtures / name).read_bytes()).hexdigest() == digest, name
    assert {folder.name for folder in fixtures.iterdir() if folder.is_dir()} == {*SAFETENSORS, "gguf", "ct_sparse_24"}


@pytest.mark.parametrize("case", SAFETENSORS)
def test_weights_of_the_library_that_wrote_them(fixtures, case):
    form, bits, group, has_zero, has_order = SAFETENSORS[case]
    graph, expected = load(fixtures / case), load_file(fixtures / case / "expected.safetensors")["proj"]
    layer = graph["proj.weight"]
    assert (layer.op, layer.runs_on, layer.format, layer.shape) == ("linear", "engine", form, expected.shape)
    stored = stored_bytes(fixtures / case / "model.safetensors")
    assert layer.nbytes == layer.weight.nbytes == sum(size for name, size in stored.items() if name.startswith("proj."))
    assert {other.name for other in graph.layers} == {name for name in stored if not name.startswith("proj.")} | {"proj.weight"}
    weight = layer.weight.load()
    assert isinstance(weight, GroupedWeight) and (weight.bits, weight.scale_group, weight.format) == (bits, group, form)
    assert (weight.zero is not None, weight.order is not None) == (has_zero, has_order)
    assert expected.dtype == np.float32 and len(np.unique(expected)) > 10 and np.array_equal(weight.dequantise(), expected)


def stored_bytes(path):
    """{name: bytes} of a safetensors file, from its header."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    offsets = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return {name: end - start for name, (start, end) in offsets.items()}


def test_2_4_sparse_integers_keep_their_mask(fixtures):
    weight = load(fixtures / "ct_int8_sparse")["proj.weight"].weight.load()
    assert (weight.nnz, weight.group) == (2, 4) and (weight.mask.reshape(-1, 4).sum(axis=1) == 2).all()
    assert not weight.dequantise()[~weight.mask].any()


def test_2_4_sparse_floats_are_listed_with_a_reason_and_can_be_read(fixtures):
    layer = load(fixtures / "ct_sparse_24")["proj.weight"]
    assert (layer.runs_on, layer.shape, layer.format) == ("unsupported", (6, 20), "2:4 BF16")
    assert layer.reason == "float weights: compress first"
    (name, (matrix, mask)), = read_sparse_floats(fixtures / "ct_sparse_24").items()
    assert name == "proj.weight" and np.array_equal(matrix, load_file(fixtures / "ct_sparse_24" / "expected.safetensors")["proj"])
    assert mask.sum() == mask.size // 2 and np.array_equal(matrix != 0, mask)


@pytest.mark.parametrize("case", SAFETENSORS)
def test_only_the_mislabelled_file_gets_a_note(fixtures, case):
    notes = load(fixtures / case).notes
    if case != "gptq_mislabelled":
        assert notes == ()
    else:
        assert notes == ("mislabelled zero points: checkpoint_format 'gptq' stores zero - 1, but 1 of 1 layers store zero; "
                         "they are read by what they store",)  # fmt: skip


def relabelled(fixtures, case, folder, **changes):
    shutil.copytree(fixtures / case, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] |= changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


LIES = [("gptq_4bit_sym", "gptq_v2"), ("gptq_8bit_channel", "gptq_v2"), ("gptq_mislabelled", "gptq")]


@pytest.mark.parametrize("case, form", LIES)
@pytest.mark.parametrize("sym", [True, None])
def test_symmetric_zero_points_are_read_right_under_either_label(fixtures, tmp_path, case, form, sym):
    expected = load_file(fixtures / case / "expected.safetensors")["proj"]
    graph = load(relabelled(fixtures, case, tmp_path / "m", checkpoint_format=form, sym=sym))
    assert np.array_equal(graph["proj.weight"].weight.load().dequantise(), expected)
    assert len(graph.notes) == 1 and graph.notes[0].startswith(f"mislabelled zero points: checkpoint_format {form!r}")


def test_what_is_passed_overrules_the_label_and_the_constant(fixtures):
    """By one: the weights of the wrong convention are off by one step."""
    for case, right, wrong in (("gptq_mislabelled", "v2", "v1"), ("gptq_4bit", "v1", "v2"), ("gptq_v2", "v2", "v1")):
        expected = load_file(fixtures / case / "expected.safetensors")["proj"]
        graphs = [load(fixtures / case, gptq_zeros=convention) for convention in (right, wrong)]
        assert [graph.notes for graph in graphs] == [(), ()]
        got, off = (graph["proj.weight"].weight.load() for graph in graphs)
        assert np.array_equal(got.dequantise(), expected)
        steps = (off.dequantise() - expected) / np.repeat(got.scale, got.scale_group, axis=1)
        np.testing.assert_allclose(steps, 1 if wrong == "v2" else -1, rtol=1e-5)


@pytest.mark.parametrize("name, method, keys", [
    ("quantize_config.json", "gptq", {}), ("quant_config.json", "awq", {"bits": "w_bit", "group_size": "q_group_size"}),
])  # fmt: skip
def test_configs_in_the_files_of_autogptq_and_autoawq(fixtures, tmp_path, name, method, keys):
    case = {"gptq": "gptq_4bit", "awq": "awq_gemm"}[method]
    shutil.copytree(fixtures / case, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    own = {keys.get(key, key): value for key, value in config.pop("quantization_config").items() if key != "quant_method"}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    (tmp_path / "m" / name).write_text(json.dumps(own))
    weight = load(tmp_path / "m")["proj.weight"].weight.load()
    assert np.array_equal(weight.dequantise(), load_file(fixtures / case / "expected.safetensors")["proj"])


def test_gguf_matrices_of_the_package_that_defines_them(fixtures):
    graph = load(fixtures / "gguf" / "model.gguf")
    expected, compared = load_file(fixtures / "gguf" / "expected.safetensors"), 0
    for layer in graph.on("engine"):
        weight = layer.weight.load()
        name = "token_embd" if layer.name == "output.weight" else layer.name.removesuffix(".weight")
        assert np.array_equal(weight.dequantise(), expected[name]) and weight.kind == layer.weight.kind == "grouped"
        compared += 1
    assert compared == 4
    assert {row["name"]: (row["op"], row["format"], row["runs_on"], row["reason"], row["bits_per_weight"])
            for row in describe(fixtures / "gguf" / "model.gguf")} == {
        "token_embd.weight": ("embedding", "Q8_0", "host", "rows are looked up on the host", 8.5),
        "blk.0.attn_q.weight": ("linear", "Q4_0", "engine", "", 4.5),
        "blk.0.ffn_up.weight": ("linear", "Q4_1", "engine", "", 5.0),
        "blk.0.ffn_gate.weight": ("linear", "Q8_0", "engine", "", 8.5),
        "blk.0.ffn_down.weight": ("linear", "F16", "unsupported", "float weights: compress first", 16.0),
        "output_norm.weight": ("vector", "F32", "host", "element-wise work stays on the host", 32.0),
        "output.weight": ("linear", "Q8_0", "engine", "", 8.5),
    }  # fmt: skip


def written(path, tensors):
    writer = gguf.GGUFWriter(path, "llama")
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_embedding_is_the_head_only_where_there_is_none_and_the_model_has_one(tmp_path):
    data = gguf.quantize(np.ones((8, 32), np.float32), Q4_0), Q4_0
    norm = np.ones(32, np.float32), None
    for names, heads in (
        (["token_embd.weight", "output_norm.weight"], 1),
        (["token_embd.weight", "output_norm.weight", "output.weight"], 1),
        (["token_embd.weight"], 0),
        (["output_norm.weight"], 0),
    ):
        path = written(tmp_path / "m", {name: norm if "norm" in name else data for name in names})
        assert [layer.name for layer in load(path).layers if layer.op == "linear"] == ["output.weight"] * heads


@pytest.mark.parametrize("kind, block", [(Q4_0, 18), (Q4_1, 20), (Q8_0, 34)])
def test_any_block_means_the_same_to_the_package(tmp_path, kind, block):
    """Random bytes, but for a finite d (and m): scales of either sign, 0 and subnormal, codes that no quantiser makes."""
    rng = np.random.default_rng(kind)
    data = rng.integers(0, 256, (24, 3 * block), np.uint8)
    blocks = data.reshape(-1, block)
    halves = rng.standard_normal((len(blocks), 2 if kind is Q4_1 else 1)).astype("<f2")
    halves[:2] = np.array([[0], [6e-8]], "<f2")
    blocks[:, : 2 * halves.shape[1]] = halves.view(np.uint8)
    weight = load(written(tmp_path / "m", {"w": (data, kind)}))["w"].weight.load()
    expected = gguf.dequantize(data, kind)
    assert expected.shape == (24, 96) and np.array_equal(weight.dequantise(), expected) and (expected < 0).any()


@pytest.mark.slow
def test_every_matrix_of_a_real_model():
    """SmolLM2 as llama.cpp quantised it, 211 matrices: the head is the embedding."""
    path = smollm2.fetch()
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    graph, compared = load(path), 0
    for layer in graph.on("engine"):
        tensor = theirs["token_embd.weight" if layer.name == "output.weight" else layer.name]
        assert np.array_equal(layer.weight.load().dequantise(), gguf.dequantize(tensor.data, tensor.tensor_type)), layer.name
        compared += layer.n * layer.k
    assert compared == 106_168_320 + 28_311_552 and graph.on("unsupported") == ()
