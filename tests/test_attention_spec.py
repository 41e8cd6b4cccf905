"""The attention engine's builds and jobs: what is refused, in which words; its schedule, by hand and against an event model."""

import dataclasses

import numpy as np
import pytest

from sparseloom.models.spec.attention import SCORES, Attention
from sparseloom.models.spec.attention_cycles import FIRST_STEP, PHASES, key_times, lists, result_latency

BUILD = Attention(p=2, d_lanes=4, max_queries=8, max_keys=50, max_d=12, max_heads=4, block_sparse=True)


@pytest.mark.parametrize("values, error, message", [
    ({"p": 0}, ValueError, "p must be 1..16, got 0"),
    ({"p": 17}, ValueError, "p must be 1..16, got 17"),
    ({"p": 2.5}, TypeError, "p must be an integer, got 2.5"),
    ({"d_lanes": 3}, ValueError, "d_lanes must be 4..128, got 3"),
    ({"d_lanes": 129}, ValueError, "d_lanes must be 4..128, got 129"),
    ({"score": "softmax"}, ValueError, "score must be one of online, two_pass, shiftmax, sigmoid, got 'softmax'"),
    ({"bits": 12}, ValueError, "bits must be one of 8, 16, got 12"),
    ({"bits": 8.0}, TypeError, "bits must be an integer, got 8.0"),
    ({"score": "shiftmax", "bits": 16}, ValueError, "bits must be 8 with score shiftmax, got 16"),
    ({"max_queries": 0}, ValueError, "max_queries must be 1..1048576, got 0"),
    ({"max_keys": (1 << 20) + 1}, ValueError, "max_keys must be 1..1048576, got 1048577"),
    ({"max_keys": (1 << 16) + 1, "bits": 16}, ValueError, "max_keys must be 1..65536, got 65537"),
    ({"max_keys": (1 << 15) + 1, "score": "two_pass"}, ValueError, "max_keys must be 1..32768, got 32769"),
    ({"max_keys": (1 << 15) + 1, "score": "shiftmax"}, ValueError, "max_keys must be 1..32768, got 32769"),
    ({"max_d": 1025}, ValueError, "max_d must be 1..1024, got 1025"),
    ({"max_heads": 257}, ValueError, "max_heads must be 1..256, got 257"),
    ({"block_sparse": 1}, TypeError, "block_sparse must be true or false, got 1"),
    ({"block_sparse": True, "score": "two_pass"}, ValueError, "block_sparse must be false with score two_pass, got True"),
    ({"read_latency": 5}, ValueError, "read_latency must be 2..4, got 5"),
    ({"target": "dsp48e2"}, ValueError, "target must be one of portable, got 'dsp48e2'"),
])
def test_impossible_builds(values, error, message):
    with pytest.raises(error) as caught:
        Attention(**values)
    assert type(caught.value) is error and str(caught.value) == message


@pytest.mark.parametrize("values, error, message", [
    ({"queries": None}, TypeError, "queries must be an integer, got None"),
    ({"queries": 9}, ValueError, "queries must be 1..8, got 9"),
    ({"keys": 0}, ValueError, "keys must be 1..50, got 0"),
    ({"d": 13}, ValueError, "d must be 1..12, got 13"),
    ({"heads": 5}, ValueError, "heads must be 1..4, got 5"),
    ({"heads": 3, "kv_heads": 2}, ValueError, "kv_heads must divide heads (3), got 2"),
    ({"kv_heads": 2}, ValueError, "kv_heads must be 1..1, got 2"),
    ({"causal": 1}, TypeError, "causal must be true or false, got 1"),
    ({"window": 3}, ValueError, "window must be 0 without causal, got 3"),
    ({"causal": True, "window": 51}, ValueError, "window must be 0..50, got 51"),
    ({"shift": 16}, ValueError, "shift must be 17..63, got 16"),
    ({"fraction": 13}, ValueError, "fraction must be 0..12, got 13"),
    ({"bias": 1 << 19}, ValueError, "bias must be -524288..524287, got 524288"),
    ({"unit": 0}, ValueError, "unit must be 1..1023, got 0"),
    ({"multiplier": (1 << 31) + 1}, ValueError, "multiplier must be 1..2147483648, got 2147483649"),
    ({"out_shift": 64}, ValueError, "out_shift must be 17..63, got 64"),
    ({"tag": 256}, ValueError, "tag must be 0..255, got 256"),
    ({"block": 8}, ValueError, "block must be one of 0, 16, 32, 64, 128, got 8"),
    ({"blocks": ((0,),)}, ValueError, "blocks must be absent without block"),
    ({"block": 16, "causal": True}, ValueError, "block must be 0 with causal, got 16"),
    ({"block": 16, "blocks": 3}, TypeError, "blocks must be groups of block numbers, got 3"),
    ({"block": 16, "blocks": ((0,),)}, ValueError, "blocks must list 2 groups of 2 queries, got 1"),
    ({"block": 16, "blocks": ((0,), ())}, ValueError, "blocks of group 1 must hold one block at least"),
    ({"block": 16, "blocks": ((0,), (2,))}, ValueError, "block of group 1 must be 0..1, got 2"),
    ({"block": 16, "blocks": ((1, 0), (0,))}, ValueError, "blocks of group 0 must ascend, got 0 after 1"),
    ({"sparse": 1}, ValueError,
     "unknown job field 'sparse'; fields are bias, block, blocks, causal, d, first, fraction, heads, keys, kv_heads, last, "
     "multiplier, out_multiplier, out_shift, queries, shift, tag, unit, window"),
])
def test_impossible_jobs(values, error, message):
    with pytest.raises(error) as caught:
        BUILD.job(**{"queries": 4, "keys": 20, "d": 4} | values)
    assert type(caught.value) is error and str(caught.value) == message


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="job field d is missing"):
        BUILD.job(queries=1, keys=1)
    with pytest.raises(ValueError, match="block must be 0 in a build without block_sparse, got 16"):
        Attention().job(queries=1, keys=1, d=1, block=16)
    with pytest.raises(ValueError, match="stream must be k, v or y, got 'q'"):
        BUILD.beats("q", BUILD.job(queries=1, keys=1, d=1))


