"""The MoE linear engine without gates: what is refused, golden against loops, its stream word by word, closed forms by hand."""

import numpy as np
import pytest

from sparseloom.models.formats.engines import pack
from sparseloom.models.formats.moe_linear_stream import collect, unpack_weights
from sparseloom.models.golden.engines import draw_operands, results
from sparseloom.models.golden.functions import gelu
from sparseloom.models.spec.moe_linear import MoeLinear
from sparseloom.models.spec.moe_linear_job import EXPERT_WORD, PAIR_WORD, default_routes

SMALL = MoeLinear(tokens=2, rows=4, lanes=8, beat_bytes=16, ring_words=8, result_lanes=2, max_m=8, max_k=24, max_n=12,
                  max_experts=4, max_top_k=3, score_n=12)


@pytest.mark.parametrize("change, kind, message", [
    ({"tokens": 5}, ValueError, "tokens must be 1..4, got 5"),
    ({"rows": 3}, ValueError, "rows must be even, got 3"),
    ({"rows": 66}, ValueError, "rows must be 2..64, got 66"),
    ({"lanes": 12}, ValueError, "lanes must be one of 8, 16, 24, 32, 40, 48, 56, 64, got 12"),
    ({"beat_bytes": 24}, ValueError, "beat_bytes must be one of 8, 16, 32, 64, 128, got 24"),
    ({"beat_bytes": 64}, ValueError, r"beat_bytes must divide rows \* lanes \(32\), got 64"),
    ({"ring_words": 48}, ValueError, "ring_words must be one of 8, 16"),
    ({"max_k": 72}, ValueError, "ring_words must hold a tile, 9 steps of 8 columns, got 8"),
    ({"result_lanes": 3}, ValueError, r"result_lanes must divide rows \(4\)"),
    ({"gelu": 1}, TypeError, "gelu must be true or false, got 1"),
    ({"target": "asic"}, ValueError, "target must be one of portable, dsp48e2, ecp5, got 'asic'"),
    ({"max_m": 2.5}, TypeError, "max_m must be an integer, got 2.5"),
])
def test_builds_that_are_refused(change, kind, message):
    with pytest.raises(kind, match=message):
        MoeLinear(**vars(SMALL) | change)


@pytest.mark.parametrize("change, kind, message", [
    ({"m": 9}, ValueError, "m must be 1..8, got 9"),
    ({"n": 0}, ValueError, "n must be 1..12, got 0"),
    ({"shift": 63}, ValueError, "shift must be 0..62, got 63"),
    ({"experts": 5}, ValueError, "experts must be 1..4, got 5"),
    ({"top_k": 2}, ValueError, r"top_k must be at most experts \(1\), got 2"),
    ({"experts": 4, "top_k": 4}, ValueError, "top_k must be 1..3, got 4"),
    ({"use_score": True}, ValueError, "use_score must be False without experts, got True"),
    ({"gather": False}, ValueError, "gather must be True without experts, got False"),
    ({"routes": ((0,),)}, ValueError, "routes must be None without experts"),
    ({"experts": 2, "routes": ((0,),)}, ValueError, "routes must list the tokens of 2 experts, got 1"),
    ({"experts": 2, "routes": ((), ())}, ValueError, "routes must hold one token at least"),
    ({"experts": 2, "routes": ((1, 1), ())}, ValueError, "routes of expert 0 must name a token once"),
    ({"experts": 2, "routes": ((0,), (0,))}, ValueError, "routes must send a token to at most 1 experts, got 2"),
    ({"experts": 2, "routes": ((7,), (0,))}, ValueError, "token of expert 0 must be 0..3, got 7"),
    ({"experts": 2, "routes": 5}, TypeError, "routes must be a tuple of tokens for each expert, got 5"),
    ({"narrow": 1}, TypeError, "narrow must be true or false, got 1"),
    ({"colour": 1}, ValueError, "unknown job field 'colour'"),
])
def test_jobs_that_are_refused(change, kind, message):
    with pytest.raises(kind, match=message):
        SMALL.job(**{"m": 4, "k": 8, "n": 4} | change)


