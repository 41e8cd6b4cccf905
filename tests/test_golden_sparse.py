"""The golden product of grouped, sparse weights against loops in Python integers, written from the job's definition."""

import importlib.util
import math
import sys
from fractions import Fraction

import numpy as np
import pytest

from sparseloom.models.golden import sparse_chain
from sparseloom.models.golden.engines import results
from sparseloom.models.golden.sparse_chain import draw_operands, integers, matmul, round_shift
from sparseloom.models.spec.sparse_chain import SparseChain

BUILD = SparseChain(chains=3, window=128, codebook=True, max_k=512, max_n=16, max_m=16)
INT32 = np.iinfo(np.int32)

JOBS = [
    {"k": 1, "n": 1},
    {"k": 70, "n": 4, "m": 3, "bits": 2},
    {"k": 70, "n": 4, "m": 2, "bits": 3, "header": "affine"},
    {"k": 100, "n": 5, "bits": 4, "header": "zero", "scale_group": 64},
    {"k": 130, "n": 2, "m": 2, "bits": 1, "header": "levels", "scale_group": 128, "x_group": 32},
    {"k": 96, "n": 3, "m": 4, "bits": 8, "header": "affine", "scale_group": 32, "x_group": 64},
    {"k": 75, "n": 3, "bits": 8, "scale_group": 0, "x_group": 0},
    {"k": 75, "n": 3, "m": 16, "bits": 3, "header": "affine", "scale_group": 64},  # too many tokens for the compiled path
    {"k": 70, "n": 4, "m": 12, "bits": 4, "header": "zero", "nnz": 2, "group": 8},
    {"k": 75, "n": 3, "m": 2, "bits": 4, "codebook": True, "scale_group": 0, "x_group": 64},
    {"k": 100, "n": 4, "m": 2, "nnz": 2, "group": 4},
    {"k": 100, "n": 4, "m": 2, "nnz": 1, "group": 16, "scale_group": 128, "x_group": 256, "header": "zero"},
    {"k": 200, "n": 7, "m": 2, "block": 64, "header": "affine", "scale_group": 32},
    {"k": 200, "n": 7, "m": 2, "block": 64, "nnz": 4, "group": 8, "header": "levels", "scale_group": 64, "x_group": 64,
     "blocks": (((0, 4), (3, 8)), ((2, 2),), ((0, 1), (1, 2), (2, 4), (3, 8)))},
]


def loops(job, operands):
    """The sums of SparseJob's docstring, column by column; dict of exact integers by (token, row)."""
    get = {name: value.tolist() for name, value in operands.items()}
    sums = {}
    for m in range(job.m):
        for n in range(job.n):
            total = 0
            for k in range(job.k):
                if not get["mask"][n][k]:
                    continue
                group, x_group = (k // size if size else 0 for size in (job.scale_group, job.x_group))
                code, x = get["codes"][n][k], get["x"][m][k]
                zero = get["zero"][n][group] if job.header in ("zero", "levels") else 2 ** (job.bits - 1)
                value = get["codebook"][code] if job.codebook else code - zero
                offset = get["offset"][n][group] if job.header == "affine" else 0
                total += (value * x * get["scale"][n][group] + x * offset) * get["x_scale"][m][x_group]
            sums[m, n] = total
    return sums


@pytest.fixture(scope="module")
def without_numba():
    """The module as it is where numba is not installed."""
    spec = importlib.util.spec_from_file_location("sparseloom.models.golden.without_numba", sparse_chain.__file__)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "numba", None)
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("shape", JOBS, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_matmul_against_loops(shape, seed, without_numba):
    job = BUILD.job(**shape)
    operands = draw_operands(BUILD, job, np.random.default_rng(seed))
    want = loops(job, operands)
    assert without_numba.numba is None and sparse_chain.numba is not None
    for product in (matmul, without_numba.matmul):
        total = product(job, operands)
        assert total.dtype == np.int64 and total.shape == (job.m, job.n)
        assert {(m, n): int(total[m, n]) for m in range(job.m) for n in range(job.n)} == want


def test_random_jobs_against_loops():
    rng, compared = np.random.default_rng(11), 0
    for _ in range(15):
        build = SparseChain.draw_build(rng)
        job = build.draw_job(rng)
        if job.m * job.n * job.k > 20_000:
            continue
        operands = draw_operands(build, job, rng)
        want = loops(job, operands)
        found, clamped = results(build, job, operands).values()
        rounded = {at: half_even(total, job.shift) for at, total in want.items()}
        assert {(m, n): int(found[m, n]) for m, n in want} == {at: clamp(value) for at, value in rounded.items()}
        assert clamped == sum(value != clamp(value) for value in rounded.values())
        compared += len(want)
    assert compared > 100


def half_even(total, shift):
    """total / 2**shift rounded half to even, in exact fractions."""
    exact = Fraction(total, 2**shift)
    whole = math.floor(exact)
    rest = exact - whole
    return whole + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1))


