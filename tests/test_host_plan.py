"""Plans: tiles cover each matrix once, closed forms add up, packed weights are the weights, files come back or are refused."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from sparseloom.host.compiler import compile_graph, outline, place
from sparseloom.host.container import checksum, load_plan, save_plan
from sparseloom.host.families import family_of
from sparseloom.host.golden import GoldenDevice
from sparseloom.host.plan import LayerPlan, Plan, build_digest
from sparseloom.models.graph import Graph, Layer, StoredWeight, TernaryWeight
from sparseloom.models.spec.errors import InputError
from sparseloom.models.spec.ternary import TernaryEngine

BUILD = TernaryEngine(rows=4, lanes=10, max_k=60, max_n=22, max_m=3)
SHAPES = {"ragged": (31, 75), "wide": (7, 120), "one": (1, 1)}


def linear(name, n, k, seed=0):
    trits = np.random.default_rng(seed).integers(-1, 2, (n, k), dtype=np.int8)
    return Layer(name=name, op="linear", shape=(n, k), format="int8", nbytes=n * k, weight=TernaryWeight(trits=trits, scale=0.25))


def graph():
    return Graph(name="small", layers=[linear(name, *shape) for name, shape in SHAPES.items()])


@given(n=st.integers(1, 70), k=st.integers(1, 90), m=st.integers(1, 9), max_n=st.integers(1, 40), max_k=st.integers(1, 50),
       max_m=st.integers(1, 4))
def test_tiles_cover_the_matrix_once_and_jobs_the_tokens(n, k, m, max_n, max_k, max_m):
    build = TernaryEngine(rows=4, lanes=10, max_n=max_n, max_k=max_k, max_m=max_m)
    plan = Plan(build, {"a": LayerPlan("a", n, k, 1.0)})
    seen, cycles, operands = np.zeros((m, n, k), int), 0, {}
    for tokens, steps in plan.rounds("a", m):
        assert len({step.result for _, step in steps}) == len(steps)
        for tile, step in steps:
            seen[tokens, tile.rows, tile.columns] += 1
            assert (step.job.m, step.job.n, step.job.k) == (tokens.stop - tokens.start, tile.n, tile.k)
            assert operands.setdefault(step.operand, tile.columns) == tile.columns
            cycles += build.cycles(step.job)
    assert (seen == 1).all()
    assert plan.cycles("a", m) == cycles
    # A tile ends between beats unless the matrix does, or the build cannot hold a whole one.
    assert all(tile.k % 10 == 0 or tile.columns.stop == k or max_k < 10 for tile in plan.tiles("a"))


def test_bytes_and_buffers():
    plan = Plan(BUILD, {"a": LayerPlan("a", 31, 75, 1.0)})
    # Tiles of 20 + 11 rows (5 + 3 groups of 4) and 60 + 15 columns (6 + 2 blocks of 10), 8 bytes a beat, 2 rounds of tokens.
    assert plan.beats("a", 4)["w"] == 2 * (5 + 3) * (6 + 2)
    assert plan.nbytes("a", 4)["w"] == 2 * (5 + 3) * (6 + 2) * 8
    assert plan.buffers() == {"x.0": 3 * 60, "x.1": 3 * 15, "y.0.0": 240, "y.0.1": 240, "y.1.0": 132, "y.1.1": 132}


@pytest.mark.parametrize("datapath", ["tree", "table"])
def test_stored_weights_are_the_weights(datapath):
    build = TernaryEngine(rows=4, lanes=10, max_k=60, max_n=22, max_m=3, datapath=datapath)
    model, steps = graph(), []
    plan = compile_graph(model, build, progress=lambda: steps.append(1))
    assert len(steps) == len(plan.layers) == 3
    for name, shape in SHAPES.items():
        matrix = np.full(shape, 9, np.int8)
        for tile in plan.tiles(name):
            stored = plan.stored[tile.name]
            assert stored.shape == family_of(build).stored_shape(build, plan.job(name, tile, 1))
            matrix[tile.rows, tile.columns] = family_of(build).unpack(build, plan.job(name, tile, 1), stored)
        assert np.array_equal(matrix, model[name].weight.trits)
        assert plan.layers[name].scale == 0.25


def test_place_says_where_and_why():
    def explode():
        raise AssertionError("placing must not read weights")

    def stored(kind, n, k):
        return {"shape": (n, k), "weight": StoredWeight(kind=kind, n=n, k=k, format="x", nbytes=1, read=explode)}

    layers = [
        Layer(name="gain", op="vector", shape=(4,), format="F32", nbytes=16, reason="element-wise"),
        Layer(name="half", op="linear", shape=(4, 4), format="F16", nbytes=32, reason="no engine takes F16 weights"),
        Layer(name="fits", op="linear", format="x", nbytes=1, **stored("ternary", 4, 4)),
        Layer(name="other", op="linear", format="x", nbytes=1, **stored("int4", 4, 4)),
        Layer(name="deep", op="linear", format="x", nbytes=1, **stored("ternary", 1, 1 << 24)),
    ]
    model = Graph(name="g", layers=layers)
    assert [(placed.layer.name, placed.where, placed.reason) for placed in place(model, BUILD)] == [
        ("gain", "host", "element-wise"),
        ("half", "unsupported", "no engine takes F16 weights"),
        ("fits", "engine", ""),
        ("other", "unsupported", "ternary_engine takes ternary weights, these are int4"),
        ("deep", "unsupported", "sums over more than 16777215 inputs may not fit int32"),
    ]
    assert list(outline(model, BUILD).layers) == ["fits"]


def test_a_plan_comes_back_from_its_file(tmp_path):
    plan = compile_graph(graph(), BUILD)
    save_plan(plan, tmp_path / "plan.safetensors")
    again = load_plan(tmp_path / "plan.safetensors")
    assert (again.build, again.layers) == (plan.build, plan.layers)
    assert again.stored.keys() == plan.stored.keys() and len(again.stored) == 7
    assert all(np.array_equal(again.stored[name], plan.stored[name]) for name in plan.stored)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.safetensors"]


def test_a_failed_save_leaves_nothing(tmp_path):
    (tmp_path / "plan").mkdir()
    with pytest.raises(OSError):
        save_plan(compile_graph(graph(), BUILD), tmp_path / "plan")
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]


def tampered(path, change, repaired=False):
    """Write the plan of ``graph`` to ``path`` with its tensors and its metadata changed by ``change(tensors, about)``.

    ``repaired``: with a checksum that agrees.
    """
    save_plan(compile_graph(graph(), BUILD), path)
    with safe_open(str(path), framework="numpy") as file:
        about = json.loads(file.metadata()["sparseloom_plan"])
    tensors = load_file(str(path))
    about = change(tensors, about) or about
    if repaired:
        layers = {layer["name"]: LayerPlan(**layer) for layer in about["layers"]}
        about["checksum"] = checksum(Plan(BUILD, layers, tensors))
    save_file(tensors, str(path), {"sparseloom_plan": about if isinstance(about, str) else json.dumps(about)})


def flip(tensors, _about):
    tensors["one/0.0"] = tensors["one/0.0"] ^ 1


def drop(tensors, _about):
    del tensors["one/0.0"]


def claim(field, value):
    def change(_tensors, about):
        about["layers"][0][field] = value
    return change


@pytest.mark.parametrize("change, field", [
    (flip, "checksum"),
    (drop, "checksum"),
    (lambda tensors, about: tensors.update(extra=np.zeros(1, np.uint8)), "checksum"),
    (lambda tensors, about: about["build"].update(rows=8), "digest"),
    (lambda tensors, about: about["build"].update(rows=0), "metadata"),
    (lambda tensors, about: about["build"].update(colour="red"), "metadata"),
    (lambda tensors, about: about.update(engine="warp"), "metadata"),
    (lambda tensors, about: about.update(format=2), "format"),
    (lambda tensors, about: about.pop("layers") and None, "metadata"),
    (lambda tensors, about: "[]", "metadata"),
    (lambda tensors, about: "no JSON", "metadata"),
    (lambda tensors, about: "[" * 100_000, "metadata"),
    (claim("n", -1), "metadata"),
    (claim("scale", float("nan")), "metadata"),
    (claim("n", 30), "checksum"),
])
def test_a_file_that_is_no_sound_plan_is_refused(tmp_path, change, field):
    tampered(tmp_path / "plan.safetensors", change)
    with pytest.raises(InputError) as caught:
        load_plan(tmp_path / "plan.safetensors")
    assert caught.value.field == field and caught.value.where == str(tmp_path / "plan.safetensors")


@pytest.mark.parametrize("change, field", [
    (drop, "tensors"),
    (lambda tensors, about: tensors.update(extra=np.zeros(1, np.uint8)), "tensors"),
    (claim("n", 1 << 30), "tensors"),
    (claim("n", 36), "ragged/1.0"),
    (claim("name", "renamed"), "renamed/0.0"),
    (lambda tensors, about: tensors.update({"one/0.0": tensors["one/0.0"].view(np.int8)}), "one/0.0"),
])
def test_a_file_that_contradicts_itself_is_refused(tmp_path, change, field):
    tampered(tmp_path / "plan.safetensors", change, repaired=True)
    with pytest.raises(InputError) as caught:
        load_plan(tmp_path / "plan.safetensors")
    assert caught.value.field == field


@pytest.mark.parametrize("data", [None, b"", b"not safetensors", (1 << 40).to_bytes(8, "little") + b"{}"])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path, data):
    if data is not None:
        (tmp_path / "plan").write_bytes(data)
    with pytest.raises(InputError, match="file must be safetensors that hold a plan"):
        load_plan(tmp_path / "plan")


def test_safetensors_of_something_else_are_refused(tmp_path):
    save_file({"a": np.zeros(3, np.uint8)}, str(tmp_path / "plan"))
    with pytest.raises(InputError, match="metadata must hold sparseloom_plan"):
        load_plan(tmp_path / "plan")


def test_a_device_refuses_a_plan_for_another_build(tmp_path):
    other = TernaryEngine(rows=4, lanes=10, max_k=60, max_n=22, max_m=4)
    assert build_digest(other) != build_digest(BUILD) == build_digest(TernaryEngine(**vars(BUILD)))
    save_plan(compile_graph(graph(), BUILD), tmp_path / "plan")
    with pytest.raises(InputError, match=f"build digest must be {build_digest(other)}, that of the device") as caught:
        GoldenDevice(other).load(load_plan(tmp_path / "plan"))
    assert caught.value.where == str(tmp_path / "plan")
    with pytest.raises(ValueError, match="the plan must hold packed weights of every tile, ragged/0.0 has none"):
        GoldenDevice(BUILD).load(outline(graph(), BUILD))


@pytest.mark.parametrize("values, message", [
    ((0, 1, 1.0), "n must be 1"), ((1, 1.5, 1.0), "k must be an integer"), ((1, 1, math.inf), "scale must be finite"),
])
def test_a_layer_must_make_sense(values, message):
    with pytest.raises((TypeError, ValueError), match=message):
        LayerPlan("a", *values)
