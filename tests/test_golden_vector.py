"""The vector engine's golden functions against the published equations, transcribed here in exact fractions, and floats."""

import math
from fractions import Fraction

import numpy as np
import pytest

from sparseloom.models.golden import functions, ivit
from sparseloom.models.golden.rounding import round_half_even
from sparseloom.models.golden.vector import normalised, results
from sparseloom.models.spec.vector import Vector

FULL = 2**31 - 1


# I-ViT as its PyTorch code has it (arXiv 2207.01405), a row of Python integers and a scale at a time.
def published_exp(x, scale, n):
    x0 = math.floor(-1 / scale)
    xp = x + math.floor(Fraction(x, 2)) - math.floor(Fraction(x, 16))
    xp = max(xp, n * x0)
    q = math.floor(Fraction(xp, x0))
    r = xp - q * x0
    return max(math.floor((Fraction(r, 2) - x0) * Fraction(2) ** (n - q)), 0)


def published_shiftmax(row, scale):
    e = [published_exp(x - max(row), scale, 15) for x in row]
    factor = math.floor(Fraction(FULL, min(sum(e), FULL)))
    return [math.floor(Fraction(value * factor, 2 ** (32 - 16))) for value in e]


def published_shiftgelu(row, scale):
    most, out = max(row), []
    base = published_exp(-most, Fraction(1702, 1000) * scale, 23)
    for x in row:
        e = published_exp(x - most, Fraction(1702, 1000) * scale, 23)
        factor = math.floor(Fraction(FULL, min(e + base, FULL)))
        out.append(x * math.floor(Fraction(e * factor, 2 ** (32 - 8))))
    return out


def published_ilayernorm(row, bias):
    mean = round(Fraction(sum(row), len(row)))  # half to even
    y = [x - mean for x in row]
    variance, k = sum(value * value for value in y), 2**16
    for _ in range(10):
        k = math.floor(Fraction(k + math.floor(Fraction(variance, k)), 2))
    factor = math.floor(Fraction(FULL, k))
    return [math.floor(Fraction(value * factor, 2)) + b for value, b in zip(y, bias, strict=True)], variance, k


def rows(rng, count, most):
    """Rows of all lengths and magnitudes, some all negative, some constant."""
    for index in range(count):
        k = int(rng.integers(1, 200))
        row = rng.integers(-most, most, k) >> int(rng.integers(8))
        yield (-np.abs(row) - 1 if index % 4 == 1 else np.full(k, row[0]) if index % 8 == 2 else row).tolist()


@pytest.mark.parametrize("scale", [Fraction(8, 127), Fraction(1, 16), Fraction(1, 333), Fraction(3, 1000), Fraction(3)])
def test_shiftmax_is_the_published_one(scale):
    unit = math.ceil(1 / scale)
    for row in rows(np.random.default_rng(1), 40, 128):
        assert ivit.shiftmax(np.array(row), unit).tolist() == published_shiftmax(row, scale)


@pytest.mark.parametrize("scale", [Fraction(4, 127), Fraction(1, 10), Fraction(1, 100), Fraction(2)])
def test_shiftgelu_is_the_published_one(scale):
    """Rows whose elements are all negative too: exp(-max) has a positive argument there."""
    unit = math.ceil(1 / (Fraction(1702, 1000) * scale))
    negative = 0
    for row in rows(np.random.default_rng(2), 40, 128):
        assert ivit.shiftgelu(np.array(row), unit).tolist() == published_shiftgelu(row, scale)
        negative += max(row) < 0
    assert negative > 5


def test_ilayernorm_is_the_published_one():
    """Also where the root has not converged, V <= 183,183, and where V is 0."""
    rng, early, late = np.random.default_rng(3), 0, 0
    for row in [*rows(rng, 200, 1 << 15), *rows(rng, 100, 128), *rows(rng, 50, 4), [5], [-7, -7, -7]]:
        bias = rng.integers(-(1 << 20), 1 << 20, len(row)).tolist()
        want, variance, root = published_ilayernorm(row, bias)
        assert ivit.ilayernorm(np.array(row), bias).tolist() == want
        early += root != math.isqrt(variance)
        late += variance > 183_183
    assert early > 50 and late > 50


def test_where_the_root_has_not_converged():
    square = np.arange(183_185)
    wrong = ivit.integer_root(square) != np.array([math.isqrt(int(value)) for value in square])
    assert int(wrong.sum()) == 51_101 and np.flatnonzero(wrong)[-1] == 183_183 and wrong[0]
    assert [int(ivit.integer_root(value)) for value in (0, 1000, 10_000, 1 << 44)] == [64, 68, 108, 1 << 22]


