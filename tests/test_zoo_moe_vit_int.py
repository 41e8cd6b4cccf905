"""The vision transformer in integers: its scales, its jobs, and the model that ships, on golden models and on gates."""

import json
import subprocess
import sys

import numpy as np
import pytest

from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo import MODELS, load
from sparseloom.models.zoo.moe_vit import MoeVit, expected_shapes
from sparseloom.models.zoo.moe_vit_accuracy import measure
from sparseloom.models.zoo.moe_vit_int import FRACTION, IntegerVit, add, make_matrix, make_norm, rounding
from sparseloom.models.zoo.moe_vit_jobs import UNIT, Engines, make_builds
from sparseloom.models.zoo.moe_vit_ranges import best_range, calibrate
from sparseloom.models.zoo.train_moe_vit import parse

NAME = "mnist-moe-vit"
CONFIG = {"side": 6, "patch": 2, "width": 8, "heads": 2, "depth": 3, "hidden": 12, "experts": 4, "expert_hidden": 6, "top_k": 2,
          "tasks": {"digit": 3, "parity": 2}}


def tensors(seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) * (0.5 if len(shape) > 1 else 0.3)
            for name, shape in expected_shapes(CONFIG).items()}


@pytest.fixture(scope="module")
def small():
    """(float model, integers, images) of a random network."""
    model = MoeVit(CONFIG, tensors(3), {})
    images = np.random.default_rng(4).integers(0, 256, (24, 6, 6), dtype=np.uint8)
    return model, IntegerVit(model, calibrate(model, images)), images


@pytest.mark.parametrize("task", CONFIG["tasks"])
def test_integers_follow_the_floats(small, task):
    model, integers, images = small
    engines = Engines(make_builds(CONFIG, len(images)))
    found, wanted = integers.forward(images, task, engines) / 2.0**FRACTION, model.forward(images, task)
    # A random network amplifies what int8 rounds off, and a token may change its expert; half the spread is far from chance.
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.98
    assert engines.jobs == {"linear": 2 + 3 * 2 + 2 * 2 + 3, "norm": 7, "attention": 3, "gate": 1}


def test_an_image_is_the_same_alone_and_among_others(small):
    _, integers, images = small
    together = integers.forward(images[:5], "digit", Engines(make_builds(CONFIG, 5)))
    alone = [integers.forward(images[number : number + 1], "digit", Engines(make_builds(CONFIG))) for number in range(5)]
    assert np.array_equal(together, np.concatenate(alone)) and len(np.unique(together)) > 10


def test_a_matrix_holds_its_floats():
    rng = np.random.default_rng(5)
    weight, bias, rows = rng.normal(size=(6, 40)), rng.normal(size=6), rng.uniform(0.5, 2, 6)
    matrix = make_matrix(weight.astype(np.float32), bias, 0.01, 12, rows=rows)
    x = rng.integers(-127, 128, (3, 40))
    exact = (x * 0.01 @ weight.T + bias) / rows * 2**12
    found = (x @ matrix.codes[0].T.astype(np.int64)) * matrix.scales[0] * UNIT / 2.0**matrix.shift + matrix.bias[0]
    # Half a step of each weight; a sum's mantissa is right to 2**-12; half a unit of the bias.
    steps = np.abs(weight).max(axis=1) / 127 / 2
    bound = np.abs(x).sum(axis=1)[:, None] * 0.01 * steps / rows * 2**12
    bound += (np.abs(exact) + np.abs(bias / rows) * 2**12) * 2**-11 + 1
    assert (np.abs(found - exact) <= bound).all() and (np.abs(exact).max() > 10 * bound.max())
    assert np.abs(matrix.codes).max() == 127
    with pytest.raises(ValueError, match="bias must fit 32 bits with 30 fraction bits"):
        make_matrix(weight.astype(np.float32), bias + 3, 0.01, 30)


def test_a_norm_holds_its_floats():
    norm = make_norm(np.array([0.5, -1.0, 2.0, 1.0]), np.array([0.1, 0, -0.2, 0]), 0.03)
    # Mantissas of 16 bits with their sign share the largest one's exponent: the smallest, a quarter of it, is right to 2**-13.
    assert norm.gamma / 2.0**norm.shift * 2**20 / 2**norm.out_shift == pytest.approx(np.array([0.5, -1, 2, 1]) / 0.03, rel=1e-3)
    # Half a unit of its fraction.
    assert norm.beta / 2**norm.out_shift == pytest.approx(np.array([0.1, 0, -0.2, 0]) / 0.03, abs=0.01)
    assert norm.eps == round(1e-6 * 16 * 4**FRACTION)


