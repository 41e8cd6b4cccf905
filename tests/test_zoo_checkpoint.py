"""What ships loads, is what it was, and reproduces its recorded perplexity; files that are not sound are refused in one line."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save, save_file

from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo import MODELS, load, registry
from sparseloom.models.zoo.checkpoint import expected_shapes, read_model, ternarise, ternary_tensors, write_checkpoint
from sparseloom.models.zoo.matmulfree import SHIPPED, MatmulFreeLM

NAME = "kjv-matmulfree"
CONFIG = {"vocabulary": 12, "width": 8, "inner": 4, "layers": 2}


@pytest.fixture(scope="module")
def shipped():
    return load(NAME)


def test_the_shipped_model_is_what_its_results_say(shipped):
    results = MODELS[NAME].results()
    assert len(results["sha256"]) == 3 and MODELS[NAME].file in results["sha256"]
    assert sum(layer.trits.size for layer in shipped.layers.values()) == results["ternary_weights"] == 6_160_384
    assert shipped.config == results["recipe"]["config"] and MODELS[NAME].path == SHIPPED
    _, _, metadata = read_model(SHIPPED)
    assert metadata["perplexity"] == results["scores"] and metadata["recipe_sha256"] == results["recipe_sha256"]
    best = [min((run for run in results["runs"] if run["weights"] == kind), key=lambda run: run["validation"])["name"]
            for kind in ("ternary", "float")]
    assert best == [results["scores"]["ternary"]["run"], results["scores"]["float"]["run"]]


def test_heldout_perplexity_is_the_recorded_one(shipped):
    recorded = MODELS[NAME].results()["heldout_slice"]
    ids = shipped.encode(MODELS[NAME].heldout)
    assert len(ids) - 1 == recorded["tokens"] > 1000
    # Exact products; float32 rounding differs between machines and may move a few codes by one.
    assert shipped.perplexity(ids) == pytest.approx(recorded["perplexity"], rel=2e-3)


def test_the_card_prints_the_measured_numbers():
    card, scores = SHIPPED.with_name("README.md").read_text(), MODELS[NAME].results()["scores"]
    for kind in ("ternary", "float", "bigram"):
        validation, test = (scores[kind][split] for split in ("validation", "test"))
        cells = [f"{validation['perplexity']:.2f}", f"{test['perplexity']:.2f}", f"{test['bits_per_byte']:.3f}"]
        assert [" | ".join(cells) in line.replace("*", "") for line in card.splitlines()].count(True) == 1, kind


def test_text_goes_round(shipped):
    text = MODELS[NAME].heldout
    assert shipped.decode(shipped.encode(text)) == "\n" + text


def test_it_continues_a_verse_as_the_text_would(shipped):
    assert shipped.decode(shipped.generate(shipped.encode("And the LORD spake unto"), 3)).startswith(" Moses, saying")


@pytest.mark.parametrize("file", sorted(MODELS[NAME].results()["sha256"]))
def test_a_changed_file_is_refused(file, tmp_path, monkeypatch):
    for path in SHIPPED.parent.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    assert load(NAME).config["layers"] == 6
    data = bytearray((tmp_path / file).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / file).write_bytes(data)
    with pytest.raises(InputError, match=f"{file}: sha256 must be"):
        load(NAME)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=f"name must be one of {NAME}"):
        load("gpt")


def parameters(seed=0):
    draw = np.random.default_rng(seed)
    matrices, others = expected_shapes(CONFIG)
    shapes = matrices | {name: shape for name, shape in others.items() if not name.startswith("lower_bounds")}
    values = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return values | {"lower_bounds": draw.normal(size=(CONFIG["layers"], CONFIG["width"])).astype(np.float32)}


def test_what_is_written_is_read(tmp_path):
    trained = parameters()
    write_checkpoint(tmp_path / "m.safetensors", ternary_tensors(trained), {"config": CONFIG, "note": ["a", 1]})
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
    weights, floats, metadata = read_model(tmp_path / "m.safetensors")
    assert metadata["config"] == CONFIG and metadata["note"] == ["a", 1]
    assert len(weights) == 6 * CONFIG["layers"] + 1 and list(weights)[-1] == "lm_head.weight"
    for name, weight in weights.items():
        mean = float(np.abs(trained[name].astype(float)).mean())
        assert weight.scale == pytest.approx(mean, rel=1e-6)
        assert np.array_equal(weight.trits, [[max(-1, min(1, round(float(v) / mean))) for v in row] for row in trained[name]])
    assert np.array_equal(floats["lower_bounds.1"], trained["lower_bounds"][1])
    assert np.array_equal(floats["embeddings.weight"], trained["embeddings.weight"].astype(np.float16).astype(np.float32))


def test_a_zero_matrix_has_the_floor_as_its_scale():
    trits, scale = ternarise(np.zeros((4, 3)))
    assert not trits.any() and scale == np.float32(1e5)


def test_nothing_is_left_when_writing_fails(tmp_path):
    with pytest.raises(TypeError):
        write_checkpoint(tmp_path / "m.safetensors", {}, {"config": object()})
    assert list(tmp_path.iterdir()) == []


def dropped(tensors, name):
    return {key: value for key, value in tensors.items() if key != name}


@pytest.mark.parametrize("change, word", [
    (lambda t, c: (dropped(t, "layers.1.attn.g_proj.weight"), c), r"g_proj.weight must have the shape \(8, 8\), got None"),
    (lambda t, c: (dropped(t, "lower_bounds.1"), c), "lower_bounds.1 must have the shape"),
    (lambda t, c: (dropped(t, "lm_head.weight_scale"), c), "lm_head.weight must"),
    (lambda t, c: (t | {"norm.weight": np.ones(9, np.float32)}, c), "norm.weight must have the shape"),
    (lambda t, c: (t | {"norm.weight": np.full(8, np.nan, np.float32)}, c), "norm.weight must hold finite"),
    (lambda t, c: (t | {"norm.weight": np.ones(8, np.int32)}, c), "norm.weight must hold finite"),
    (lambda t, c: (t | {"lm_head.weight": np.full((3, 8), 255, np.uint8)}, c), r"byte \[0, 0\]"),
    (lambda t, c: (t | {"lm_head.weight_scale": np.zeros(1, np.float32)}, c), "weight_scale must be finite and positive"),
    (lambda t, c: (t, c | {"layers": 3}), "layers.2.attn.i_proj.weight must have the shape"),
    (lambda t, c: (t, c | {"layers": 10**9}), "config.layers must be an integer from 1"),
    (lambda t, c: (t, c | {"width": "8"}), "config.width must be an integer from 1"),
    (lambda t, c: (t, [1]), "config.vocabulary must be an integer"),
])
def test_files_against_their_own_config_are_refused(change, word, tmp_path):
    tensors, config = change(ternary_tensors(parameters()), CONFIG)
    write_checkpoint(tmp_path / "m.safetensors", tensors, {"config": config})
    with pytest.raises(InputError, match=word) as caught:
        read_model(tmp_path / "m.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 5, 300, -1])
def test_truncated_files_are_refused(keep, tmp_path):
    data = save(ternary_tensors(parameters()), {"config": json.dumps(CONFIG)})
    (tmp_path / "m.safetensors").write_bytes(data[:keep])
    with pytest.raises(InputError):
        MatmulFreeLM.load(tmp_path / "m.safetensors")


def test_metadata_that_is_no_json_is_refused(tmp_path):
    write_checkpoint(tmp_path / "m.safetensors", ternary_tensors(parameters()), {"config": CONFIG})
    bitnet = json.dumps({"quant_method": "bitnet"})
    metadata = {"config": "{", "quantization_config": bitnet}
    save_file(load_file(tmp_path / "m.safetensors"), tmp_path / "n.safetensors", metadata)
    with pytest.raises(InputError, match="metadata must be JSON texts"):
        read_model(tmp_path / "n.safetensors")
