"""Floats of training: golden against exact fractions and Pychop, the float units against golden, by the million on compiled
gates. Every comparison is of bits; the one rule beyond IEEE 754 is that a NaN is always the same."""

import hashlib
import math
from fractions import Fraction

import numpy as np
import pytest
from safetensors.numpy import load_file

from sparseloom.models.formats.bf16 import BF16
from sparseloom.models.golden import floats
from sparseloom.models.spec.floats import CANONICAL_NAN
from sparseloom.sim.float_unit import (
    CORNERS,
    UNITS,
    FloatUnit,
    FloatUnitGates,
    draw_pairs,
    float_unit_design,
    float_unit_image,
    float_unit_results,
)
from sparseloom.sim.pysim import PySimulator
from sparseloom.sim.runner import Simulator, Work

FORMATS = {"float32": (24, 32), "bfloat16": (8, 16)}
"""Bits of the fraction with the hidden one, and of the whole."""
PYCHOP = "3cc044a61f1379fc2017f8ceb62e428cbd923b5f7c541256b39e30778a477f6c"
"""SHA-256 of what ``make_pychop.py`` wrote."""


def golden(unit, a, b):
    """uint32 patterns of what ``unit`` must make of uint32 patterns."""
    if unit == "round":
        return floats.round_bf16(floats.from_bits(a)).view(np.uint16).astype(np.uint32)
    if unit == "product":
        return floats.bits(floats.product_bf16(*(part.astype(np.uint16).view(BF16) for part in (a, b))))
    return floats.bits({"add": floats.add, "multiply": floats.multiply}[unit](floats.from_bits(a), floats.from_bits(b)))


def encode(value, minus, form):
    """Pattern of a Fraction of at least 0, rounded half to even, from the definition of the formats."""
    digits, width = FORMATS[form]
    sign = minus << width - 1
    # The unit of the last place: that of the value's own binade, but never less than the smallest subnormal.
    unit = Fraction(2) ** (1 - 126 - digits)
    while value >= unit * (1 << digits):
        unit *= 2
    rounded = round(value / unit)  # of a Fraction: half to even
    if rounded * unit >= Fraction(2) ** 128:
        return sign | 255 << digits - 1
    exponent, last = 0, Fraction(2) ** (1 - 126 - digits)
    if rounded * unit >= last * (1 << digits - 1):
        exponent = 1
        while rounded * unit >= last * (1 << digits):
            exponent, last = exponent + 1, last * 2
        rounded = int(rounded * unit / last) - (1 << digits - 1)
    return sign | exponent << digits - 1 | rounded


def slow(unit, a, b):
    """One result from fractions and the tables of IEEE 754."""
    x, y = (float(floats.from_bits(part)) for part in (a, b))
    form, nan = ("bfloat16", CANONICAL_NAN >> 16) if unit == "round" else ("float32", CANONICAL_NAN)
    width = FORMATS[form][1]
    infinite = 255 << FORMATS[form][0] - 1
    minus = [int(part) >> 31 for part in (a, b)]
    if math.isnan(x) or unit != "round" and math.isnan(y):
        return nan
    if unit == "round":
        return minus[0] << width - 1 | infinite if math.isinf(x) else encode(abs(Fraction(x)), minus[0], form)
    if unit == "multiply":
        sign = minus[0] ^ minus[1]
        if math.isinf(x) or math.isinf(y):
            return nan if x == 0 or y == 0 else sign << 31 | infinite
        return encode(abs(Fraction(x) * Fraction(y)), sign, form)
    if math.isinf(x) or math.isinf(y):
        if math.isinf(x) and math.isinf(y) and x != y:
            return nan
        return minus[0 if math.isinf(x) else 1] << 31 | infinite
    total = Fraction(x) + Fraction(y)
    return encode(abs(total), minus[0] & minus[1] if total == 0 else int(total < 0), form)


@pytest.mark.parametrize("unit", ["add", "multiply", "round"])
def test_golden_is_the_definition(unit):
    a, b = draw_pairs(np.random.default_rng(1), 1500, unit)
    want = [slow(unit, *pair) for pair in zip(a, b, strict=True)]
    assert golden(unit, a, b).tolist() == want
    # All kinds of results were among them.
    exponents = np.array(want) >> FORMATS["bfloat16" if unit == "round" else "float32"][0] - 1 & 255
    assert {0, 1, 255} <= set(exponents.tolist()) and (exponents == 0).sum() > 5 and len(set(exponents.tolist())) > 100


def test_products_of_bfloat16_are_exact_unless_tiny_or_huge():
    a, b = draw_pairs(np.random.default_rng(2), 20000, "product")
    finite = np.isfinite(floats.from_bits(np.stack([a, b]) << 16)).all(axis=0)
    a, b = a[finite], b[finite]
    got = floats.from_bits(golden("product", a, b)).astype(np.float64)
    exact = np.multiply(*(floats.from_bits(part << 16).astype(np.float64) for part in (a, b)))
    ordinary = (np.abs(exact) >= 2.0**-126) & (np.abs(exact) < 2.0**128)
    assert (got[ordinary] == exact[ordinary]).all() and ordinary.sum() > 5000


