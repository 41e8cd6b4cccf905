"""The MoE gate: what is refused, golden against slow loops, ties, null experts, tasks, closed forms by hand."""

from fractions import Fraction

import numpy as np
import pytest

from sparseloom.models.formats.engines import Image, collect, pack
from sparseloom.models.formats.moe_gate_stream import pack as pack_logits
from sparseloom.models.golden.functions import exp2_neg, reciprocal
from sparseloom.models.golden.moe_gate import convert, draw_operands, gate, results
from sparseloom.models.spec.engine import Status
from sparseloom.models.spec.moe_gate import MoeGate
from sparseloom.models.spec.moe_linear_job import EXPERT_WORD, PAIR_WORD
from sparseloom.sim.conformance import draw_builds

BUILD = MoeGate(max_m=6, max_experts=8, max_top_k=3, max_tasks=2)
PAIR = ("expert", "token", "score", "first", "last", "null")


@pytest.mark.parametrize("values, error, message", [
    ({"max_m": 0}, ValueError, "max_m must be 1..4096, got 0"),
    ({"max_m": 4097}, ValueError, "max_m must be 1..4096, got 4097"),
    ({"max_experts": 1}, ValueError, "max_experts must be 2..64, got 1"),
    ({"max_experts": 65}, ValueError, "max_experts must be 2..64, got 65"),
    ({"max_experts": 8.0}, TypeError, "max_experts must be an integer, got 8.0"),
    ({"max_top_k": 9}, ValueError, "max_top_k must be 1..8, got 9"),
    ({"max_experts": 2, "max_top_k": 3}, ValueError, "max_top_k must be at most max_experts (2), got 3"),
    ({"max_tasks": 0}, ValueError, "max_tasks must be 1..16, got 0"),
    ({"read_latency": 5}, ValueError, "read_latency must be 2..4, got 5"),
])
def test_impossible_builds(values, error, message):
    with pytest.raises(error) as caught:
        MoeGate(**values)
    assert type(caught.value) is error and str(caught.value) == message


@pytest.mark.parametrize("shape, error, message", [
    ({"m": 1}, ValueError, "job field experts is missing"),
    ({"m": 1, "experts": 2, "k": 1}, ValueError, "unknown job field 'k'; fields are experts, first, last, m, multiplier, nulls, "
                                                 "renormalise, shift, tag, task, top_k"),
    ({"m": 7, "experts": 2}, ValueError, "m must be 1..6, got 7"),
    ({"m": 0, "experts": 2}, ValueError, "m must be 1..6, got 0"),
    ({"m": 1, "experts": 9}, ValueError, "experts must be 1..8, got 9"),
    ({"m": 1, "experts": True}, TypeError, "experts must be an integer, got True"),
    ({"m": 1, "experts": 8, "top_k": 4}, ValueError, "top_k must be 1..3, got 4"),
    ({"m": 1, "experts": 2, "top_k": 3}, ValueError, "top_k must be at most experts (2), got 3"),
    ({"m": 1, "experts": 2, "task": 2}, ValueError, "task must be 0..1, got 2"),
    ({"m": 1, "experts": 2, "nulls": 2}, ValueError, "nulls must be 0..1, got 2"),
    ({"m": 1, "experts": 2, "multiplier": 65536}, ValueError, "multiplier must be 0..65535, got 65536"),
    ({"m": 1, "experts": 2, "shift": 48}, ValueError, "shift must be 0..47, got 48"),
    ({"m": 1, "experts": 2, "renormalise": 1}, TypeError, "renormalise must be true or false, got 1"),
])
def test_illegal_jobs(shape, error, message):
    with pytest.raises(error) as caught:
        BUILD.job(**shape)
    assert type(caught.value) is error and str(caught.value) == message


def test_records_hold_every_legal_value():
    rng = np.random.default_rng(1)
    for build in BUILD, MoeGate(max_m=4096, max_experts=64, max_top_k=8, max_tasks=16):
        for job in [build.largest_job(), *(build.draw_job(rng) for _ in range(50))]:
            values = build.job_values(job)
            assert build.job_record.decode(build.job_record.encode(values)) == values
            assert values["base"] + job.m * job.experts <= build.words
        usual = build.job_values(build.job(m=1, experts=1))
        for values in build.illegal_values():
            build.job_record.encode(usual | values)
        # The widths of the completion hold the largest counts.
        build.done_record.encode(dict.fromkeys((f.name for f in build.done_record.fields), 0)
                                 | {"pairs": build.max_pairs, "used": build.max_experts})
    with pytest.raises(ValueError, match="stream must be pair or expert, got 'y'"):
        BUILD.beats("y", BUILD.job(m=1, experts=1))


