"""The golden attention against loops in Python integers, against floating point, and the integer softmax as it was published."""

import importlib.util
import math
import sys
from fractions import Fraction

import numpy as np
import pytest

from sparseloom.models.golden import attention
from sparseloom.models.golden.attention import draw_operands, reference, results, round_scaled, scaled_scores, shiftmax, visible
from sparseloom.models.golden.functions import exp2_neg, reciprocal, sigmoid
from sparseloom.models.spec.attention import SCORES, Attention

INT32 = -(1 << 31), (1 << 31) - 1


def half_even(value):
    """A fraction rounded half to even."""
    whole = math.floor(value)
    rest = value - whole
    return whole + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1))


def clamp(value, low, high):
    return min(max(value, low), high)


def sees(build, job, query, key):
    if job.block:
        return key // job.block in job.blocks[query // build.p]
    place = query + job.keys - job.queries
    return not job.causal or (key <= place and (not job.window or key > place - job.window))


def loops(build, job, operands):
    """(results by (head, query, element), clamped values), pair by pair from the job's docstring, in Python's integers."""
    get = {name: value.tolist() for name, value in operands.items()}
    out, clamped = {}, 0
    low, high = (-128, 127) if build.score == "shiftmax" else (-(1 << 19), (1 << 19) - 1)
    for head in range(job.heads):
        kv = head // (job.heads // job.kv_heads)
        for query in range(job.queries):
            keys = [key for key in range(job.keys) if sees(build, job, query, key)]
            t = []
            for key in keys:
                dot = sum(a * b for a, b in zip(get["q"][head][query], get["k"][kv][key], strict=True))
                scale = job.multiplier if build.score == "shiftmax" else get["q_scale"][head][query] * get["k_scale"][kv][key]
                value = half_even(Fraction(dot * scale, 2**job.shift))
                t.append(clamp(value, low, high))
                clamped += t[-1] != value
            values = [get["v"][kv][key] for key in keys]
            sums, factor = WAYS[build.score](job, t, values, [get["v_scale"][kv][key] for key in keys])
            for i, total in enumerate(sums):
                value = half_even(total * factor)
                out[head, query, i] = clamp(value, *((-128, 127) if build.score == "shiftmax" else INT32))
                clamped += out[head, query, i] != value
    return out, clamped


def weighted(weights, values, job):
    return [sum(w * v[i] for w, v in zip(weights, values, strict=True)) for i in range(job.d)]


def scaled(e, scale):
    return half_even(Fraction(e * scale, 1 << 16))


def inverse(total, job):
    mantissa, shift = (int(part) for part in reciprocal(np.int64(total)))
    return Fraction(mantissa * 2**job.fraction, 2**shift)