def test_golden_agrees_with_pychop(root):
    """A third party's emulator, on finite results: Pychop 0.6.2 has no overflow in a float64 backend (2**128 stays, more becomes
    0) and one NaN; the rest, zeros' signs and subnormals too, is compared bit for bit. ``make_pychop.py`` wrote the file."""
    file = root / "tests" / "fixtures" / "pychop" / "floats.safetensors"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == PYCHOP
    found = load_file(file)
    a, b = floats.bits(found["a"]), floats.bits(found["b"])
    tiny = 0
    for unit in ("add", "multiply", "round"):
        want = floats.bits(found[unit]) >> 16 * (unit == "round")
        assert np.isfinite(found[unit]).all() and golden(unit, a, b).tolist() == want.tolist(), unit
        tiny += int(((np.abs(found[unit]) < 2.0**-126) & (found[unit] != 0)).sum())
    assert tiny > 500


def test_golden_takes_float32_alone_and_has_one_nan():
    with pytest.raises(TypeError, match="a must be float32, got float64"):
        floats.add(np.float64(1), np.float32(1))
    with pytest.raises(TypeError, match="b must be float32, got int64"):
        floats.multiply(np.float32(1), np.int64(1))
    odd = floats.from_bits(np.array([0x7F800001, 0xFFC12345, 0x7FFFFFFF], np.uint32))
    for value in (floats.add(odd, np.float32(1)), floats.multiply(np.float32(0), odd), floats.negate(odd), floats.sign(odd)):
        assert floats.bits(value).tolist() == [CANONICAL_NAN] * 3
    assert floats.round_bf16(odd).view(np.uint16).tolist() == [0x7FC0] * 3
    signs = floats.sign(np.array([0.0, -0.0, 1e-45, -1e-45, np.inf, -np.inf], np.float32))
    assert floats.bits(signs).tolist() == [0, 0, 0x3F800000, 0xBF800000, 0x3F800000, 0xBF800000]


@pytest.mark.parametrize("unit", UNITS)
def test_pairs_of_every_kind_are_drawn(unit):
    """What the tests below rest on: subnormal and overflowing results, zeros of both signs, NaNs, and ties."""
    a, b = draw_pairs(np.random.default_rng(3), 50000, unit)
    y = golden(unit, a, b)
    bits = 7 if unit == "round" else 23
    exponent, fraction, plus = y >> bits & 255, y & (1 << bits) - 1, y >> bits + 8 == 0
    low, high = exponent == 0, exponent == 255
    for some in (low & (fraction > 0), low & (fraction == 0) & plus, low & (fraction == 0) & ~plus, high & (fraction == 0),
                 high & (fraction > 0), exponent == 1):
        assert some.sum() > 10


@pytest.mark.rtl
@pytest.mark.parametrize("unit", UNITS)
def test_units_in_pysim(unit):
    build = FloatUnit(unit=unit)
    a, b = draw_pairs(np.random.default_rng(4), 400, unit)
    work = Work(build.job(n=len(a)), float_unit_image(a, b))
    for options in ({}, {"stall": 0.5, "idle": 0.2}):
        receipt, = PySimulator(build, lambda: FloatUnitGates(build)).run([work], **options)
        assert float_unit_results(receipt).tolist() == golden(unit, a, b).tolist()
    with pytest.raises(ValueError, match="unit must be one of add, multiply, product, round, got 'sqrt'"):
        FloatUnit(unit="sqrt")


def differences(simulator, build, a, b):
    """Pairs that the gates and golden do not agree on; all of the job's cycles are the closed form's."""
    job = build.job(n=len(a))
    receipt, = simulator.run([Work(job, float_unit_image(a, b))])
    assert receipt.cycles == build.cycles(job)
    return int((float_unit_results(receipt) != golden(build.unit, a, b)).sum())


@pytest.fixture(scope="module", params=UNITS)
def gates(request):
    build = FloatUnit(unit=request.param)
    with Simulator(build, design=float_unit_design(build)) as simulator:
        yield simulator, build


@pytest.mark.rtl
def test_units_on_compiled_gates(gates):
    """200 000 pairs, every corner with every other among them."""
    simulator, build = gates
    first, second = (part.ravel() for part in np.meshgrid(CORNERS, CORNERS))
    if build.unit == "product":
        first, second = first >> 16, second >> 16
    assert differences(simulator, build, first, second) == 0
    assert differences(simulator, build, *draw_pairs(np.random.default_rng(5), 200_000, build.unit)) == 0


@pytest.mark.rtl
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_units_by_the_million(gates, seed):
    """10 million pairs for each unit."""
    simulator, build = gates
    assert differences(simulator, build, *draw_pairs(np.random.default_rng(100 + seed), 1_000_000, build.unit)) == 0


@pytest.mark.rtl
@pytest.mark.slow
@pytest.mark.parametrize("unit", ["product", "round"])
def test_every_bfloat16_with_many(unit):
    """Every bfloat16 times 200 others; every upper half of a float32 with 200 lower ones."""
    build = FloatUnit(unit=unit)
    simulator = Simulator(build, design=float_unit_design(build))
    rng, every = np.random.default_rng(6), np.arange(1 << 16, dtype=np.uint32)
    lower = np.concatenate([[0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], rng.integers(0, 1 << 16, 194)]).astype(np.uint32)
    for other in lower:
        a = every if unit == "product" else every << 16 | other
        assert differences(simulator, build, a, np.full_like(every, other)) == 0
