"""The golden kernels against slow versions in plain Python integers and fractions."""

import importlib.util
import json
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from sparseloom.models.golden import ternary

SHAPES = [  # m, n, k: corners, primes, and sizes around vector widths
    (1, 1, 1), (1, 1, 300), (1, 7, 1), (3, 1, 2), (2, 5, 15), (1, 3, 16), (1, 3, 17), (4, 2, 31), (2, 9, 64), (1, 13, 257),
    (8, 11, 100),
]
INT32 = np.iinfo(np.int32)


def loops(x, w):
    """y[m][n] = sum over k of x[m][k] * w[n][k], Python integers."""
    return [[sum(int(a) * int(b) for a, b in zip(row, column, strict=True)) for column in w] for row in x]


def operands(shape, seed):
    rng, (m, n, k) = np.random.default_rng(seed), shape
    return rng.integers(-128, 128, (m, k), dtype=np.int8), rng.integers(-1, 2, (n, k), dtype=np.int8)


@pytest.fixture
def without_numba(monkeypatch):
    """The module as it is where numba is not installed."""
    monkeypatch.setitem(sys.modules, "numba", None)
    spec = importlib.util.spec_from_file_location("golden_without_numba", ternary.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_compiled_path_is_the_one_in_use(without_numba):
    assert ternary.matmul is not ternary.matmul_numpy
    assert without_numba.matmul is without_numba.matmul_numpy


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_compiled_numpy_and_loops_agree(shape, seed):
    x, w = operands(shape, seed)
    want = loops(x, w)
    for product in (ternary.matmul, ternary.matmul_numpy):
        y = product(x, w)
        assert y.dtype == np.int32 and y.shape == shape[:2] and y.tolist() == want


@pytest.mark.parametrize("code", [-128, 127])
@pytest.mark.parametrize("trit", [-1, 0, 1])
def test_extreme_operands(code, trit):
    k = 1 << 16
    x, w = np.full((2, k), code, np.int8), np.full((3, k), trit, np.int8)
    for product in (ternary.matmul, ternary.matmul_numpy):
        assert (product(x, w) == code * trit * k).all()


def test_strided_operands():
    x, w = operands((6, 10, 40), 1)
    want = loops(x[::2, ::3], w[1::2, ::3])
    assert ternary.matmul(x[::2, ::3], w[1::2, ::3]).tolist() == want == ternary.matmul_numpy(x[::2, ::3], w[1::2, ::3]).tolist()


def rounded(acc, multiplier, shift, low, high):
    """clamp(acc * multiplier / 2**shift, rounded half to even): (value, was it clamped), exact rational arithmetic."""
    exact = Fraction(int(acc) * multiplier, 1 << shift)
    whole = math.floor(exact)
    rest = exact - whole
    value = whole + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1))
    return min(max(value, low), high), not low <= value <= high


@pytest.mark.parametrize("shift", [0, 1, 2, 7, 16, 31, 46, 47])
@pytest.mark.parametrize("multiplier", [0, 1, 3, 1 << 15, (1 << 16) - 1])
@pytest.mark.parametrize("limits", [(-128, 127), (-8, 7)], ids=str)
def test_requantise(multiplier, shift, limits):
    rng = np.random.default_rng(shift)
    spread = min(INT32.max, max(4, 300 * (1 << shift) // max(1, multiplier)))
    acc = np.concatenate([rng.integers(-spread, spread, 200), np.arange(-20, 21), [INT32.min, INT32.max]]).astype(np.int32)
    want = [rounded(value, multiplier, shift, *limits) for value in acc]
    got, clamped = ternary.requantise(acc, multiplier, shift, *limits)
    assert got.dtype == np.int32 and got.tolist() == [value for value, _ in want]
    assert clamped == sum(out for _, out in want)


@pytest.mark.parametrize("shift", [1, 2, 5, 30])
def test_ties_go_to_even(shift):
    """Every half from -9.5 to 9.5, made exactly; the neighbours one step away go to the nearest."""
    half = 1 << (shift - 1)
    acc = np.arange(-19, 20, 2, dtype=np.int64) * half
    got, clamped = ternary.requantise(acc, 1, shift)
    assert got.tolist() == [-10, -8, -8, -6, -6, -4, -4, -2, -2, 0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10] and clamped == 0
    if shift > 1:
        above, _ = ternary.requantise(acc + 1, 1, shift)
        below, _ = ternary.requantise(acc - 1, 1, shift)
        assert above.tolist() == list(range(-9, 11)) and below.tolist() == list(range(-10, 10))


def test_largest_product_with_the_largest_shift():
    acc = np.array([INT32.max, INT32.min], np.int32)
    got, clamped = ternary.requantise(acc, (1 << 16) - 1, 47)
    assert got.tolist() == [rounded(value, (1 << 16) - 1, 47, -128, 127)[0] for value in acc] == [1, -1] and clamped == 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (2, 1000)], ids=str)
def test_statistics(shape):
    acc = np.random.default_rng(5).integers(INT32.min, INT32.max, shape, dtype=np.int32, endpoint=True)
    acc[0, 0] = INT32.min
    peaks, squares = ternary.statistics(acc)
    assert peaks.tolist() == [max(abs(int(value)) for value in row) for row in acc]
    assert squares.tolist() == [sum(int(value) ** 2 for value in row) for row in acc]
    assert all(type(value) is int for value in squares)


def test_a_sum_of_squares_beyond_64_bits():
    acc = np.full((1, 20), INT32.min, np.int32)
    assert ternary.statistics(acc)[1].tolist() == [20 << 62]


@pytest.mark.slow
def test_golden_is_above_the_benchmarks_floor(root):
    run = subprocess.run([sys.executable, root / "benchmarks" / "golden.py", "--json"], capture_output=True, text=True)
    result = json.loads(run.stdout)
    assert run.returncode == 0 and result["ratio"] >= result["target"] == 3, result
    assert (result["n"], result["k"], result["m"]) == (11008, 4096, 1) and len(result["numpy_int32_ms"]) == 3