def online(job, t, values, scales):
    most, sums, total = None, [0] * job.d, 0
    for score, v, scale in zip(t, values, scales, strict=True):
        ceiling = math.ceil(Fraction(score, 1024))
        if most is None or ceiling > most:
            for _ in range(0 if most is None else ceiling - most):
                sums, total = [value // 2 for value in sums], total // 2
            if most is not None and ceiling - most > 31:
                sums, total = [0] * job.d, 0
            most = ceiling
        e = int(exp2_neg(most * 1024 - score))
        total += e
        sums = [value + scaled(e, scale) * v[i] for i, value in enumerate(sums)]
    return sums, inverse(total, job)


def two_pass(job, t, values, scales):
    e = [int(exp2_neg(max(t) - score)) for score in t]
    return weighted([scaled(a, b) for a, b in zip(e, scales, strict=True)], values, job), inverse(sum(e), job)


def by_sigmoid(job, t, values, scales):
    p = [int(sigmoid(score + job.bias)) for score in t]
    return weighted([scaled(a, b) for a, b in zip(p, scales, strict=True)], values, job), Fraction(2**job.fraction, 1 << 15)


def integer(job, t, values, _):
    return weighted(published(t, Fraction(1, job.unit)), values, job), Fraction(job.out_multiplier, 2**job.out_shift)


def published(row, s, n=15, bits=16):
    """Shiftmax as in the paper's repository (IntSoftmax of the PyTorch quantisation modules), in fractions: x and its scale s to
    integers of probability, scale 2**-(bits - 1)."""
    if not row:
        return []
    x = [Fraction(value - max(row)) for value in row]
    x = [value + math.floor(value / 2) - math.floor(value / 16) for value in x]
    x0 = Fraction(math.floor(-1 / s))
    x = [max(value, n * x0) for value in x]
    q = [math.floor(value / x0) for value in x]
    r = [value - x0 * power for value, power in zip(x, q, strict=True)]
    e = [max(math.floor((rest / 2 - x0) * 2 ** (n - power)), 0) for rest, power in zip(r, q, strict=True)]
    total = min(sum(e), 2**31 - 1)
    factor = (2**31 - 1) // total
    return [e_ * factor // 2 ** (31 - bits + 1) for e_ in e]


WAYS = {"online": online, "two_pass": two_pass, "sigmoid": by_sigmoid, "shiftmax": integer}


@pytest.fixture(scope="module")
def without_numba():
    """The module as it is where numba is not installed."""
    spec = importlib.util.spec_from_file_location("sparseloom.models.golden.attention_without_numba", attention.__file__)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "numba", None)
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("bits", [8, 16])
def test_against_loops(score, bits, without_numba):
    if score == "shiftmax" and bits == 16:
        with pytest.raises(ValueError, match="bits must be 8"):
            Attention(score=score, bits=bits)
        return
    build = Attention(p=3, d_lanes=4, score=score, bits=bits, max_queries=9, max_keys=40, max_d=9, max_heads=4,
                      block_sparse=score in ("online", "sigmoid"))
    rng, compared, clamped, unseen = np.random.default_rng(bits), 0, 0, 0
    for index in range(25):
        job = build.draw_job(rng) if index else build.job(queries=3, keys=5, d=2, shift=17)
        operands = draw_operands(build, job, rng)
        if not index:
            operands["q_scale"][:] = operands["k_scale"][:] = 65535
        want, count = loops(build, job, operands)
        assert without_numba.numba is None and attention.numba is not None
        for module in (attention, without_numba):
            found = module.results(build, job, operands)
            assert found["y"].dtype == np.int32 and found["y"].shape == (job.heads, job.queries, job.d)
            assert {at: int(found["y"][at]) for at in want} == want and found["saturated"] == count
        compared, clamped = compared + len(want), clamped + count
        unseen += int((~visible(build, job).any(axis=1)).sum())
    assert compared > 500 and clamped > 0 and unseen > 0


def test_a_maximum_that_rises_far_empties_the_sums():
    """Scores of 0, then of 31 octaves more, then of 32: the first weighs 2**-31 and is still there, then nothing is."""
    build = Attention(p=1, d_lanes=4, max_queries=1, max_keys=3, max_d=1)
    for rise, left in ((31, 0), (32, None)):
        job = build.job(queries=1, keys=2, d=1, shift=17, fraction=12)
        operands = {"q": np.full((1, 1, 1), 127, np.int8), "k": np.array([[[0], [1]]], np.int8),
                    "v": np.array([[[-128], [0]]], np.int8), "q_scale": np.ones((1, 1), int),
                    "k_scale": np.full((1, 2), round(rise * 1024 * 2**17 / 127)), "v_scale": np.full((1, 2), 65535)}
        t = scaled_scores(build, job, operands | {"k_scale": operands["k_scale"].astype(np.int64)})[0][0, 0]
        total, sums = attention._online_sums(np.array([[[0, rise * 1024]]]), np.ones((1, 1, 2), bool), operands["v"].astype(int),
                                             np.full((1, 2), 65535), exp2_neg(np.arange((24 << 10) + 1)))
        assert t[0] == 0 and sums.tolist() == [[(1 << 15) + (1 << 15 >> rise)]]
        # -128 * 2**15 floored: -1 stays for ever, 0 is 0.
        assert total.tolist() == [[[-1 if left == 0 else 0]]]


@pytest.mark.parametrize("score, seeds", [("online", 120), ("two_pass", 120), ("sigmoid", 60), ("shiftmax", 60)])
def test_against_floating_point(score, seeds):
    """No order, no rounding: what integers lose is bounded. Unit: the largest |v| times its scale."""
    worst = 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        bits = 8 if score == "shiftmax" else int(rng.choice([8, 16]))
        build = Attention(score=score, bits=bits, max_queries=32, block_sparse=score in ("online", "sigmoid"))
        job = build.draw_job(rng)
        if score == "shiftmax":
            job = build.job(**vars(job) | {"unit": int(rng.choice([16, 40])), "out_shift": 46})
        operands = draw_operands(build, job, rng)
        want = reference(build, job, operands)
        if (scaled_scores(build, job, operands)[1] & visible(build, job)).any() or np.abs(want).max() >= INT32[1]:
            continue
        if score == "shiftmax":
            # 1.4375 for log2(e), floors of whole units, a line for 2**x; the coarser the unit the more. Results are below 128.
            want = np.clip(want, -128, 127)
            unit, bound = 128 * 2.0**15 * job.out_multiplier / 2.0**job.out_shift, 0.17
        else:
            unit, seen = 2.0 ** (bits - 1 + job.fraction), visible(build, job).sum(axis=1).max()
            bound = seen * 7e-5 if score == "sigmoid" else 5e-4 + seen * 2.0**-16
        error = max(0, np.abs(results(build, job, operands)["y"] - want).max() - 0.5) / unit / bound
        worst = max(worst, error)
    assert 0.05 < worst < 1


def test_shiftmax_as_published():
    rng = np.random.default_rng(8)
    for s in (Fraction(8, 127), Fraction(1, 3), Fraction(1, 16), Fraction(7, 100), Fraction(1, 1000)):
        unit = -math.floor(-1 / s)
        for size in (1, 2, 20, 197):
            row = rng.integers(-128, 128, size)
            assert shiftmax(row[None], np.ones((1, size), bool), unit)[0].tolist() == published(row.tolist(), s)


@pytest.mark.parametrize("keys", [64, 65, 66, 197, 1024])
def test_shiftmax_of_a_sum_that_was_clamped(keys):
    """The factor is 1 then, and probabilities no longer add up to one: the accumulator must hold them."""
    flat, build = np.zeros((1, keys), np.int64), Attention(score="shiftmax", max_keys=keys)
    found = shiftmax(flat, flat == 0, 1023)
    assert found[0].tolist() == published([0] * keys, Fraction(1, 1023))
    assert (found.sum() > 1 << 15) == (keys > 64) and found.sum() * 128 <= build.acc_peak


def test_shiftmax_ignores_what_is_not_seen():
    row, seen = np.array([[5, 127, 5, -3]]), np.array([[True, False, True, True]])
    found = shiftmax(row, seen, 16)[0]
    assert found[1] == 0 and found[[0, 2, 3]].tolist() == published([5, 5, -3], Fraction(1, 16))
    assert shiftmax(row, seen & False, 16).tolist() == [[0, 0, 0, 0]]


def test_masks_by_hand():
    build = Attention(p=2, d_lanes=4, block_sparse=True)
    job = build.job(queries=3, keys=5, d=1, causal=True, window=2)
    assert visible(build, job).astype(int).tolist() == [[0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]
    late = build.job(queries=3, keys=2, d=1, causal=True)
    assert visible(build, late).astype(int).tolist() == [[0, 0], [1, 0], [1, 1]]
    blocks = build.job(queries=3, keys=20, d=1, block=16, blocks=((1,), (0,)))
    assert visible(build, blocks).sum(axis=1).tolist() == [4, 4, 16]


def test_a_query_that_sees_nothing_gets_nothing():
    for score in SCORES:
        build = Attention(score=score)
        job = build.job(queries=3, keys=1, d=5, causal=True)
        found = results(build, job, draw_operands(build, job, np.random.default_rng(0)))["y"]
        assert not found[0, :2].any() and found[0, 2].any()


def test_query_heads_share_keys():
    build = Attention()
    job = build.job(queries=2, keys=4, d=3, heads=4, kv_heads=2)
    operands = draw_operands(build, job, np.random.default_rng(0))
    alone = results(build, job, operands)["y"]
    for head in range(4):
        one = build.job(queries=2, keys=4, d=3)
        part = {name: value[[head]] if name[0] == "q" else value[[head // 2]] for name, value in operands.items()}
        assert (results(build, one, part)["y"][0] == alone[head]).all()


@pytest.mark.parametrize("shift", [17, 18, 31, 32, 33, 47, 63])
def test_round_scaled(shift):
    rng = np.random.default_rng(shift)
    value, factor = rng.integers(-(1 << 46), 1 << 46, 300), rng.integers(0, 1 << 17, 300)
    value[:40], factor[:40] = np.arange(-20, 20), 1 << 16  # ties for shifts of 17 and 18
    found, clamped = round_scaled(value, factor, shift, -(1 << 31), (1 << 31) - 1)
    want = [half_even(Fraction(int(a) * int(b), 2**shift)) for a, b in zip(value, factor, strict=True)]
    assert found.tolist() == [clamp(number, *INT32) for number in want]
    assert clamped.tolist() == [number != clamp(number, *INT32) for number in want]


def test_draws_reach_the_corners():
    build = Attention(block_sparse=True)
    job = build.job(queries=4, keys=6, d=3)
    draws = [draw_operands(build, job, np.random.default_rng(seed)) for seed in range(60)]
    assert any((draw["q"] == -128).all() and (draw["v_scale"] == 65535).all() for draw in draws)
    jobs = [build.draw_job(np.random.default_rng(seed)) for seed in range(200)]
    assert {(bool(job.block), job.causal, bool(job.window)) for job in jobs} == {
        (False, False, False), (False, True, False), (False, True, True), (True, False, False)}
    assert any(job.kv_heads < job.heads for job in jobs) and any(job.keys < min(build.p, job.queries) for job in jobs)