def test_jobs_are_plain_and_complete():
    job = BUILD.job(queries=np.int64(3), keys=20, d=4, heads=2, block=16, blocks=[[np.int32(1)], [0, 1]])
    assert job.blocks == ((1,), (0, 1)) and type(job.queries) is int and job.kv_heads == 2 and hash(job)
    assert BUILD.job(queries=3, keys=50, d=4, block=16).blocks == ((0, 2), (0, 2))
    assert BUILD.resized(job, keys=50).blocks == ((0, 2), (0, 2))


@pytest.mark.parametrize("score", SCORES)
def test_every_field_of_a_job_record_holds_its_largest_value(score):
    once = PHASES[score] == 1
    build = Attention(score=score, d_lanes=4, max_queries=1 << 20, max_keys=1 << (20 if once else 15), max_heads=256, max_d=1024,
                      block_sparse=once)
    job = dataclasses.replace(build.largest_job(), tag=255, shift=63, fraction=12, unit=1023, multiplier=1 << 31,
                              out_multiplier=1 << 31, out_shift=63, bias=-(1 << 19), window=build.max_keys, causal=True)
    values = build.job_values(job)
    assert build.job_record.decode(build.job_record.encode(values)) == values
    assert values["chunks"] == 256 and values["heads"] == 256 and values["queries"] == 1 << 20
    for override in build.illegal_values():
        build.job_record.encode(values | override)


def test_widths():
    """By hand: 64 elements, products of 2**14; 1024 keys of weights 2**15 and values of 2**7."""
    build = Attention()
    assert build.dot_peak == 64 << 14 and build.acc_peak == 1 << 32 and build.acc_width == 34 and build.sum_width == 26
    assert Attention(bits=16).acc_peak == 1 << 40 and Attention(score="shiftmax").acc_peak == 1024 * 511 << 7
    assert Attention(score="shiftmax", max_keys=64).acc_width == 24
    assert build.beat_record.bytes == 16 + 2 and Attention(bits=16).beat_record.bytes == 32 + 2
    longest = Attention(bits=16, max_keys=1 << 16)
    assert longest.acc_peak * ((1 << 17) - 1) < 1 << 63  # the golden model's products


def test_cycles_by_hand():
    """First step in cycle 12; buffer 2, tree and its ends 3 + 2, scale 6; weight 5 + 7; values and reciprocal 2 + 10, scale 6,
    queue 1; the last beat a chunk - 1 later, completion 3 later."""
    build = Attention(p=2, d_lanes=4, max_queries=8, max_keys=50, max_d=12, max_heads=4)
    behind = 2 + 5 + 6 + 12 + 12 + 6 + 1
    assert (FIRST_STEP, result_latency(build)) == (12, behind)
    one = build.job(queries=1, keys=1, d=4)
    assert build.cycles(one) == 12 + 1 - 1 + behind + 3 == 59 and build.cycles_back_to_back(one) == 58
    # Three groups of 2, 2 and 1 queries, 7 keys each of 3 chunks, 2 heads; no drain behind a lone query.
    assert build.cycles(build.job(queries=5, keys=7, d=9, heads=2)) == 12 + 2 * 3 * 7 * 3 - 1 + behind + 2 + 3
    # Two groups of 2: a key-time of drain a head.
    assert build.cycles(build.job(queries=4, keys=7, d=9, heads=2)) == 12 + 2 * (2 * 7 + 1) * 3 - 1 + behind + 2 + 3
    # One key for two queries: a round lasts two key-times.
    assert build.cycles(build.job(queries=4, keys=1, d=4)) == 12 + (2 * 2 + 1) - 1 + behind + 3
    # Causal, as many keys as queries: 2, 4 and 6 keys.
    assert build.cycles(build.job(queries=6, keys=6, d=4, causal=True)) == 12 + 12 + 1 - 1 + behind + 3
    # A window of 2: 2, 3 and 3 keys.
    assert build.cycles(build.job(queries=6, keys=6, d=4, causal=True, window=2)) == 12 + 8 + 1 - 1 + behind + 3
    # Blocks of 16, 16 and 2 keys; the list takes its buffer's latency and 4 more to begin with.
    listed = BUILD.job(queries=4, keys=34, d=4, block=16, blocks=((0, 2), (1,)))
    assert BUILD.cycles(listed) == 12 + 6 + 18 + 16 + 1 - 1 + behind + 3
    # Values a round behind their scores, or two.
    two = dataclasses.replace(build, score="two_pass")
    assert key_times(two, two.job(queries=5, keys=7, d=9)) == 4 * 7
    assert key_times(two, two.job(queries=6, keys=6, d=9, causal=True)) == 2 + 4 + 6 + 6 + 1
    three = dataclasses.replace(build, score="shiftmax")
    assert key_times(three, three.job(queries=6, keys=6, d=9, causal=True)) == 2 + 4 + 6 + 6 + 6 + 1