def test_pairs_and_list_are_what_the_linear_engine_reads():
    pair, expert = (stream.record for stream in BUILD.outputs)
    widths = {field.name: field.width for field in pair.fields}
    assert all(widths[field.name] == field.width for field in PAIR_WORD.fields)
    assert [(field.name, field.width) for field in expert.fields] == [(field.name, field.width) for field in EXPERT_WORD.fields]


def test_logits_lie_task_by_task():
    job = BUILD.job(m=2, experts=3, task=1)
    logits = np.arange(-6, 6, dtype=np.int32).reshape(2, 2, 3)
    streams, buffers = pack_logits(BUILD, job, {"logits": logits})
    assert streams == {} and (buffers["logit"].view("<i4")[:, 0] == np.arange(-6, 6)).all()
    assert BUILD.job_values(job)["base"] == 6
    with pytest.raises(ValueError, match=r"logits must be int32 \[2, 2, 3\], got int32 \[1, 2, 3\]"):
        pack_logits(BUILD, job, {"logits": logits[:1]})


# Golden ---------------------------------------------------------------------------------------------------------------
def slow(job, logits):
    """The definition in loops over Python's integers and fractions."""
    peak, clamped, pairs = 1 << 19, 0, []
    real = job.experts - job.nulls
    for token, row in enumerate(logits.tolist()):
        t = []
        for logit in row:
            value = round(Fraction(logit * job.multiplier, 1 << job.shift))
            t.append(max(-peak, min(peak - 1, value)))
            clamped += t[-1] != value
        chosen = []
        for _ in range(job.top_k):
            best = None
            for expert in range(job.experts):
                if expert not in chosen and (best is None or row[expert] > row[best]):
                    best = expert
            chosen.append(best)
        e = [int(exp2_neg(max(t) - value)) for value in t]
        total = sum(e[expert] for expert in (chosen if job.renormalise else range(job.experts))
                    if not job.renormalise or expert < real)
        mantissa, shift = (int(part) for part in reciprocal(total))
        mine = [expert for expert in chosen if expert < real]
        for expert in chosen:
            score = round(Fraction(e[expert] * mantissa, 1 << max(shift - 15, 0))) if expert < real else 0
            pairs.append((expert, token, score, int(bool(mine) and expert == min(mine)),
                          int(bool(mine) and expert == max(mine)), int(expert >= real)))
    pairs.sort(key=lambda pair: pair[0])  # stable: tokens stay in order
    used = [(expert, sum(pair[0] == expert for pair in pairs)) for expert in range(real)]
    used = [pair for pair in used if pair[1]]
    queue = [(expert, count, int(at == len(used) - 1)) for at, (expert, count) in enumerate(used)]
    return pairs, queue + [(0, 0, 0)] * (job.experts - len(queue)), clamped


def test_golden_is_the_definition():
    rng, seen = np.random.default_rng(2), set()
    for build in draw_builds(MoeGate, 6, seed=3):
        for job in [build.largest_job(), *(build.draw_job(rng) for _ in range(25))]:
            operands = draw_operands(build, job, rng)
            got = results(build, job, operands)
            pairs, queue, clamped = slow(job, operands["logits"][job.task])
            assert list(zip(*(got[name].tolist() for name in PAIR), strict=True)) == pairs, job
            assert [tuple(row) for row in got["queue"].tolist()] == queue and got["saturated"] == clamped
            seen |= {name for name in ("nulls", "renormalise", "task") if getattr(job, name)}
            seen |= {"clamped"} if clamped else set()
    assert seen == {"nulls", "renormalise", "task", "clamped"}


def chosen(logits, **shape):
    build = MoeGate(max_m=8, max_experts=8, max_top_k=8)
    logits = np.array(logits, np.int32)
    return gate(build.job(m=len(logits), experts=logits.shape[1], **shape), logits)