def clamp(value):
    return min(max(value, int(INT32.min)), int(INT32.max))


@pytest.mark.parametrize("shift", [0, 1, 2, 13, 30, 31, 46, 47])
def test_round_shift(shift):
    rng = np.random.default_rng(shift)
    top = 1 << 61
    total = np.concatenate([rng.integers(-top, top, 200), rng.integers(-(40 << shift), 40 << shift, 200), np.arange(-20, 21),
                            [top, -top, top - 1]]).reshape(4, -1)
    want = [half_even(int(value), shift) for value in total.ravel()]
    found, clamped = round_shift(total, shift)
    assert found.dtype == np.int32 and found.ravel().tolist() == [clamp(value) for value in want]
    assert clamped == sum(value != clamp(value) for value in want)


@pytest.mark.parametrize("shift", [1, 2, 5, 47])
def test_ties_go_to_even(shift):
    """Every half from -4.5 to 4.5, made exactly; one unit of the sum to either side goes to the nearest."""
    total = np.arange(-9, 10, 2, dtype=np.int64) << (shift - 1)
    assert round_shift(total, shift)[0].tolist() == [-4, -4, -2, -2, 0, 0, 2, 2, 4, 4]
    if shift > 1:
        assert round_shift(total + 1, shift)[0].tolist() == list(range(-4, 6))
        assert round_shift(total - 1, shift)[0].tolist() == list(range(-5, 5))


@pytest.mark.parametrize("shift", [0, 4])
def test_clamps_at_the_ends_of_int32(shift):
    ends = np.array([INT32.min - 1, INT32.min, INT32.max, INT32.max + 1], np.int64) << shift
    found, clamped = round_shift(ends, shift)
    assert found.tolist() == [INT32.min, INT32.min, INT32.max, INT32.max] and clamped == 2


def test_a_tie_rounds_into_and_out_of_the_range():
    """2**31 - 1/2 goes to 2**31, which is clamped; -2**31 - 1/2 goes to -2**31, which is not."""
    found, clamped = round_shift(np.array([(1 << 32) - 1, -(1 << 32) - 1], np.int64), 1)
    assert found.tolist() == [INT32.max, INT32.min] and clamped == 1


@pytest.mark.parametrize("bits, header", [(8, "scale"), (4, "zero")])
def test_integers_by_hand(bits, header):
    job = BUILD.job(k=4, n=2, bits=bits, header=header)
    codes = np.array([[0, 1, 2, 3], [12, 13, 14, 15]], np.uint8)
    mask = np.array([[1, 1, 0, 1], [1, 1, 1, 1]], bool)
    found = integers(job, {"codes": codes, "mask": mask, "zero": np.array([[1], [16]], np.uint8)})
    want = [[-128, -127, 0, -125], [-116, -115, -114, -113]] if header == "scale" else [[-1, 0, 0, 2], [-4, -3, -2, -1]]
    assert found.tolist() == want


def test_draws_reach_the_corners():
    """Among forty draws: the largest operands, unfilled groups, a code of zero one past the last code."""
    job, sparse = BUILD.job(k=64, n=3, header="zero"), BUILD.job(k=64, n=3, nnz=2, group=4)
    draws = [draw_operands(BUILD, job, np.random.default_rng(seed)) for seed in range(40)]
    assert any((draw["x"] == -128).all() and (draw["x_scale"] == 65535).all() for draw in draws)
    assert any((draw["zero"] == 16).any() for draw in draws)
    masks = [draw_operands(BUILD, sparse, np.random.default_rng(seed))["mask"] for seed in range(40)]
    counts = [mask.reshape(3, -1, 4).sum(axis=2) for mask in masks]
    assert all(count.max() == 2 for count in counts) and any(count.min() < 2 for count in counts)
    assert any(count.min() == 2 for count in counts)
