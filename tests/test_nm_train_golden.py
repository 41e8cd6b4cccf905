"""Golden products of the N:M training array against slow ones: the definition in single operations, and float64."""

import numpy as np
import pytest

from sparseloom.models.formats.bf16 import BF16, BF16_NAN, from_bf16, to_bf16
from sparseloom.models.golden import nm_train as golden
from sparseloom.models.spec.nm_pattern import PATTERNS
from sparseloom.models.spec.nm_train import NmTrain

BUILD = NmTrain()


def operands_of(rng, m, n, k, nnz, group, kind):
    job = BUILD.job(m=m, n=n, k=k, nnz=nnz, group=group)
    operands = golden.draw_operands(BUILD, job, rng)
    if kind is not None:
        operands["a"] = golden._draw(rng, kind, (m, k))
    return job, operands


def slow(job, operands):
    """Scalars of NumPy, in the order that the definition names."""
    a, values = from_bf16(operands["a"]), from_bf16(operands["values"])
    y = np.zeros((job.m, job.n), np.float32)
    with np.errstate(all="ignore"):
        for i in range(job.m):
            for j in range(job.n):
                total = np.float32(0)
                for g in range(values.shape[1]):
                    for t in range(job.nnz):
                        at = g * job.group + int(operands["index"][j, g, t])
                        x = a[i, at] if at < job.k else np.float32(0)
                        total = np.float32(total + np.float32(x * values[j, g, t]))
                y[i, j] = total
    bits = y.view(np.uint32)
    bits[np.isnan(y)] = 0x7FC00000
    return bits


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("kind", [0, 1, 2])
@pytest.mark.parametrize("nnz, group", PATTERNS)
def test_product_is_its_definition(nnz, group, kind, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(golden, "_compiled", lambda: None)
    rng = np.random.default_rng(nnz * 100 + group + kind)
    for m, n, k in ((1, 1, 1), (3, 5, 33), (600, 2, 7)):
        job, operands = operands_of(rng, m, n, k, nnz, group, kind)
        want = slow(job, operands)
        assert np.array_equal(golden.product(operands["a"], operands["values"], operands["index"], group).view(np.uint32), want)
        assert np.array_equal(golden.results(BUILD, job, operands)["y"], want)


def test_narrow_results_are_rounded_once_more():
    job, operands = operands_of(np.random.default_rng(4), 6, 7, 50, 2, 8, 2)
    narrow = golden.results(BUILD, BUILD.job(**vars(job) | {"narrow": True}), operands)["y"]
    whole = golden.results(BUILD, job, operands)["y"].view(np.float32)
    assert np.array_equal(narrow, to_bf16(whole).view(np.uint16)) and (narrow < 1 << 16).all()


def test_dense_operand():
    rng = np.random.default_rng(5)
    a, b = (to_bf16(rng.standard_normal(shape).astype(np.float32)) for shape in ((4, 30), (30, 6)))
    got = golden.product(a, *golden.dense(b))
    exact = from_bf16(a).astype(np.float64) @ from_bf16(b).astype(np.float64)
    # Each of the 30 additions rounds to 24 bits, relative to a partial sum that is at most the sum of magnitudes.
    bound = 30 * 2.0**-24 * (np.abs(from_bf16(a)).astype(np.float64) @ np.abs(from_bf16(b)).astype(np.float64))
    assert (np.abs(got - exact) <= bound).all() and (got != exact).any()


def test_padding_adds_nothing():
    """A sum never becomes -0, so that products of +0 behind it change no bit: gates may fill up with them."""
    rng = np.random.default_rng(6)
    for kind in (0, 1, 2):
        a, b = golden._draw(rng, kind, (20, 40)), golden._draw(rng, kind, (40, 8))
        y = golden.product(a, *golden.dense(b)).view(np.uint32)
        zeros = np.zeros((20, 8), BF16), np.zeros((8, 8), BF16)
        filled = golden.product(np.concatenate([a, zeros[0]], axis=1), *golden.dense(np.concatenate([b, zeros[1]])))
        assert np.array_equal(filled.view(np.uint32), y) and not (y == 1 << 31).any()


@pytest.mark.parametrize("x, code", [
    (1.0, 0x3F80), (1.00390625, 0x3F80), (1.01171875, 0x3F82), (-0.0, 0x8000), (np.inf, 0x7F80), (3.4e38, 0x7F80),
    (3.39e38, 0x7F7F), (1e-40, 0x0001), (np.nan, BF16_NAN), (-np.nan, BF16_NAN),
])
def test_bfloat16(x, code):
    got = to_bf16(np.array([x], np.float32))
    assert got.dtype == BF16 and got.view(np.uint16)[0] == code


def test_bfloat16_of_every_code():
    codes = np.arange(1 << 16, dtype=np.uint16).view(BF16)
    back = to_bf16(from_bf16(codes)).view(np.uint16)
    same = np.where(np.isnan(codes.astype(np.float32)), BF16_NAN, codes.view(np.uint16))
    assert np.array_equal(back, same)


@pytest.mark.parametrize("change, kind, message", [
    ({"a": np.zeros((2, 8), np.float32)}, TypeError, r"a must be bfloat16 with 2 axes, got float32 \[2, 8\]"),
    ({"values": np.zeros((3, 8), BF16)}, TypeError, "values must be bfloat16 with 3 axes"),
    ({"index": np.zeros((3, 2, 1), np.uint8)}, ValueError, "index must have the shape of values"),
    ({"a": np.zeros((2, 9), BF16)}, ValueError, "values must have 3 groups of 4 for k = 9, got 2"),
    ({"index": np.full((3, 2, 2), 4, np.uint8)}, ValueError, r"index must be less than group \(4\), got 4"),
])
def test_operands_that_do_not_fit(change, kind, message):
    operands = {"a": np.zeros((2, 8), BF16), "values": np.zeros((3, 2, 2), BF16), "index": np.zeros((3, 2, 2), np.uint8)}
    with pytest.raises(kind, match=message):
        golden.product(**operands | change, group=4)
    with pytest.raises(TypeError, match="x must be float32, got float64"):
        to_bf16(np.zeros(3))
    with pytest.raises(TypeError, match="x must be bfloat16, got float32"):
        from_bf16(np.zeros(3, np.float32))
