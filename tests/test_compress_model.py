"""Whole models: statistics against their definition, inputs from what is compressed, resuming, budgets."""

import itertools

import numpy as np
import pytest

from sparseloom.models.compress import Scheme
from sparseloom.models.compress.allocate import Choice, allocate, options
from sparseloom.models.compress.pipeline import compress, matrices, plan
from sparseloom.models.compress.solver import magnitude
from sparseloom.models.compress.store import BlockStore
from sparseloom.models.compress.streams import STAGES, Streams, trace
from sparseloom.models.zoo.llama import LlamaLM

SCHEME = Scheme(nnz=4, group=8, bits=4, scale_group=32)


@pytest.fixture(scope="module")
def model(tiny_llama):
    return LlamaLM.load(tiny_llama)


@pytest.fixture(scope="module")
def windows():
    rng = np.random.default_rng(3)
    return [rng.integers(3, 300, 32) for _ in range(48)]


@pytest.fixture(scope="module")
def everywhere(model):
    return dict.fromkeys(matrices(model), SCHEME)


@pytest.fixture(scope="module")
def done(model, windows, everywhere):
    return compress(model, windows, everywhere)


def weights_of(compressed):
    return {name: solution.weights.tobytes() for name, solution in compressed.solutions.items()}


def test_every_matrix_is_compressed_and_nothing_else(model, done):
    assert len(done.solutions) == 14 == len(matrices(model))
    for name, solution in done.solutions.items():
        assert solution.weights.shape == model.weights[name].shape
        assert (solution.mask.reshape(len(solution.mask), -1, 8).sum(axis=2) == 4).all()
        assert np.array_equal(done.model.weights[name], solution.weights)
    for name in set(model.weights) - set(done.solutions):
        assert done.model.weights[name] is model.weights[name]


def test_moments_are_sums_over_tokens(model, windows):
    """Of the second block's product into the residual stream, with other matrices in the compressed model."""
    streams, rng = Streams(model, windows[:2]), np.random.default_rng(1)
    noisy = {name: model.weights[name] + 0.1 * rng.normal(size=model.weights[name].shape).astype(np.float32)
             for name in matrices(model)}
    streams.replace({name: value for name, value in noisy.items() if name.startswith("blk.0.")})
    streams.advance()
    streams.replace({f"blk.1.{short}.weight": noisy[f"blk.1.{short}.weight"] for short in STAGES[0]})
    found = streams.moments(STAGES[1])
    other = model.replaced({name: value for name, value in noisy.items() if "blk.0" in name or "attn_q" in name
                            or "attn_k" in name or "attn_v" in name})
    hessian, drift = 0, 0
    for ids in windows[:2]:
        x, y = (trace(one, 0, one.embed(ids))[2] for one in (model, other))
        a, b = trace(model, 1, x)[0]["attn_output"], trace(other, 1, y)[0]["attn_output"]
        for t in range(len(ids)):
            hessian = hessian + np.outer(b[t], b[t])
            drift = drift + np.outer(a[t] - b[t], b[t])
    for got, want in ((found.hessian, hessian), (found.drift, drift)):
        assert np.allclose(got, want, rtol=1e-4, atol=1e-3)
    # The target is what a ridge regression of the float model's outputs on the compressed model's inputs finds.
    w = model.weights["blk.1.attn_output.weight"]
    ridge = hessian + 0.01 * np.trace(hessian) / len(hessian) * np.eye(len(hessian))
    want = np.linalg.solve(ridge, (w @ (hessian + drift) + w @ (ridge - hessian)).T).T
    assert np.allclose(found.target(w, 0.01), want, atol=1e-2)


