"""Scales as integers with an exponent a row: against exact fractions, and the loss they tell."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sparseloom.models.formats.mantissas import align


def slow(row, width, signed):
    """(integers, exponent) by definition: the smallest exponent at which the largest magnitude, rounded half to even, fits."""
    most = 2 ** (width - signed) - 1
    peak = max(abs(Fraction(float(value))) for value in row)
    if not peak:
        return [0] * len(row), 0
    exponent = math.frexp(float(peak))[1] - width - 2
    while round(peak / Fraction(2) ** exponent) > most:
        exponent += 1
    return [round(Fraction(float(value)) / Fraction(2) ** exponent) for value in row], exponent


def check(scale, width, signed):
    found = align(scale, width, signed)
    for row, values, exponent in zip(scale, found.values, found.exponent, strict=True):
        assert (values.tolist(), exponent) == slow(row, width, signed)
        peak = int(np.abs(values).max(initial=0))
        # The full width is used.
        assert peak == 0 or 2 ** (width - signed - 1) <= peak <= 2 ** (width - signed) - 1
    assert found.values.dtype == found.exponent.dtype == np.int32
    exact = [[int(value) * Fraction(2) ** int(exponent) for value in values]
             for values, exponent in zip(found.values, found.exponent, strict=True)]
    assert found.reals().tolist() == [[float(value) for value in row] for row in exact]
    pairs = [(value, Fraction(float(want))) for row, wants in zip(exact, scale, strict=True)
             for value, want in zip(row, wants, strict=True)]
    whole = sum(want**2 for _, want in pairs)
    squared = sum((value - want) ** 2 for value, want in pairs) / whole if whole else Fraction(0)
    assert found.loss == pytest.approx(math.sqrt(squared), rel=1e-9, abs=1e-15)
    return found


FLOATS = st.one_of(st.floats(-1e3, 1e3), st.floats(-1e307, 1e307),
                   st.sampled_from([0.0, 1.0, 0.5, 32767.5, 65535.5, 5e-324, 2.0**-1022]))


@settings(max_examples=60)
@given(arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 5)), elements=FLOATS), st.sampled_from([2, 8, 16]))
def test_signed_against_fractions(scale, width):
    check(scale, width, True)


@settings(max_examples=60)
@given(arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 5)), elements=FLOATS.map(abs)), st.sampled_from([1, 8, 16]))
def test_unsigned_against_fractions(scale, width):
    check(scale, width, False)


@pytest.mark.parametrize("row, values, exponent", [
    ([16384.5, 16385.5, -16386.5, 0.5], [16384, 16386, -16386, 0], 0),  # ties go to even
    ([32767.0, 1.0], [32767, 1], 0),
    ([32767.5, 3.0], [16384, 2], 1),       # rounds to 32768, which does not fit: one exponent more, 1.5 to 2
    ([-32768.0, 1.0], [-16384, 0], 1),     # magnitudes are symmetrical
    ([1.0, -0.25], [16384, -4096], -14),
    ([0.0, 0.0], [0, 0], 0),
    ([3 * 2.0**40, 2.0**26, 3 * 2.0**26, 2.0**25], [24576, 0, 2, 0], 27),
])
def test_vectors(row, values, exponent):
    """Worked out by hand for 16 signed bits."""
    found = align([row])
    assert found.values.tolist() == [values] and found.exponent.tolist() == [exponent]


def test_unsigned_uses_the_sign_bit():
    found = align([[65535.0, 0.5, 1.5], [65535.5, 1.0, 3.0]], signed=False)
    assert found.values.tolist() == [[65535, 0, 2], [32768, 0, 2]] and found.exponent.tolist() == [0, 1]


def test_rows_have_exponents_of_their_own():
    found = align([[1.0, 0.5], [1024.0, 0.0], [0.0, 0.0]])
    assert found.exponent.tolist() == [-14, -4, 0] and found.loss == 0 and found.reals().tolist()[1] == [1024.0, 0.0]


def test_loss_by_hand():
    """2**15 + 1 and 1: at 16 signed bits 16384 (a tie, to even) and 0 at exponent 1; both errors are 1."""
    found = align([[2.0**15 + 1, 1.0]])
    assert found.values.tolist() == [[16384, 0]]
    assert found.loss == pytest.approx(math.sqrt(2 / ((2**15 + 1) ** 2 + 1)), rel=1e-12)


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_loss_does_not_depend_on_the_unit(scale):
    row = np.array([[1.0, 1 / 3, 1e-5]])
    assert align(row * scale).loss == pytest.approx(align(row).loss, rel=0.5) and align(row).loss > 1e-6


def test_nothing_is_nothing():
    assert align(np.zeros((0, 3))).values.shape == (0, 3) and align(np.zeros((2, 0))).exponent.tolist() == [0, 0]


@pytest.mark.parametrize("scale, arguments, message", [
    ([[1.0, float("nan")]], {}, r"scale must be a matrix of finite numbers, got shape \[1, 2\]"),
    ([[float("inf")]], {}, r"scale must be a matrix of finite numbers, got shape \[1, 1\]"),
    ([1.0, 2.0], {}, r"scale must be a matrix of finite numbers, got shape \[2\]"),
    ([[1.0, -0.5]], {"signed": False}, "scale must not be negative, got -0.5"),
])
def test_refusals(scale, arguments, message):
    with pytest.raises(ValueError, match=message):
        align(scale, **arguments)