@pytest.mark.parametrize("row, top_k, experts", [
    ([5, 5, 5, 5], 2, [0, 1]), ([5, 5, 5, 5], 4, [0, 1, 2, 3]), ([1, 7, 3, 7, 7], 2, [1, 3]), ([7, 1, 7, 9, 9], 3, [3, 4, 0]),
    ([-(1 << 31)] * 3, 2, [0, 1]), ([(1 << 31) - 1, -(1 << 31), (1 << 31) - 1], 3, [0, 2, 1]), ([4], 1, [0]),
])
def test_the_lowest_number_wins_ties(row, top_k, experts):
    assert chosen([row], top_k=top_k)[0].tolist() == [experts]


def test_ties_are_of_logits_not_of_their_log2_units():
    """1 and 2 are the same after the shift; the larger logit still wins."""
    experts, scores, _ = chosen([[1, 2, 0]], top_k=2, shift=4)
    assert experts.tolist() == [[1, 0]] and scores[0, 0] == scores[0, 1]


def test_equal_logits_share_evenly():
    _, scores, _ = chosen([[3] * 8], top_k=8)
    assert scores.tolist() == [[1 << 12] * 8]
    _, scores, _ = chosen([[3] * 8], top_k=2)
    assert scores.tolist() == [[1 << 12] * 2]
    _, scores, _ = chosen([[3] * 8], top_k=2, renormalise=True)
    assert scores.tolist() == [[1 << 14] * 2]


def test_scores_are_a_softmax():
    rng = np.random.default_rng(4)
    job = MoeGate(max_m=4096).job(m=4096, experts=16, top_k=2, multiplier=23637, shift=14)  # log2(e), 10 fraction bits of logits
    logits = rng.normal(0, 2048, (4096, 16)).astype(np.int32)
    experts, scores, clamped = gate(job, logits)
    soft = np.exp(logits / 1024 - logits.max(axis=1, keepdims=True) / 1024)
    soft /= soft.sum(axis=1, keepdims=True)
    assert clamped == 0 and np.abs(scores / 32768 - np.take_along_axis(soft, experts, axis=1)).max() < 5e-4


def test_null_experts_are_chosen_and_have_no_work():
    logits = [[0, 9, 1, 8], [5, 0, 6, 0], [0, 0, 7, 7]]
    experts, scores, _ = chosen(logits, top_k=2, nulls=2, renormalise=True, multiplier=1024)
    assert experts.tolist() == [[1, 3], [2, 0], [2, 3]]
    assert scores.tolist() == [[1 << 15, 0], [0, 1 << 15], [0, 0]]
    _, full, _ = chosen(logits, top_k=2, nulls=2, multiplier=1024)
    # Not renormalised the sum is over all: 2**-1 + 1 + 2**-6 + 2**-6 for the second token.
    assert abs(full[1, 1] / 32768 - 0.5 / (0.5 + 1 + 2 * 2**-6)) < 1e-4
    build = MoeGate(max_m=8, max_experts=8, max_top_k=8)
    job = build.job(m=3, experts=4, top_k=2, nulls=2)
    got = results(build, job, {"logits": np.array([logits], np.int32)})
    assert got["expert"].tolist() == [0, 1, 2, 2, 3, 3] and got["token"].tolist() == [1, 0, 1, 2, 0, 2]
    assert got["null"].tolist() == [0, 0, 1, 1, 1, 1]
    assert got["first"].tolist() == got["last"].tolist() == [1, 1, 0, 0, 0, 0]
    assert got["queue"].tolist() == [[0, 1, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0]]


def test_logits_beyond_512_are_clamped_and_counted():
    job = BUILD.job(m=1, experts=3, multiplier=1)
    t, clamped = convert(job, np.array([[1 << 19, (1 << 19) - 1, -(1 << 19) - 1]]))
    assert t.tolist() == [[(1 << 19) - 1, (1 << 19) - 1, -(1 << 19)]] and clamped == 2
    half = convert(BUILD.job(m=1, experts=4, multiplier=1, shift=1), np.array([[1, 3, -1, -3]]))[0]
    assert half.tolist() == [[0, 2, 0, -2]]


