"""Five ONNX models that other people trained, downloaded once: what of them maps, how near the interpreter is to onnxruntime."""

import importlib.util
from collections import Counter

import pytest

from sparseloom.models.importers import load
from sparseloom.models.importers.onnx_check import describe_operators
from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo import onnx_models
from sparseloom.models.zoo.onnx_models import ONNX_MODELS

# model: engine layers, unsupported layers, attention, layer or RMS norms, a layer's name
MAPPED = {
    "vit-s14": (73, 0, 12, 25, "backbone.encoder.layer.11.mlp.fc2.weight"), "svtr-ocr": (9, 0, 2, 5, "linear_85.w_0"),
    "minilm-int8": (36, 0, 6, 13, "inner.encoder.layer.5.attention.self.key.weight"),
    "flan-t5-encoder": (56, 0, 8, 17, "enc.block.0.layer.0.SelfAttention.q.weight"),
    "flan-t5-decoder": (89, 0, 16, 25, "m.decoder.block.0.layer.1.EncDecAttention.k.weight"),
}  # fmt: skip
# model: largest error of the float path (None: a code may flip), largest rms error of int8 with int8 attention
ERRORS = {"vit-s14": (1e-4, 0.06), "svtr-ocr": (1e-4, 0.03), "minilm-int8": (1e-4, 0.15), "flan-t5-encoder": (None, 0.1),
          "flan-t5-decoder": (None, 0.3)}  # fmt: skip


def script(path):
    spec = importlib.util.spec_from_file_location(f"bench_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def benchmark(root):
    return script(root / "benchmarks" / "onnx_models.py")


@pytest.mark.slow
@pytest.mark.parametrize("name", MAPPED)
def test_what_maps(name):
    graph = load(ONNX_MODELS[name].path, float_weights="int8")
    operations = Counter()
    for row in describe_operators(graph.nodes):
        operations[row["op"]] += row["number"]
        assert row["runs_on"] != "unsupported"
    found = len(graph.on("engine")), len(graph.on("unsupported")), operations["attention"]
    assert (*found, operations["layer norm"] + operations["RMS norm"]) == MAPPED[name][:4]
    assert graph[MAPPED[name][4]].weight.load().form.bits == 8


@pytest.mark.slow
@pytest.mark.parametrize("name", ERRORS)
def test_errors_against_onnxruntime(name, benchmark):
    row = benchmark.measure(name)
    most, rms = ERRORS[name]
    assert row["passed"] and row["node_by_node"]["integers"] > 50
    assert most is None or row["paths"]["float"]["max_error"] <= most
    assert row["paths"]["int8"]["rms_error"] <= row["paths"]["int8 attention"]["rms_error"] <= rms
    if name == "svtr-ocr":
        assert {path["meaning"].strip("' ") for path in row["paths"].values()} == {benchmark.TEXT}
    if name == "vit-s14":
        assert {path["meaning"].partition(" at ")[2][:-1] for path in row["paths"].values()} == {"row 109, column 13"}
        assert row["jobs"] == 123 and row["saturated"] == 0 and row["paths"]["engines"]["rms_error"] < 0.03


@pytest.mark.slow
@pytest.mark.rtl
def test_the_recogniser_on_gates(root, benchmark):
    """Every product, attention, norm and activation on gates: results and cycles equal, and the line is read."""
    row = script(root / "benchmarks" / "onnx_gates.py").measure("svtr-ocr", *benchmark.CASES["svtr-ocr"][:2])
    assert row["passed"] and row["meaning"].strip("' ") == benchmark.TEXT
    jobs = {engine: count["jobs"] for engine, count in row["engines"].items()}
    assert jobs == {"sparse_chain": 9, "vector": 12, "attention": 2}
    assert all(count["compared"] > 20_000 for count in row["engines"].values())


def test_the_documents_figures_name_every_model(root):
    text = (root / "docs" / "onnx.md").read_text()
    assert all(word in text for word in ("ViT-S/14", "SVTR", "MiniLM", "encoder", "decoder"))
    assert set(ONNX_MODELS) == set(ERRORS) == set(MAPPED)


def test_a_wheel_of_another_content_is_refused(tmp_path, monkeypatch):
    """The digest is that of the member; nothing stays in the cache."""
    import zipfile

    model = ONNX_MODELS["svtr-ocr"]
    monkeypatch.setenv("SPARSELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(onnx_models.FOLDER, str(tmp_path))
    with pytest.raises(InputError, match=r"folder must hold rapidocr_onnxruntime-1.4.4-\*.whl"):
        _ = model.path
    with zipfile.ZipFile(tmp_path / "rapidocr_onnxruntime-1.4.4-py3-none-any.whl", "w") as wheel:
        wheel.writestr(model.member, b"other")
    with pytest.raises(InputError, match=f"sha256 of {model.member} must be {model.sha256}"):
        _ = model.path
    assert not list((tmp_path / "cache").glob("models/*.onnx")) and not list((tmp_path / "cache" / "models").glob("*/*.onnx"))
