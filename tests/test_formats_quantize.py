"""The activation quantisers: absmax, half to even, symmetric; floor 1e-5 per token, scale 0 for groups of zeros."""

from fractions import Fraction

import numpy as np
import pytest

from sparseloom.models.formats.quantize import dequantize_groups, quantize, quantize_groups


def slow(row, bits):
    """Codes and scale of one token by the definition, in double precision (the inputs below are exact in it)."""
    top = 2 ** (bits - 1) - 1
    scale = top / max(max(abs(float(v)) for v in row), 1e-5)
    return [max(-top, min(top, round(float(v) * scale))) for v in row], scale


@pytest.mark.parametrize("bits", range(2, 9))
def test_codes_are_the_definition(bits):
    x = np.random.default_rng(bits).normal(size=(5, 7, 33)).astype(np.float32) * np.float32(3)
    codes, scale = quantize(x, bits)
    assert codes.dtype == np.int8 and codes.shape == x.shape and scale.dtype == np.float32 and scale.shape == (5, 7, 1)
    for row, got, s in zip(x.reshape(-1, 33), codes.reshape(-1, 33), scale.reshape(-1), strict=True):
        expected, exact = slow(row, bits)
        assert got.tolist() == expected and s == pytest.approx(exact, rel=1e-6)
        assert np.abs(got).max() == 2 ** (bits - 1) - 1


def test_ties_go_to_even():
    codes, scale = quantize(np.array([127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, -127], np.float32))
    assert scale == 1 and codes.tolist() == [127, 0, 2, 2, 0, -2, -2, -127]


def test_below_the_floor_codes_shrink():
    assert quantize(np.array([1e-5, -5e-6], np.float32))[0].tolist() == [127, -64]
    assert quantize(np.array([1e-6, 0], np.float32))[0].tolist() == [13, 0]
    assert quantize(np.zeros(4))[0].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("x, bits, error, word", [
    ([1.0], 1, ValueError, "bits must be 2..8"), ([1.0], 9, ValueError, "bits must be 2..8"), ([1.0], 8.0, TypeError, "bits"),
    ([], 8, ValueError, "at least one element"), (1.0, 8, ValueError, "at least one element"),
    ([np.nan], 8, ValueError, "finite"), ([np.inf], 8, ValueError, "finite"),
])
def test_refusals(x, bits, error, word):
    with pytest.raises(error, match=word):
        quantize(np.array(x), bits)


def slow_groups(row, group):
    """Codes and scales of one token by the definition, each float32 operation rounded once from exact fractions."""
    codes, scales = [], []
    for start in range(0, len(row), group):
        part = [Fraction(float(v)) for v in row[start : start + group]]
        scale = np.float32(max(abs(v) for v in part) / 127)  # float(Fraction) rounds to double first: far from a float32 tie here
        scales.append(scale)
        exact = Fraction(float(scale))
        codes += [max(-127, min(127, round(Fraction(float(np.float32(v / exact)))))) if scale else 0 for v in part]
    return codes, scales


@pytest.mark.parametrize("group", [1, 7, 32, 33, 64, None])
def test_group_codes_are_the_definition(group):
    x = np.random.default_rng(5).normal(size=(3, 4, 65)).astype(np.float32) * np.float32(3)
    x[0, 1] = 0
    x[1, 2, 32:64] = 0
    codes, scales = quantize_groups(x, group)
    count = -(-65 // (group or 65))
    assert codes.dtype == np.int8 and codes.shape == x.shape and scales.dtype == np.float32 and scales.shape == (3, 4, count)
    for row, got, s in zip(x.reshape(-1, 65), codes.reshape(-1, 65), scales.reshape(-1, count), strict=True):
        assert (got.tolist(), s.tolist()) == slow_groups(row, group or 65)
    back = dequantize_groups(codes, scales, group)
    assert back.dtype == np.float32
    error = np.abs(back - x).reshape(-1, 65)
    bound = np.repeat(scales, group or 65, axis=-1)[..., :65].reshape(-1, 65)
    assert (error <= bound * np.float32(0.50001)).all() and error.max() > 0


def test_group_ties_go_to_even_and_zeros_have_scale_zero():
    codes, scales = quantize_groups([[127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, -127, 0, 0, 0]], 8)
    assert codes.tolist() == [[127, 0, 2, 2, 0, -2, -2, -127, 0, 0, 0]] and scales.tolist() == [[1, 0]]


def test_the_smallest_floats_stay_codes():
    x = np.array([np.finfo(np.float32).smallest_subnormal * i for i in (1, 100, 200, -300)], np.float32)
    codes, scales = quantize_groups(x, 2)  # 100 / 127 rounds to one step, 300 / 127 to two
    assert scales.tolist() == [x[0], 2 * x[0]] and codes.tolist() == [1, 100, 100, -127]
    assert quantize_groups(x[:1])[1].tolist() == [0] and quantize_groups(x[:1])[0].tolist() == [0]


@pytest.mark.parametrize("x, group, error, word", [
    ([1.0], 0, ValueError, "group must be 1"), ([1.0], 8.0, TypeError, "group"), ([], 8, ValueError, "at least one element"),
    (1.0, None, ValueError, "at least one element"), ([np.nan], 8, ValueError, "finite"), ([-np.inf], None, ValueError, "finite"),
])
def test_group_refusals(x, group, error, word):
    with pytest.raises(error, match=word):
        quantize_groups(np.array(x), group)
