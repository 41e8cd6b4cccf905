"""The vector engine's builds and jobs: what is refused, in which words; its widths; its closed forms by hand."""

import dataclasses

import numpy as np
import pytest

from sparseloom.models.formats.vector_stream import collect, pack_rows, pack_weights
from sparseloom.models.spec import functions, vector_cycles
from sparseloom.models.spec.vector import Vector
from sparseloom.models.spec.vector_job import ELEMENTWISE, FUNCTIONS, NORMS

BUILD = Vector(max_m=4, max_k=20, narrow=False)
GELU = Vector(function="gelu", max_m=4, max_k=20)
SHIFTMAX = Vector(function="shiftmax", max_m=4, max_k=20)
SHIFTGELU = Vector(function="shiftgelu", max_m=4, max_k=20)


@pytest.mark.parametrize("values, error, message", [
    ({"function": "relu"}, ValueError, f"function must be one of {', '.join(FUNCTIONS)}, got 'relu'"),
    ({"lanes": 0}, ValueError, "lanes must be 1..64, got 0"),
    ({"lanes": 65}, ValueError, "lanes must be 1..64, got 65"),
    ({"lanes": 8.0}, TypeError, "lanes must be an integer, got 8.0"),
    ({"max_m": 0}, ValueError, "max_m must be 1..65536, got 0"),
    ({"max_k": (1 << 14) + 1}, ValueError, "max_k must be 1..16384, got 16385"),
    ({"read_latency": 1}, ValueError, "read_latency must be 2..4, got 1"),
    ({"narrow": 1}, TypeError, "narrow must be true or false, got 1"),
])
def test_impossible_builds(values, error, message):
    with pytest.raises(error) as caught:
        Vector(**values)
    assert type(caught.value) is error and str(caught.value) == message


@pytest.mark.parametrize("build, shape, error, message", [
    (BUILD, {}, ValueError, "job field k is missing"),
    (BUILD, {"k": 1, "n": 2}, ValueError, "unknown job field 'n'; fields are eps, first, in_multiplier, in_shift, k, last, m, "
                                          "narrow, out_multiplier, out_shift, shift, tag, unit"),
    (BUILD, {"k": 21}, ValueError, "k must be 1..20, got 21"),
    (BUILD, {"k": 2.5}, TypeError, "k must be an integer, got 2.5"),
    (BUILD, {"k": 1, "m": 5}, ValueError, "m must be 1..4, got 5"),
    (BUILD, {"k": 1, "tag": 256}, ValueError, "tag must be 0..255, got 256"),
    (BUILD, {"k": 1, "first": 1}, TypeError, "first must be true or false, got 1"),
    (BUILD, {"k": 1, "narrow": 0}, TypeError, "narrow must be true or false, got 0"),
    (BUILD, {"k": 1, "narrow": True}, ValueError, "narrow must be false on a build without narrow results, got True"),
    (BUILD, {"k": 1, "out_multiplier": 65536}, ValueError, "out_multiplier must be 0..65535, got 65536"),
    (BUILD, {"k": 1, "out_shift": 64}, ValueError, "out_shift must be 0..63, got 64"),
    (BUILD, {"k": 1, "shift": -1}, ValueError, "shift must be 0..63, got -1"),
    (BUILD, {"k": 1, "eps": 1 << 48}, ValueError, f"eps must be 0..{(1 << 48) - 1}, got {1 << 48}"),
    (BUILD, {"k": 1, "in_multiplier": 2}, ValueError, "in_multiplier must be 1 for layernorm, got 2"),
    (BUILD, {"k": 1, "unit": 3}, ValueError, "unit must be 16 for layernorm, got 3"),
    (GELU, {"k": 1, "eps": 1}, ValueError, "eps must be 0 for gelu, got 1"),
    (GELU, {"k": 1, "shift": 1}, ValueError, "shift must be 20 for gelu, got 1"),
    (GELU, {"k": 1, "in_shift": 64}, ValueError, "in_shift must be 0..63, got 64"),
    (SHIFTMAX, {"k": 1, "unit": 0}, ValueError, "unit must be 1..32767, got 0"),
    (SHIFTGELU, {"k": 1, "unit": 256}, ValueError, "unit must be 1..255, got 256"),
])
def test_illegal_jobs(build, shape, error, message):
    with pytest.raises(error) as caught:
        build.job(**shape)
    assert type(caught.value) is error and str(caught.value) == message