def test_a_calibrated_model_stays_nearer_to_its_original_than_by_magnitude(model, done):
    """The residual stream after the last block, on tokens that the calibration did not see."""
    rng, strayed = np.random.default_rng(9), []
    by_size = {name: model.weights[name] * magnitude(model.weights[name], 4, 8) for name in matrices(model)}
    for weights in ({name: solution.weights for name, solution in done.solutions.items()}, by_size):
        streams = Streams(model, [rng.integers(3, 300, 32) for _ in range(4)])
        streams.replace(weights)
        for _ in range(model.config.layers):
            streams.advance()
        strayed.append(streams.divergence())
    assert strayed[0] < 0.8 * strayed[1]


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(model, windows, everywhere, done, tmp_path):
    store, seen = BlockStore(tmp_path / "work"), []

    def stop(name):
        seen.append(name)
        if len(seen) == 10:  # in the middle of the second block
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(model, windows, everywhere, store, stop)
    files = sorted((tmp_path / "work").iterdir())
    assert [path.name[:9] for path in files] == ["block-000"]
    again = compress(model, windows, everywhere, store)
    assert again.resumed == 1 and weights_of(again) == weights_of(done)
    assert compress(model, windows, everywhere, store).resumed == 2

    # A file with one changed weight, and a run with another scheme or other texts, are computed anew.
    data = bytearray(files[0].read_bytes())
    data[-100] ^= 1
    files[0].write_bytes(data)
    assert BlockStore(tmp_path / "work").get(0, files[0].name) is None
    assert (mended := compress(model, windows, everywhere, store)).resumed == 1 and weights_of(mended) == weights_of(done)
    other = everywhere | {"blk.0.attn_q.weight": Scheme(nnz=8, group=8, bits=4)}
    assert compress(model, windows, other, store).resumed == 0
    assert compress(model, windows[1:], everywhere, store).resumed == 0


def test_float_weights_are_not_kept_on_disk(model, windows, tmp_path):
    with pytest.raises(ValueError, match="must be quantised"):
        compress(model, windows[:2], dict.fromkeys(matrices(model), Scheme(nnz=4, group=8, bits=16)), BlockStore(tmp_path))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_a_budget_is_met_and_nothing_is_below_the_floor(model, windows, share):
    shapes = {name: model.weights[name].shape for name in matrices(model)}
    floor, best = SCHEME, Scheme(nnz=8, group=8, bits=8, scale_group=32)
    least, most = (sum(one.bits_of(*shape) for shape in shapes.values()) for one in (floor, best))
    budget = int(least + share * (most - least))
    chosen = plan(model, windows[:2], floor, budget)
    total = sum(chosen[name].bits_of(*shape) for name, shape in shapes.items())
    assert set(chosen) == set(shapes) and least <= total <= budget
    assert total >= budget - max(best.bits_of(*shape) - floor.bits_of(*shape) for shape in shapes.values())
    assert all(one.nnz >= floor.nnz and one.bits >= floor.bits for one in chosen.values())
    if share == 0:
        assert set(chosen.values()) == {floor}
    elif share < 1:
        assert len(set(chosen.values())) > 1


def test_a_budget_below_the_floor_is_refused(model, windows):
    with pytest.raises(ValueError, match="budget must be at least"):
        plan(model, windows[:1], SCHEME, 1000)


def test_allocation_is_optimal_at_the_totals_it_passes():
    """Against all combinations: no other choice of the same or fewer bits loses less."""
    rng, compared = np.random.default_rng(4), 0
    for _ in range(20):
        choices = {name: [Choice(i, int(bits), float(loss)) for i, (bits, loss) in enumerate(
            zip(np.sort(rng.integers(10, 60, 4)), np.sort(rng.random(4))[::-1], strict=True))] for name in "abcd"}
        for budget in (100, 150, 200):
            if sum(min(c.bits for c in every) for every in choices.values()) > budget:
                continue
            chosen = allocate(choices, budget)
            picked = [choices[name][i] for name, i in chosen.items()]
            bits, loss = sum(c.bits for c in picked), sum(c.loss for c in picked)
            totals = [(sum(c.bits for c in combo), sum(c.loss for c in combo)) for combo in itertools.product(*choices.values())]
            assert bits <= budget
            floor = min(total for used, total in totals if used <= budget)
            assert loss <= floor + max(c.loss for every in choices.values() for c in every)  # one step of the greedy at most
            compared += 1
    assert compared > 30


def test_options_start_at_the_floor():
    found = options(Scheme(nnz=4, group=8, bits=3))
    assert {(one.nnz, one.bits) for one in found} == {(4, 3), (4, 4), (4, 8), (8, 3), (8, 4), (8, 8)}