# Cycles ---------------------------------------------------------------------------------------------------------------
def test_cycles_by_hand():
    """Request 1 in cycle 3. A word comes 2 cycles later, its t 6 later, the choice is registered; then the exponentials: a
    register and 7, the sum, 10 for the reciprocal, a register, a score a cycle, 6 for each. Then two passes over the experts
    and two over the pairs, and 9."""
    assert BUILD.cycles(BUILD.job(m=1, experts=1)) == 3 + 2 + 6 + 1 + (1 + 1) + 8 + 11 + 1 + 6 + 2 * (1 + 1) + 5 == 49
    build = MoeGate()
    job = build.job(m=129, experts=16, top_k=2)
    reads = 3 + 128 * (16 + 2) + 15
    assert build.cycles(job) == reads + 2 + 6 + 1 + 18 + 8 + 11 + 2 + 6 + 2 * (16 + 258) + 5 == 2_929
    assert build.cycles_back_to_back(job) == 2_928
    slower = MoeGate(read_latency=4)
    assert slower.cycles(job) == build.cycles(job) + 2


def test_a_token_costs_its_experts_its_choice_and_two_moves():
    build = MoeGate(max_experts=64, max_top_k=8)
    for experts, top_k in ((1, 1), (16, 2), (64, 8)):
        few, many = (build.cycles(build.job(m=m, experts=experts, top_k=top_k)) for m in (10, 110))
        assert many - few == 100 * (experts + top_k + 2 * top_k)


def test_cycles_do_not_depend_on_numbers_or_the_task():
    job = BUILD.job(m=6, experts=8, top_k=2)
    for change in ({"task": 1}, {"nulls": 7}, {"renormalise": True}, {"multiplier": 9}, {"shift": 3}):
        assert BUILD.cycles(BUILD.resized(job, **change)) == BUILD.cycles(job)


# Gates ----------------------------------------------------------------------------------------------------------------
@pytest.mark.rtl
def test_a_switch_of_task_costs_nothing_on_the_gates():
    """Tasks in turn take what one task takes, back to back, to the cycle; and each has its own gate's choice."""
    from sparseloom.sim.pysim import PySimulator
    from sparseloom.sim.runner import Work

    rng = np.random.default_rng(5)
    logits = rng.integers(-4000, 4000, (2, 6, 8)).astype(np.int32)

    def run(tasks):
        jobs = [BUILD.job(m=6, experts=8, top_k=2, task=task, multiplier=1) for task in tasks]
        operands = [{"logits": logits[: job.task + 1]} for job in jobs]
        works = [Work(job, pack(BUILD, job, mine)) for job, mine in zip(jobs, operands, strict=True)]
        receipts = PySimulator(BUILD).run(works, back_to_back=True)
        got = [collect(BUILD, job, receipt.outputs) for job, receipt in zip(jobs, receipts, strict=True)]
        for job, mine, one in zip(jobs, operands, got, strict=True):
            want = results(BUILD, job, mine)
            assert all((one[name] == want[name]).all() for name in one)
        return [receipt.cycles for receipt in receipts], got

    same, first = run([0, 0, 0, 0])
    turns, both = run([0, 1, 0, 1])
    assert turns == same == [BUILD.cycles(BUILD.job(m=6, experts=8, top_k=2))] + [same[0] - 1] * 3
    assert (both[2]["expert"] == first[0]["expert"]).all() and (both[1]["expert"] != first[0]["expert"]).any()


@pytest.mark.rtl
def test_completions_count_pairs_and_experts():
    from sparseloom.sim.pysim import PySimulator
    from sparseloom.sim.runner import Work

    job = BUILD.job(m=3, experts=4, top_k=2, nulls=2)
    logits = np.array([[[0, 9, 1, 8], [0, 5, 6, 0], [0, 0, 7, 7]]], np.int32)
    work = Work(job, pack(BUILD, job, {"logits": logits}))
    none = Work(job, Image({}, work.image.buffers), values={"top_k": 0}, beats={"pair": 0, "expert": 0})
    first, refused = (receipt.done for receipt in PySimulator(BUILD).run([work, none]))
    assert (first["status"], first["pairs"], first["used"]) == (Status.OK, 2, 1)
    assert (refused["status"], refused["pairs"], refused["used"]) == (Status.ILLEGAL, 0, 0)


def test_null_experts_far_above_take_nothing_from_the_others():
    build = MoeGate(max_m=1, max_experts=4, max_top_k=3)
    job = build.job(m=1, experts=4, top_k=3, nulls=2, renormalise=True, multiplier=1)
    found = results(build, job, {"logits": np.array([[[0, 0, 1 << 20, 0]]], np.int32)})
    scores = dict(zip(found["expert"].tolist(), found["score"].tolist(), strict=True))
    assert scores == {0: 1 << 14, 1: 1 << 14, 2: 0}