@pytest.mark.parametrize("function", FUNCTIONS)
def test_records_hold_every_legal_value(function):
    rng = np.random.default_rng(1)
    for sizes in {"lanes": 3, "max_k": 20, "max_m": 5}, {"lanes": 1, "max_k": 1 << 14, "max_m": 1 << 16}:
        build = Vector(function=function, **sizes)
        for job in [build.largest_job(), *(build.draw_job(rng) for _ in range(30))]:
            values = build.job_values(job)
            assert build.job_record.decode(build.job_record.encode(values)) == values
            assert (values["beats"] - 1) * build.lanes + values["tail"] == job.k
        usual = build.job_values(build.job(k=1))
        for values in build.illegal_values():
            build.job_record.encode(usual | values)


def test_defaults_follow_numpy_integers():
    job = BUILD.job(k=np.int64(7), m=np.int32(2))
    assert type(job.k) is int and job == BUILD.job(k=7, m=2) and BUILD.resized(job, k=9).k == 9
    assert dataclasses.replace(BUILD, lanes=np.int64(4)).lanes == 4


@pytest.mark.parametrize("max_k", [1, 15, 16, 1000, 1 << 14])
def test_widths_hold_the_largest_values(max_k):
    build, peak = Vector(max_k=max_k), 1 << 31
    assert -(max_k * peak) >= -(1 << build.sum_width - 1) and max_k * peak**2 < 1 << build.square_width
    assert max_k * max_k * peak**2 + (1 << 48) - 1 < 1 << build.variance_width <= 1 << 128
    largest = build.normal_peak << 15
    assert largest + peak < 1 << build.value_width - 1
    assert max_k * (2**16 - 1) ** 2 < 1 << Vector(function="ilayernorm", max_k=max_k).divide_width


def test_normalised_elements_stay_below_their_peak():
    """rsqrt is at most 1.15e-5 too large; for every k that a build may have."""
    k = np.arange(1, (1 << 14) + 1)
    peaks = np.array([Vector(max_k=int(most)).normal_peak for most in k[-300:]])
    assert (np.floor(np.sqrt(k)) + 1 > np.sqrt(k) * (1 + 1.15e-5) + 2**-21).all()
    assert (peaks == (np.floor(np.sqrt(k[-300:])) + 1) * 2**20).all()


def test_latencies_by_hand():
    """Lanes of 8: three levels of a tree."""
    assert (functions.EXP2_LATENCY, functions.GELU_LATENCY, functions.SIGMOID_LATENCY) == (7, 7, 7)
    assert functions.RECIPROCAL_LATENCY == functions.RSQRT_LATENCY == 10
    build = Vector(function="gelu")
    # Beat 1 in cycle 3, register; rescale 6, gelu 7, rescale 6; mask, queue, two for the count, done.
    assert build.cycles(build.job(k=1)) == 3 + 1 + 6 + 7 + 6 + 5
    assert build.cycles(build.job(m=5, k=20)) == 3 + (15 - 1) + 1 + 6 + 7 + 6 + 5
    build = Vector(function="rsqrt")
    assert build.cycles(build.job(k=1)) == 3 + 1 + 6 + 10 + 3 + 6 + 5
    build = Vector(function="layernorm")
    # Register; squares 2, tree 3, sum 1; S1**2 in three chunks 2 + 2, V 2, rsqrt 10, queue 1; word 2; k * x 2, less S1, times the
    # mantissa 2, round 3, times gamma 2, round 3, plus beta.
    row = 1 + (2 + 3 + 1) + 4 + 2 + 10 + 1 + 2 + (2 + 1 + 2 + 3 + 2 + 3 + 1)
    assert build.cycles(build.job(k=1)) == 3 + row + 6 + 5
    # 24 beats a row: a row more than the operands take, as its first result waits for its last operand.
    assert build.cycles(build.job(m=4, k=192)) == 3 + (4 * 24 - 1) + row + 23 + 6 + 5
    build = Vector(function="shiftmax")
    # Register; maximum 3 + 1, queue; word, t, exponential 10; sum 3 + 1, clamp, division 31, queue; word, product 2, cut.
    row = 1 + 4 + 1 + 2 + (1 + 10) + (3 + 1 + 1 + 31) + 1 + 2 + 3
    assert build.cycles(build.job(m=4, k=192)) == 3 + (4 * 24 - 1) + row + 2 * 23 + 6 + 5