@pytest.mark.parametrize("factor", [1.0, 0.75, 1e-6, 3.2e-3, 1 / 3])
def test_a_factor_is_a_multiplier_and_a_shift(factor):
    multiplier, shift = rounding(factor)
    # The mantissa's last bit.
    assert multiplier < 1 << 16 and multiplier / 2.0**shift == pytest.approx(factor, rel=2**-15)


def test_a_range_gives_up_what_is_rare():
    values = np.full(100_000, 0.5)
    assert best_range(np.append(values, 1.0), 1.0) < 1.0 and best_range(np.linspace(0, 1, 1000), 1.0) == 1.0
    assert best_range(np.zeros(3), 0.0) == 1.0


@pytest.mark.parametrize("ranges", [None, {}, {"norm": 0}, {"norm": True}, {"norm": "1"}, {"norm": float("nan")}])
def test_ranges_that_do_not_say_all_are_refused(ranges):
    with pytest.raises(InputError, match="norm must be a number above 0"):
        IntegerVit(MoeVit(CONFIG, tensors(), {}), ranges)


def test_a_residual_stream_that_overflows_is_an_error():
    assert add(np.int32([-(1 << 30)]), np.int32([-(1 << 30)])) == [-(1 << 31)]
    for x in ([1 << 30], [-(1 << 30) - 1]):
        with pytest.raises(OverflowError, match="must fit 32 bits"):
            add(np.int32(x), np.int32(x))


def test_the_shipped_model_gives_its_recorded_answers():
    model, results = load(NAME), MODELS[NAME].results()
    images, labels = MODELS[NAME].heldout_images()
    assert len(images) == 1000 and (np.bincount(labels) == 100).all()
    assert sum(value.size for value in model.tensors.values()) == results["weights"]
    every = results["sample"]["every"]
    for task in model.tasks:
        found, recorded = measure(model, images[::every], labels[::every], task), results["sample"]["scores"][task]
        for key in ("images", "integer_right", "saturated", "sha256_of_logits"):  # integers: the same everywhere
            assert found[key] == recorded[key], (task, key)
        assert found["float_right"] >= recorded["float_right"] - 1
        whole = results["scores"][task]
        assert whole["images"] == 1000 and 10 * (whole["float_right"] - whole["integer_right"]) <= 50


def test_the_card_prints_the_measured_numbers():
    card, results = MODELS[NAME].path.with_name("README.md").read_text(), MODELS[NAME].results()
    for task, row in results["scores"].items():
        cells = [f"{row[key] / 10:.1f} %" for key in ("float_right", "integer_right")]
        assert sum(line.startswith(f"| {task} | ") and " | ".join(cells) in line for line in card.splitlines()) == 1
    for run in results["runs"]:
        cells = " | ".join(f"{100 * run['held_out'][task]:.1f} %" for task in ("digit", "parity"))
        assert sum(line.startswith(f"| {run['name']} | ") and cells in line for line in card.splitlines()) == 1


def test_the_recipe_is_the_runs_that_were_made():
    made = {run["name"]: run for run in MODELS[NAME].results()["runs"]}
    lines = MODELS[NAME].path.with_suffix(".recipe.txt").read_text().splitlines()
    assert len(lines) == len(made) == 4
    for line in lines:
        options = parse(["digits", "--out", "runs", *line.split()])
        run = made[options.name]
        assert run["options"] == {key: getattr(options, key) for key in run["options"]}
        assert run["config"]["depth"] == options.depth


def bench(root, *words):
    done = subprocess.run([sys.executable, root / "benchmarks" / "moe_vit.py", *words, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.rtl
def test_an_image_on_gates(root):
    found = bench(root, "gates", "--images", "1")["gates"]
    assert set(found["engines"]) == {"moe_linear", "vector", "attention", "moe_gate"}
    assert found["total"]["values"] > 100_000 and found["total"]["cycles"] == found["total"]["predicted"] > 10_000


@pytest.mark.rtl
@pytest.mark.slow
def test_twenty_images_on_gates(root):
    found = bench(root, "gates")["gates"]
    assert found["images"] == 20 and found["total"]["values"] > 2_000_000


@pytest.mark.slow
def test_accuracy_on_all_held_out_images(root):
    found, recorded = bench(root, "accuracy")["accuracy"], MODELS[NAME].results()["scores"]
    assert found["passed"]
    assert all(row["integer_right"] == recorded[task]["integer_right"] for task, row in found["tasks"].items())