@pytest.mark.parametrize("option", ["gelu", "narrow", "score"])
def test_options_that_a_build_lacks(option):
    build = MoeLinear(**vars(SMALL) | {option: False})
    name = "use_score" if option == "score" else option
    with pytest.raises(ValueError, match=f"{name} must be false on a build without it, got True"):
        build.job(m=4, k=8, n=4, experts=2, **{name: True})


def test_one_group_of_one_step_by_hand():
    """The expert is known in 3. Stream: header 4, 5, weights 6, 7; the first group waits until they can be read: step in 9.
    Queue: pairs asked for in 4 and 5, offered 6 later, taken in 11: step in 12. Behind a step: buffer 2, operands 1, cascade
    12, then a cycle a beat (two tokens of two beats), 13 to a result without GELU, scores, int8; 2 to the completion."""
    build = MoeLinear(**vars(SMALL) | {"gelu": False, "score": False, "narrow": False, "max_experts": 1, "max_top_k": 1})
    assert build.cycles(build.job(m=2, k=8, n=4)) == 12 + 15 + 4 + 13 + 2
    assert build.cycles(build.job(m=1, k=8, n=4)) == 11 + 15 + 2 + 13 + 2
    assert build.cycles_back_to_back(build.job(m=1, k=8, n=4)) == build.cycles(build.job(m=1, k=8, n=4)) - 1
    # 32 more groups of three steps each, nothing between them.
    wide = MoeLinear(**vars(build) | {"max_m": 66})
    long, short = (wide.cycles(wide.job(m=m, k=24, n=4)) for m in (66, 2))
    assert long - short <= 32 * 4 + 4 and long >= 33 * 4


def round_even(value, shift):
    """round_half_even(value / 2**shift) of a Python integer."""
    whole, rest = divmod(value, 1 << shift)
    return whole + (2 * rest > 1 << shift or (2 * rest == 1 << shift and whole % 2))


def by_loops(job, operands):
    """What golden must give, in Python integers, pair by pair."""
    pairs = [(e, t) for e, tokens in enumerate(job.routes) for t in tokens] if job.queued else [(0, t) for t in range(job.m)]
    y, saturated = np.zeros((job.y_rows, job.n), np.int64), 0
    left = [sum(t == token for _, t in pairs) for token in range(job.m)]

    def clamp(value, high, low=None):
        nonlocal saturated
        limited = max(-high - 1 if low is None else low, min(high, value))
        saturated += limited != value
        return limited

    for place, (expert, token) in enumerate(pairs):
        row, left[token] = token if job.gather else place, left[token] - 1
        for n in range(job.n):
            acc = sum(int(a) * int(b) for a, b in zip(operands["x"][row], operands["w"][expert][n], strict=True))
            factor = int(operands["w_scale"][expert][n]) * int(operands["x_scale"][row])
            z = clamp(round_even(acc * factor, job.shift) + int(operands["bias"][expert][n]), (1 << 31) - 1)
            if job.gelu:
                z = int(gelu(z))
            at = token if job.use_score or not job.queued else place
            if job.use_score:
                z = clamp(int(y[at, n]) + round_even(z * int(operands["score"][place]), 15), (1 << 31) - 1)
            if job.narrow and (left[token] == 0 or not job.use_score):
                z = clamp(round_even(z * job.out_multiplier, job.out_shift), 127, -127)
            y[at, n] = z
    return y, saturated


def test_golden_against_loops():
    rng, seen, kinds = np.random.default_rng(3), 0, set()
    for _ in range(60):
        job = SMALL.draw_job(rng)
        operands = draw_operands(SMALL, job, rng)
        want, saturated = by_loops(job, operands)
        have = results(SMALL, job, operands)
        assert (have["y"] == want).all() and have["saturated"] == saturated, job
        seen += saturated
        kinds.add((job.queued, job.use_score, job.gelu, job.narrow))
    assert seen > 0 and len(kinds) >= 8


