"""The N:M training array as its spec tells it: legal builds and jobs, streams, cycles."""

import numpy as np
import pytest

from sparseloom.models.formats import nm_train_stream as stream
from sparseloom.models.golden import nm_train as golden
from sparseloom.models.spec import nm_train_cycles
from sparseloom.models.spec.nm_pattern import PATTERNS, check_pattern
from sparseloom.models.spec.nm_train import NmTrain
from sparseloom.models.spec.nm_train_job import DATAFLOWS

BUILD = NmTrain(rows=4, cols=4, slots=8, words=2, ws_rows=16, max_m=100, max_n=200, max_k=300)


@pytest.mark.parametrize("settings, message", [
    ({"rows": 1}, "rows must be 2..128, got 1"),
    ({"rows": 6, "words": 4}, r"words must divide rows \(6\), got 4"),
    ({"cols": 3}, "cols must be one of 2, 4, 8, 16, 32, 64, got 3"),
    ({"slots": 3}, "slots must be 4..16, got 3"),
    ({"slots": 17}, "slots must be 4..16, got 17"),
    ({"words": 3}, "words must be one of 1, 2, 4, 8, got 3"),
    ({"ws_rows": 1}, "ws_rows must be 2..4096, got 1"),
    ({"max_m": 0}, "max_m must be"), ({"max_n": 1 << 17}, "max_n must be"), ({"max_k": 1 << 24}, "max_k must be"),
])
def test_builds_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        NmTrain(**settings)


def test_builds_of_another_kind():
    with pytest.raises(TypeError, match="rows must be an integer, got 2.5"):
        NmTrain(rows=2.5)


@pytest.mark.parametrize("shape, kind, message", [
    ({"m": 0}, ValueError, "m must be 1..100, got 0"),
    ({"n": 201}, ValueError, "n must be 1..200, got 201"),
    ({"k": 301}, ValueError, "k must be 1..300, got 301"),
    ({"k": 1.5}, TypeError, "k must be an integer"),
    ({"tag": 256}, ValueError, "tag must be 0..255"),
    ({"nnz": 3, "group": 4}, ValueError, "nnz:group must be one of 1:1, 2:4, 1:4, 4:8, 2:8, 2:16, got 3:4"),
    ({"nnz": "2"}, TypeError, "nnz must be an integer, got '2'"),
    ({"dataflow": "is"}, ValueError, "dataflow must be one of os, ws, got 'is'"),
    ({"narrow": 1}, TypeError, "narrow must be true or false, got 1"),
    ({"depth": 1}, ValueError, "unknown job field 'depth'"),
])
def test_jobs_that_cannot_be(shape, kind, message):
    with pytest.raises(kind, match=message):
        BUILD.job(**{"m": 3, "n": 3, "k": 3} | shape)


def test_a_job_needs_its_sizes():
    with pytest.raises(ValueError, match="job field k is missing"):
        BUILD.job(m=1, n=1)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_that_can_be(pattern):
    assert check_pattern(*map(np.int64, pattern)) == pattern