@pytest.mark.parametrize("function", [name for name in FUNCTIONS if name != "ilayernorm"])
def test_a_beat_a_cycle(function):
    """Another row costs its beats and nothing else, whatever its length."""
    build = Vector(function=function, max_m=1000)
    for k in (1, 8, 9, 192, 1024):
        few, many = (build.cycles(build.job(m=m, k=k)) for m in (10, 1000))
        assert many - few == 990 * build.beats_of(build.job(k=k))


def test_the_root_is_one_row_at_a_time():
    build = Vector(function="ilayernorm", max_m=197, max_k=768)
    # 42 bits: twelve divisions of 44 cycles, 7 more; a cycle between rows.
    assert build.divide_width == 42 and vector_cycles.root_cycles(build) == 12 * 44 + 7
    few, many = (build.cycles(build.job(m=m, k=768)) for m in (97, 197))
    assert many - few == 100 * (12 * 44 + 8)
    build = Vector(function="ilayernorm", lanes=1, max_m=10, max_k=768)
    assert build.cycles(build.job(m=10, k=768)) - build.cycles(build.job(m=9, k=768)) == 768


def test_back_to_back_saves_a_cycle():
    rng = np.random.default_rng(0)
    for function in FUNCTIONS:
        build = Vector(function=function)
        job = build.draw_job(rng)
        assert build.cycles_back_to_back(job) == build.cycles(job) - 1


def test_useful_fractions():
    build = Vector(function="gelu", lanes=8)
    job = build.job(m=2, k=9)
    assert build.beats("x", job) == build.beats("y", job) == 4
    assert build.useful_fraction(job, 4) == dict.fromkeys(("stream", "compute", "useful"), 18 / 32)
    with pytest.raises(ValueError, match="stream must be x or y, got 'w'"):
        build.beats("w", job)


def test_buffers_belong_to_norms():
    assert {name for name in FUNCTIONS if Vector(function=name).buffers} == {*NORMS, "ilayernorm"}
    assert Vector(function="layernorm", lanes=4, max_k=10).buffers[0].words == 3
    assert Vector(function="layernorm", lanes=4).buffers[0].width == 4 * 48 and len(ELEMENTWISE) == 6


def test_rows_and_weights_as_bytes():
    build = Vector(lanes=2, max_k=5, max_m=2)
    job = build.job(m=2, k=3)
    x = np.array([[1, -2, 3], [4, 5, -6]], np.int32)
    assert pack_rows(build, job, x).view("<i4").tolist() == [[1, -2], [3, 0], [4, 5], [-6, 0]]
    words = pack_weights(build, job, np.array([1, -1, 2]), np.array([256, -1, 7]))
    assert [word.tobytes().hex() for word in words] == ["01000000ffffffff0001ffff", "020000000000000007000000"]
    with pytest.raises(ValueError, match=r"x must be int32 \[2, 3\], got int64 \[2, 3\]"):
        pack_rows(build, job, x.astype(np.int64))
    with pytest.raises(ValueError, match="gamma must be -32768..32767, got 1..32768"):
        pack_weights(build, job, np.zeros(3, int), np.array([1, 2, 32768]))


@pytest.mark.parametrize("change, message", [
    ({"row": [0, 0, 1, 0]}, "o_y must deliver the rows in order"), ({"beat": [1, 0, 0, 1]}, "o_y must deliver the rows in order"),
    ({"data": [[1, 2], [3, 9], [4, 5], [6, 0]]}, "o_y holds padding that is not 0")])
def test_results_out_of_place(change, message):
    build = Vector(lanes=2, max_k=5, max_m=2)
    beats = {"row": [0, 0, 1, 1], "beat": [0, 1, 0, 1], "data": [[1, 2], [3, 0], [4, 5], [6, 0]]}
    job = build.job(m=2, k=3)
    assert collect(build, job, {name: np.array(value) for name, value in beats.items()})["y"].tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(ValueError, match=message):
        collect(build, job, {name: np.array(value) for name, value in (beats | change).items()})