def test_the_published_schedule():
    """Edge-MoE's reordered attention: ceil(Q / p) * N + (Q - 1) mod p key-times a head; the rest is a build's constant."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        p, lanes = int(rng.integers(1, 9)), int(rng.integers(4, 20))
        build = Attention(p=p, d_lanes=lanes, max_queries=300, max_keys=300, max_d=4 * lanes, max_heads=4)
        constants = set()
        for _ in range(4):
            q, n, d, heads = (int(rng.integers(low, high)) for low, high in ((1, 300), (p, 300), (1, 4 * lanes), (1, 5)))
            chunks = -(-d // lanes)
            steps = heads * (-(-q // p) * n + (q - 1) % p) * chunks
            constants.add(build.cycles(build.job(queries=q, keys=n, d=d, heads=heads)) - steps - chunks)
        assert constants == {FIRST_STEP + result_latency(build) + 1}
    build = Attention(p=4, d_lanes=8, max_queries=129, max_keys=129, max_d=64, max_heads=3)
    published = (-(-129 // 4) * 129 + (129 + 3) % 4) * 192 // 8
    assert published == 102_168
    assert build.cycles(build.job(queries=129, keys=129, d=64, heads=3)) - published == 12 + 8 + result_latency(build) + 1


def slots(build, job):
    """An event model: (key-time, slot, query, key) of every score, (key-time, query) of every result, key-times in all."""
    groups, phases = build.groups(job), PHASES[build.score]
    keys = [[key for part in chosen for key in part] for chosen in lists(build, job)]
    scores, results, begin = [], [], 0
    for index in range(groups + phases - 1):
        busy = [keys[group] for group in range(index - phases + 1, index + 1) if 0 <= group < groups]
        length = max(min(build.p, job.queries), *map(len, busy))
        rows = range(index * build.p, min(job.queries, (index + 1) * build.p)) if index < groups else ()
        for slot, query in enumerate(rows):
            scores += [(begin + slot + at, slot, query, key) for at, key in enumerate(keys[index])]
        leaving = index - phases + 1
        if leaving >= 0:
            for slot, query in enumerate(range(leaving * build.p, min(job.queries, (leaving + 1) * build.p))):
                results.append((begin + length - 1 + slot, query))
        begin += length
    return scores, results, max(time for time, _ in results) + 1


@pytest.mark.parametrize("seed", range(60))
def test_schedule_against_events(seed):
    """Every pair once, a slot never does two things at once, results leave one a key-time and in order, the closed form is their
    time."""
    rng = np.random.default_rng(seed)
    build = Attention.draw_build(rng)
    job = build.draw_job(rng)
    scores, results, total = slots(build, job)
    assert total == key_times(build, job)
    assert len({(time, slot) for time, slot, _, _ in scores}) == len(scores) == len({pair[2:] for pair in scores})
    assert [query for _, query in sorted(results)] == list(range(job.queries))
    assert len({time for time, _ in results}) == len(results)
    # A key is streamed once for a group: all its slots use it in their turn.
    assert len({(time - slot) for time, slot, _, _ in scores}) * job.heads * build.chunks(job) == build.beats("k", job)


@pytest.mark.parametrize("seed", range(40))
def test_streamed_keys_are_those_that_are_seen(seed):
    from sparseloom.models.golden.attention import visible

    rng = np.random.default_rng(seed)
    build = Attention.draw_build(rng)
    job = build.draw_job(rng)
    seen = visible(build, job)
    assert seen.sum() == build.pairs(job)
    for group, chosen in enumerate(lists(build, job)):
        wanted = np.flatnonzero(seen[group * build.p : (group + 1) * build.p].any(axis=0))
        assert [key for part in chosen for key in part] == wanted.tolist()


def test_useful_fraction():
    job = BUILD.job(queries=4, keys=6, d=6, causal=True)
    # Four queries see 3, 4, 5 and 6 keys; 4 lanes of two slots; groups stream 4 and 6 keys of two beats.
    parts = BUILD.useful_fraction(job, 100)
    assert parts["compute"] == 18 * 6 / 8 / 100 and parts["stream"] == 10 * (48 + 16) / 48 / 100
    assert parts["useful"] == max(parts["compute"], parts["stream"])
