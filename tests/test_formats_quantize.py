"""The activation quantiser: absmax, half to even, symmetric, floor 1e-5."""

import numpy as np
import pytest

from sparseloom.models.formats.quantize import quantize


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
