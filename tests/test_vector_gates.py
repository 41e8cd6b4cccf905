"""The vector engine's gates where it hurts: corners, rows that end anywhere, a root that has not converged, a model's shapes."""

import math

import numpy as np
import pytest

from sparseloom.models.formats.engines import collect, pack
from sparseloom.models.golden.engines import results
from sparseloom.models.golden.ivit import integer_root
from sparseloom.models.spec.vector import Vector
from sparseloom.models.spec.vector_cycles import root_cycles
from sparseloom.sim.pysim import PySimulator
from sparseloom.sim.runner import Simulator, Work

pytestmark = pytest.mark.rtl

LOW, HIGH = -(1 << 31), (1 << 31) - 1


def run(simulator, build, *cases):
    """[(y, receipt)] of ``cases``, each a job's fields and its operands; compared with golden and the closed form."""
    works, wants = [], []
    for shape, operands in cases:
        job = build.job(**shape)
        operands = {name: np.asarray(value, np.int16 if name == "gamma" else np.int32) for name, value in operands.items()}
        works.append(Work(job, pack(build, job, operands)))
        wants.append(results(build, job, operands))
    found = []
    for work, want, receipt in zip(works, wants, simulator.run(works), strict=True):
        y = collect(build, work.job, receipt.outputs)["y"]
        assert (y == want["y"]).all() and receipt.done["saturated"] == want["saturated"], work.job
        assert receipt.cycles == build.cycles(work.job)
        found.append((y, receipt))
    return found


@pytest.mark.parametrize("function", ["layernorm", "rmsnorm"])
def test_the_corner_of_the_norms(function):
    """Rows of the largest numbers, an outlier among them, the largest weights: by hand where that is easy."""
    k = 16
    build = Vector(function=function, lanes=2, max_m=4, max_k=k, narrow=False)
    x = np.full((4, k), LOW)
    x[1, 3], x[2, ::2], x[3] = HIGH, HIGH, HIGH
    gamma, beta = np.full(k, -(1 << 15)), np.full(k, LOW)
    (y, _), _ = run(PySimulator(build), build,
                    ({"m": 4, "k": k, "shift": 16}, {"x": x, "gamma": gamma, "beta": beta}),
                    ({"m": 4, "k": k, "shift": 0, "eps": (1 << 48) - 1}, {"x": x, "gamma": -gamma - 1, "beta": beta}))
    if function == "layernorm":
        assert (y[0] == LOW).all() and (y[3] == LOW).all()
    else:
        # n is -1, exactly: V is a power of four. Times gamma, 2**35, and 16 places down.
        assert (y[0] == LOW + (1 << 19)).all()


@pytest.mark.parametrize("function, lanes", [("layernorm", 3), ("shiftmax", 1), ("shiftmax", 3), ("sigmoid", 4)])
def test_rows_end_anywhere(function, lanes):
    """Every k from 1 to two beats and one more, all of a row beyond it what would be noticed."""
    build = Vector(function=function, lanes=lanes, max_m=2, max_k=2 * lanes + 1, narrow=False)
    rng, cases = np.random.default_rng(1), []
    for k in range(1, 2 * lanes + 2):
        weights = {"gamma": rng.integers(-99, 99, k), "beta": rng.integers(-99, 99, k)} if build.weighted else {}
        cases.append(({"m": 2, "k": k}, {"x": -rng.integers(1, 100, (2, k))} | weights))
    run(PySimulator(build), build, *cases)


def test_padding_that_is_not_0_changes_nothing():
    build = Vector(function="layernorm", lanes=4, max_m=1, max_k=8, narrow=False)
    job = build.job(k=5)
    operands = {"x": np.array([[5, -3, 8, 1, 0]], np.int32), "gamma": np.full(5, 99, np.int16), "beta": np.arange(5)}
    image = pack(build, job, operands)
    image.streams["x"][1, 4:] = 0x7F
    receipt, = PySimulator(build).run([Work(job, image)])
    assert (collect(build, job, receipt.outputs)["y"] == results(build, job, operands)["y"]).all()


def test_roots_that_have_not_converged():
    """Sums of squares from 0 to 183,184 and beyond: two elements, y and -y."""
    build = Vector(function="ilayernorm", lanes=2, max_m=40, max_k=2, narrow=False)
    half = np.array([0, 1, 2, 3, 5, 9, 10, 22, 31, 63, 64, 100, 150, 181, 182, 200, 250, 300, 301, 302, 303, 304, 1000, HIGH])
    (y, _), = run(Simulator(build), build, ({"m": len(half), "k": 2}, {"x": np.stack([half, -half], 1), "beta": [0, 7]}))
    square = 2 * np.minimum(half, 32767).astype(np.int64) ** 2
    wrong = [int(root) != math.isqrt(int(value)) for root, value in zip(integer_root(square), square, strict=True)]
    assert 8 < sum(wrong) < len(half) - 3 and y[0].tolist() == [0, 7]


def test_rows_of_negative_numbers_have_a_gelu():
    """max < 0: exp(-max) of a positive argument, up to and beyond 2**31."""
    build = Vector(function="shiftgelu", lanes=2, max_m=1, max_k=4, narrow=False)
    cases = []
    for unit in (1, 19, 255):
        for most in (-1, -5, -8 * unit, -8 * unit - 1, -100_000, LOW):
            cases.append(({"k": 4, "unit": unit}, {"x": np.maximum(most - np.array([[0, 1, 7, 300]]), LOW)}))
    run(PySimulator(build), build, *cases)


def test_a_layer_of_deit():
    """LayerNorm of 197 tokens of 192: 4,728 beats, one a cycle but for the start and the end."""
    build = Vector(max_m=197, max_k=192)
    rng = np.random.default_rng(2)
    x = np.round(rng.normal(30, 500, (197, 192)))
    gamma, beta = rng.integers(20_000, 32_767, 192), rng.integers(-500, 500, 192)
    operands = {"x": x, "gamma": gamma, "beta": beta}
    shape = {"m": 197, "k": 192, "shift": 27}
    (narrow, receipt), (y, _) = run(
        Simulator(build), build, (shape | {"out_multiplier": 3, "out_shift": 5, "narrow": True}, operands), (shape, operands))
    assert 197 * 24 / receipt.cycles > 0.98 and len(np.unique(narrow)) > 100
    # By hand, in floats: n with 20 fraction bits times gamma of 15, shifted by 27 to 8 fraction bits.
    real = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    assert np.abs(y / 256 - (real * gamma / (1 << 15) + beta / 256)).max() < 1 / 256


def test_a_row_at_a_time_where_the_root_is():
    build = Vector(function="ilayernorm", max_m=10, max_k=64)
    rng = np.random.default_rng(3)
    operands = {"x": rng.integers(-999, 999, (10, 64)), "beta": np.zeros(64)}
    (_, receipt), = run(Simulator(build), build, ({"m": 10, "k": 64}, operands))
    assert receipt.cycles == build.cycles(build.job(m=1, k=64)) + 9 * (root_cycles(build) + 1)