def test_the_stream_word_by_word():
    job = SMALL.job(m=3, k=10, n=5, experts=3, top_k=1, routes=((), (0, 2), (1,)))
    operands = draw_operands(SMALL, job, np.random.default_rng(0))
    image = pack(SMALL, job, operands)
    # Two experts, two tiles: a header of 24 bytes in 2 beats, two words of 2 beats.
    stream = image.streams["w"]
    assert stream.shape == (2 * 2 * (2 + 2 * 2), 16) and len(stream) == SMALL.beats("w", job)
    second = stream[10:12].view(np.int8).reshape(-1)
    assert (second[:2] == operands["w"][1][4][8:10]).all() and not second[2:].any()
    header = stream[12:14].reshape(-1)
    assert int.from_bytes(header[6:8].tobytes(), "little") == operands["w_scale"][2][1]
    assert int.from_bytes(header[8:12].tobytes(), "little", signed=True) == operands["bias"][2][1]
    pairs = [PAIR_WORD.from_bytes(word) for word in image.buffers["queue"]]
    assert [pair["token"] for pair in pairs] == [0, 2, 1] and all(pair["first"] and pair["last"] for pair in pairs)
    experts = [EXPERT_WORD.from_bytes(word) for word in image.buffers["expert"]]
    assert [tuple(word.values()) for word in experts] == [(1, 2, 0), (2, 1, 1)]
    back = unpack_weights(SMALL, job, stream)
    assert all((back[name][[1, 2]] == operands[name][[1, 2]]).all() for name in ("w", "w_scale", "bias"))
    damaged = stream.copy()
    damaged[11, 15] = 1  # a column beyond k
    with pytest.raises(ValueError, match="bytes that no weights pack to"):
        unpack_weights(SMALL, job, damaged)


@pytest.mark.parametrize("change, message", [
    ({"w": np.zeros((1, 4, 7), np.int8)}, r"w must be int8 \[1, 4, 8\]"),
    ({"w_scale": np.full((1, 4), 65536)}, "w_scale must be 0..65535"),
    ({"x": np.zeros((4, 8), np.int16)}, r"x must be int8 \[4, 8\]"),
    ({"bias": np.zeros((1, 4))}, r"bias must be integers \[1, 4\]"),
])
def test_operands_that_are_refused(change, message):
    job = SMALL.job(m=4, k=8, n=4)
    with pytest.raises(ValueError, match=message):
        pack(SMALL, job, draw_operands(SMALL, job, np.random.default_rng(0)) | change)


def test_results_that_are_refused():
    job = SMALL.job(m=1, k=8, n=3)
    good = {"row": np.array([0, 2]), "token": np.array([0, 0]), "data": np.array([[1, 2], [3, 0]])}
    assert collect(SMALL, job, good).tolist() == [[1, 2, 3]]
    for change, message in (({"data": np.array([[1, 2], [3, 4]])}, "padding"), ({"token": np.array([0, 1])}, "outside"),
                            ({"row": np.array([0, 0])}, "once")):
        with pytest.raises(ValueError, match=message):
            collect(SMALL, job, good | change)


def test_tokens_without_an_expert_are_not_sent():
    job = SMALL.job(m=4, k=8, n=4, experts=2, routes=((1,), (3,)), use_score=True)
    assert job.emitted == 2 and SMALL.beats("y", job) == 4
    with pytest.raises(ValueError, match="stream must be w or y, got 'k'"):
        SMALL.beats("k", job)


def test_default_routes_are_uneven_and_whole():
    routes = default_routes(129, 16, 2)
    counts = list(map(len, routes))
    assert sum(counts) == 258 and max(counts) > 3 * min(counts)
    assert all(sum(token in tokens for tokens in routes) == 2 for token in range(129))
    assert SMALL.job(m=8, k=8, n=4, experts=4, top_k=2).routes == default_routes(8, 4, 2)


@pytest.mark.parametrize("beat_bytes", [16, 64])
@pytest.mark.parametrize("k, n, last", [(192, 384, False), (384, 192, True)])
def test_m3vit_layers_take_what_memory_or_multipliers_take(beat_bytes, k, n, last):
    build = MoeLinear(tokens=4, rows=16, lanes=32, beat_bytes=beat_bytes, max_m=129, score_n=192)
    job = build.job(m=129, k=k, n=n, experts=16, top_k=2, use_score=last)
    bound = max(build.compute_cycles(job), len(job.used) * n * k / beat_bytes)
    assert bound <= build.cycles(job) <= 1.05 * bound