def test_a_row_of_zeros_is_its_bias():
    assert ivit.ilayernorm(np.zeros(4, int), [1, -2, 3, 0]).tolist() == [1, -2, 3, 0]


@pytest.mark.parametrize("value, shift, want", [
    (5, 1, 2), (7, 1, 4), (-5, 1, -2), (-7, 1, -4), (5, 0, 5), (6, 2, 2), (-6, 2, -2), (1 << 60, 63, 0), ((1 << 60) + 1, 61, 1),
    (-((1 << 60) + 1), 61, -1), (1 << 60, 61, 0)])
def test_ties_go_to_even(value, shift, want):
    assert int(round_half_even(np.int64(value), shift)) == want == round(Fraction(value, 1 << shift))
    assert round_half_even(np.array([value], object), np.array([shift])).tolist() == [want]


def slow_normalised(row, eps, centred):
    k, s1, s2 = len(row), sum(row) if centred else 0, sum(x * x for x in row)
    mantissa, shift = (int(part) for part in functions.rsqrt(np.array(k * s2 - s1 * s1 + eps, object)))
    return [round(Fraction((k * x - s1) * mantissa * 2**20, 2**shift)) for x in row]


@pytest.mark.parametrize("centred", [True, False])
def test_normalised_rows(centred):
    """As defined, and within 1.2e-5 and a rounding of the real norm."""
    rng = np.random.default_rng(4)
    for bits in (0, 4, 12, 24, 30):
        x = rng.integers(-(1 << 31), 1 << 31, (5, 37)) >> bits
        for eps in (0, 12_345):
            n = normalised(x, eps, centred=centred)
            assert n.tolist() == [slow_normalised(row, eps, centred) for row in x.tolist()]
            c = x - (x.mean(axis=1, keepdims=True) if centred else 0)
            real = c / np.sqrt((c.astype(float) ** 2).mean(axis=1, keepdims=True) + eps / 37**2)
            assert (np.abs(n / 2**20 - real) <= np.abs(real) * 1.2e-5 + 2**-20).all()


def test_constant_rows_are_0_and_the_largest_rows_stay_within_the_proof():
    assert not normalised(np.full((2, 9), 7), 0, centred=True).any()
    for k in (1, 2, 16, 17, 1024):
        row = np.full((1, k), -(1 << 31))
        row[0, 0] = (1 << 31) - 1
        for centred in (True, False):
            n = normalised(row, 0, centred=centred)
            assert np.abs(n).max() < Vector(max_k=k).normal_peak


@pytest.mark.parametrize("function, fraction, one, real", [
    ("gelu", 16, 1 << 16, lambda t: t * (1 + math.erf(t / math.sqrt(2))) / 2),
    ("silu", 16, 1 << 16, lambda t: t / (1 + math.exp(-t))),
    ("sigmoid", 12, 1 << 15, lambda t: 1 / (1 + math.exp(-t))), ("exp2", 10, 1 << 15, lambda t: 2.0 ** min(t, 0))])
def test_activations_in_their_scales(function, fraction, one, real):
    """x of 8 fraction bits; the function's fraction in, its own out."""
    build = Vector(function=function, max_k=64)
    x = np.arange(-2048, 2048, 64, dtype=np.int32)[None]
    job = build.job(k=64, in_multiplier=1 << fraction - 8)
    got = results(build, job, {"x": x})
    assert got["saturated"] == 0
    # Against the real function: at most what benchmarks/functions.py finds over all arguments, GELU 1.05e-4.
    assert got["y"][0] / one == pytest.approx([real(value / 256) for value in x[0]], abs=1.1e-4)


@pytest.mark.parametrize("function, power", [("reciprocal", -1), ("rsqrt", -0.5)])
def test_powers(function, power):
    build = Vector(function=function, max_k=8)
    x = np.array([[1, 2, 3, 1000, (1 << 31) - 1, 0, -5, 4]], np.int32)
    y = results(build, build.job(k=8), {"x": x})["y"][0]
    assert y[5] == y[6] == 0 and y[0] == 1 << 30
    kept = [0, 1, 2, 3, 4, 7]
    # Against the real power: at most 1.0e-5 over all arguments, and the last fraction bit.
    assert y[kept] / 2**30 == pytest.approx([float(x[0, i]) ** power for i in kept], rel=1.2e-5, abs=2**-30)


def test_clamping_is_counted():
    build = Vector(function="gelu", max_k=3)
    x = np.array([[1 << 30, -(1 << 30), 1]], np.int32)
    got = results(build, build.job(k=3, in_multiplier=4, narrow=True), {"x": x})
    # Two arguments; then gelu(large) = large, gelu(-large) = 0 and gelu(4 / 65536) = 2 / 65536.
    assert got["y"].tolist() == [[127, 0, 2]] and got["saturated"] == 3