def test_streams_have_the_beats_that_the_spec_tells():
    rng, seen = np.random.default_rng(3), 0
    for _ in range(100):
        build = NmTrain.draw_build(rng)
        job = build.draw_job(rng)
        streams, buffers = stream.pack(build, job, golden.draw_operands(build, job, rng))
        assert not buffers
        for port in build.inputs:
            assert streams[port.name].shape == (build.beats(port.name, job), port.record.bytes)
            seen += len(streams[port.name])
    assert seen > 1000


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_operand_is_in_the_streams(dataflow, pattern):
    """Every value of A, and every value of B with its index, comes as often as the order of work says."""
    nnz, group = pattern
    job = BUILD.job(m=21, n=45, k=70, nnz=nnz, group=group, dataflow=dataflow)
    operands = golden.draw_operands(BUILD, job, np.random.default_rng(1))
    operands["a"].view(np.uint16)[...] = np.arange(1, 21 * 70 + 1).reshape(21, 70)
    streams, _ = stream.pack(BUILD, job, operands)
    codes = streams["a"].view("<u2").ravel()
    again = len(BUILD.column_tiles(job))
    assert np.array_equal(np.bincount(codes)[1:], np.full(21 * 70, again))
    kept = np.count_nonzero(operands["values"].view(np.uint16))
    times = -(-job.m // BUILD.rows) if dataflow == "os" else len(BUILD.ws_blocks(job))
    assert np.count_nonzero(streams["b"][:, : 2 * BUILD.cols].copy().view("<u2")) == kept * times > 0


@pytest.mark.parametrize("name, change, message", [
    ("a", lambda a: a[:, 1:], r"a must be bfloat16 \[3, 20\], got bfloat16 \[3, 19\]"),
    ("a", lambda a: a.astype(np.float32), r"a must be bfloat16 \[3, 20\], got float32"),
    ("values", lambda v: v[:1], r"values must be bfloat16 \[5, 5, 2\], got bfloat16 \[1, 5, 2\]"),
    ("index", lambda i: i.astype(int), r"index must be uint8 \[5, 5, 2\], got int64"),
    ("index", lambda i: i + np.uint8(4), r"index must be less than group \(4\), got"),
])
def test_operands_that_do_not_fit(name, change, message):
    job = BUILD.job(m=3, n=5, k=20, nnz=2, group=4)
    operands = golden.draw_operands(BUILD, job, np.random.default_rng(0))
    with pytest.raises(ValueError, match=message):
        stream.pack(BUILD, job, operands | {name: change(operands[name])})


def test_results_that_are_missing_or_beyond():
    job = BUILD.job(m=1, n=6, k=1)
    beats = {"row": np.array([0, 0]), "column": np.array([0, 4]), "data": np.zeros((2, 4), np.int64)}
    assert stream.collect(BUILD, job, beats)["y"].shape == (1, 6)
    with pytest.raises(ValueError, match="4 of 6 came 0 or several times"):
        stream.collect(BUILD, job, {name: values[1:] for name, values in beats.items()})
    with pytest.raises(ValueError, match="6 of 6 came 0 or several times"):
        stream.collect(BUILD, job, {name: np.concatenate([values, values]) for name, values in beats.items()})
    for name, value in (("row", 1), ("column", 8)):
        with pytest.raises(ValueError, match="outside the job"):
            stream.collect(BUILD, job, beats | {name: np.array([0, value])})
    with pytest.raises(ValueError, match="padding that is not 0"):
        stream.collect(BUILD, job, beats | {"data": np.ones((2, 4), int)})


def test_repetitions_change_no_cycle(monkeypatch):
    """The recurrence that jumps over what repeats, against the one that does not."""
    rng, jobs = np.random.default_rng(8), []
    for _ in range(150):
        build = NmTrain.draw_build(rng)
        jobs += [(build, build.draw_job(rng)) for _ in range(4)]
    jumped = [build.cycles(job) for build, job in jobs]
    monkeypatch.setattr(nm_train_cycles._Times, "repeat", lambda _, count, step: [step() for _ in range(count)])
    assert jumped == [build.cycles(job) for build, job in jobs]


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("nnz, group", PATTERNS)
def test_four_aligned_tiles_keep_the_multipliers_busy(nnz, group, dataflow):
    """95 % and more of the multipliers, by the closed form that the gates agree with, for products of four output tiles."""
    build = NmTrain(rows=16, cols=16, slots=8, words=2, ws_rows=1024, max_m=2048, max_n=512, max_k=8192)
    k = 4096 * group // nnz if dataflow == "os" else 16 * group
    job = build.job(m=64 if dataflow == "os" else 2048, n=128, k=min(k, 8192), nnz=nnz, group=group, dataflow=dataflow)
    if dataflow == "os":
        assert -(-job.m // build.rows) * len(build.column_tiles(job)) == 4
    assert build.useful_fraction(job, build.cycles(job))["compute"] >= 0.95


def test_cycles_of_products_too_large_to_simulate():
    """Millions of rows are told at once, and cost what their multipliers need."""
    build = NmTrain(rows=64, cols=16, slots=8, words=4, ws_rows=256, max_m=1 << 20, max_n=4096, max_k=1 << 20)
    for m, n, k in ((802816, 64, 576), (64, 576, 802816)):
        job = build.job(m=m, n=n, k=k)
        least = m * n * k // 1024
        assert least < build.cycles(job) < 1.0001 * least
