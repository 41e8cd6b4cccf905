"""Real weights on gates: rows of SmolLM2-135M with the activations that they are given; figures of many products."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file

import sparseloom
from sparseloom.host.checked import Checked
from sparseloom.host.device import Receipt
from sparseloom.host.tally import passes, tally
from sparseloom.models.importers.gguf_floats import read_floats

BUILD = sparseloom.SparseChain(max_k=1536, max_n=576, max_m=2)  # a build of the conformance suite: compiled once for both
SHAPES = {"blk.0.attn_q.weight": (48, 576), "blk.29.ffn_down.weight": (40, 1536), "output.weight": (33, 576)}
M = 4
NEAR = 0.02
"""Of the largest result: int8 activations in groups of 32 are within this of float ones, on these rows."""


@pytest.fixture(scope="module")
def folder(root):
    return root / "tests" / "fixtures" / "smollm2"


@pytest.fixture(scope="module")
def plan(folder):
    return sparseloom.compile_graph(sparseloom.load_model(folder / "slices.gguf"), BUILD)


def test_the_files_are_those_of_the_recipe(folder):
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == 2
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


def test_golden_is_near_the_float_product(folder, plan):
    weights, inputs = read_floats(folder / "slices.gguf")[1], load_file(folder / "inputs.safetensors")
    runtime = sparseloom.Runtime(sparseloom.device("golden", BUILD), plan)
    for name, shape in SHAPES.items():
        wanted = inputs[name].astype(np.float64) @ weights[name].T
        assert weights[name].shape == shape and wanted.shape == (M, shape[0])
        error = np.abs(runtime.linear(name, inputs[name]) - wanted).max() / np.abs(wanted).max()
        assert 0 < error < NEAR, name


@pytest.mark.rtl
def test_gates_equal_golden_and_the_closed_form(folder, plan):
    inputs, graph = load_file(folder / "inputs.safetensors"), sparseloom.load_model(folder / "slices.gguf")
    golden = sparseloom.Runtime(sparseloom.device("golden", BUILD), plan)
    with sparseloom.device("sim", BUILD) as device:
        checked = Checked(sparseloom.Runtime(device, plan), {layer.name: layer.weight for layer in graph.layers})
        for name in SHAPES:
            for m in (1, M):
                y = checked.linear(name, inputs[name][:m])
                assert y.dtype == np.float32 and np.array_equal(y, golden.linear(name, inputs[name][:m]))
    assert [(product.compared, product.wrong) for product in checked.products] == [
        (m * n, 0) for n, _ in SHAPES.values() for m in (1, M)]
    found = tally(plan, checked.products)
    assert found["products"] == 6 and found["cycles"] == found["predicted_cycles"] > 0
    assert found == tally(plan, golden.calls)


def test_a_tally_weighs_by_cycles(plan):
    q, down = "blk.0.attn_q.weight", "blk.29.ffn_down.weight"
    calls = [SimpleNamespace(layer=name, m=m, receipt=Receipt("exact", cycles=cycles))
             for name, m, cycles in ((q, 1, 500), (down, 3, 9000), (q, 1, 700))]
    found = tally(plan, calls)
    # A weight of Q4_1 has 5 bits with its scale and offset, a beat 512; three tokens of down are a job of two and one of one.
    beats = 5 * (2 * 48 * 576 + 2 * 40 * 1536) / 512
    products = 2 * 48 * 576 + 3 * 40 * 1536
    assert found == {"products": 3, "cycles": 10200, "stream_fraction": pytest.approx(beats / 10200),
                     "compute_fraction": pytest.approx(products / (16 * 8 * 2) / 10200),
                     "predicted_cycles": 2 * plan.cycles(q, 1) + plan.cycles(down, 2) + plan.cycles(down, 1)}


def test_a_pass_begins_with_the_first_layer():
    calls = [SimpleNamespace(layer=name) for name in "abcabcabc"]
    assert ["".join(call.layer for call in part) for part in passes(calls)] == ["abc"] * 3
    assert passes([]) == []
