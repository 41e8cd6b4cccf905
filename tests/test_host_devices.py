"""The same code on NumPy and on the gates: equal integers, equal cycles, for layers that need tiles along every axis."""

import numpy as np
import pytest

import sparseloom
from sparseloom.host.checked import Checked
from sparseloom.host.device import Receipt
from sparseloom.host.golden import GoldenDevice
from sparseloom.models.graph import Graph, Layer, TernaryWeight

# Shared by the tests of the host and of the verbs: one compilation.
BUILD = sparseloom.TernaryEngine(rows=4, lanes=10, max_k=60, max_n=22, max_m=3)
SHAPES = {"ragged": (31, 75), "wide": (7, 120), "one": (1, 1), "whole": (20, 60)}


def model(seed=0):
    draw = np.random.default_rng(seed)
    layers = []
    for name, (n, k) in SHAPES.items():
        weight = TernaryWeight(trits=draw.integers(-1, 2, (n, k), dtype=np.int8), scale=0.5)
        layers.append(Layer(name=name, op="linear", shape=(n, k), format="int8", nbytes=n * k, weight=weight))
    return Graph(name="small", layers=layers)


def codes(name, m, seed=1):
    return np.random.default_rng(seed).integers(-128, 128, (m, SHAPES[name][1]), dtype=np.int8)


def definition(x, w):
    """Sums by Python's integers."""
    return [[sum(int(a) * int(b) for a, b in zip(row, column, strict=True)) for column in w] for row in x]


@pytest.fixture(scope="module")
def plan():
    return sparseloom.compile_graph(model(), BUILD)


@pytest.mark.parametrize("datapath", ["tree", "table"])
def test_golden_is_the_definition(datapath):
    build = sparseloom.TernaryEngine(rows=4, lanes=10, max_k=60, max_n=22, max_m=3, datapath=datapath)
    graph = model()
    runtime = sparseloom.Runtime(sparseloom.device("golden", build), sparseloom.compile_graph(graph, build))
    for name in SHAPES:
        x = codes(name, 7)
        y = runtime.matmul(name, x)
        assert y.dtype == np.int32 and y.tolist() == definition(x, graph[name].weight.trits)
        call = runtime.calls[-1]
        assert (call.layer, call.m, call.receipt.basis) == (name, 7, "exact")
        assert call.receipt.cycles == runtime.plan.cycles(name, 7) > 0
        assert runtime.scale(name) == 0.5


@pytest.mark.rtl
def test_gates_equal_golden_and_cycles_the_closed_form(plan, tmp_path):
    sparseloom.save_plan(plan, tmp_path / "plan.safetensors")
    golden = sparseloom.Runtime(sparseloom.device("golden", BUILD), plan)
    with sparseloom.device("sim", BUILD) as device:
        gates = sparseloom.Runtime(device, tmp_path / "plan.safetensors")
        for name in SHAPES:
            for m in (1, 3, 7):
                x = codes(name, m)
                assert np.array_equal(gates.matmul(name, x), golden.matmul(name, x))
    assert len(gates.calls) == len(golden.calls) == 12
    for there, here in zip(gates.calls, golden.calls, strict=True):
        assert (there.receipt.basis, here.receipt.basis) == ("rtl", "exact")
        for field in ("jobs", "cycles", "nbytes", "stalls", "saturations"):
            assert getattr(there.receipt, field) == getattr(here.receipt, field), field
        assert there.receipt.nbytes == plan.nbytes(there.layer, there.m)
    assert sum(call.receipt.jobs for call in gates.calls) == (1 + 1 + 3) * (4 + 2 + 1 + 1)


@pytest.mark.rtl
def test_a_device_that_stalls_is_late_and_right(plan):
    x = codes("ragged", 7)
    with sparseloom.device("sim", BUILD, stall=0.3, idle=0.3, seed=5) as device:
        runtime = sparseloom.Runtime(device, plan)
        assert runtime.matmul("ragged", x).tolist() == definition(x, model()["ragged"].weight.trits)
    receipt = runtime.calls[-1].receipt
    assert receipt.cycles > plan.cycles("ragged", 7) and receipt.stalls["i"] > 0


def test_checked_counts_what_is_wrong(plan):
    class Broken(GoldenDevice):
        def _execute(self, steps):
            for result, receipt in super()._execute(steps):
                result[0, 0] += 1
                yield result, receipt

    weights = {layer.name: layer.weight for layer in model().layers}
    for device, wrong in ((GoldenDevice(BUILD), 0), (Broken(BUILD), 2)):
        checked = Checked(sparseloom.Runtime(device, plan), weights)
        checked.matmul("whole", codes("whole", 5))
        product, = checked.products
        assert (product.layer, product.m, product.compared, product.wrong) == ("whole", 5, 100, wrong)
        assert product.receipt.cycles == plan.cycles("whole", 5)


@pytest.mark.parametrize("name, x, message", [
    ("nope", np.zeros((1, 1), np.int8), "layer must be one of the plan's 4, got 'nope'"),
    ("one", np.zeros((1, 2), np.int8), "codes of one must be int8"),
    ("one", np.zeros((1, 1), np.int16), "codes of one must be int8"),
    ("one", np.zeros((0, 1), np.int8), "codes of one must be int8"),
    ("one", np.zeros(1, np.int8), "codes of one must be int8"),
])
def test_the_runtime_refuses(plan, name, x, message):
    runtime = sparseloom.Runtime(GoldenDevice(BUILD), plan)
    with pytest.raises(ValueError, match=message):
        runtime.matmul(name, x)
    assert runtime.calls == []


def test_a_device_refuses_what_it_does_not_hold(plan):
    device = GoldenDevice(BUILD)
    device.load(plan)
    (_, ((_, step), *_)), = plan.rounds("one", 1)
    with pytest.raises(ValueError, match="operand 'x.0' must be on the device"):
        device.run([step])
    device.write("x.0", np.zeros((1, 1), np.int8))
    device.run([step])
    assert device.read(step.result).tolist() == [[0]]
    device.load(plan)
    with pytest.raises(KeyError):
        device.read(step.result)
    with pytest.raises(ValueError, match="operand x.0 must be int8"):
        device.write("x.0", np.zeros((1, 1), np.float32))


def test_receipts_add_up_within_a_basis():
    one = Receipt("rtl", jobs=1, cycles=5, nbytes={"w": 8}, stalls={"i": 2})
    assert one + one == Receipt("rtl", jobs=2, cycles=10, nbytes={"w": 16}, stalls={"i": 4})
    with pytest.raises(ValueError, match="receipts must have one basis, got rtl and exact"):
        one + Receipt("exact")


def test_the_front_door():
    assert set(sparseloom.__all__) <= set(dir(sparseloom))
    assert all(getattr(sparseloom, name) is not None for name in sparseloom.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sparseloom.nothing  # noqa: B018
    with pytest.raises(ValueError, match="device must be one of golden, sim, got 'board'"):
        sparseloom.device("board", BUILD)
