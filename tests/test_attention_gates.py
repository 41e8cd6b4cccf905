"""The attention engine's gates where it hurts: named jobs, corners by hand, a published shape, lists that contradict jobs."""

from fractions import Fraction

import numpy as np
import pytest

from sparseloom.models.formats.attention_stream import pack as pack_stream
from sparseloom.models.formats.engines import Image, collect, pack
from sparseloom.models.golden.engines import draw_operands, results
from sparseloom.models.golden.functions import reciprocal
from sparseloom.models.spec.attention import SCORES, Attention
from sparseloom.models.spec.engine import Status
from sparseloom.sim.pysim import PySimulator
from sparseloom.sim.runner import SimulationError, Simulator, Work

pytestmark = pytest.mark.rtl


def run_job(simulator, build, job, operands):
    """The receipt of a job, its results compared with the golden ones and its cycles with the closed form."""
    receipt, = simulator.run([Work(job, pack(build, job, operands))])
    want = results(build, job, operands)
    assert (collect(build, job, receipt.outputs)["y"] == want["y"]).all() and receipt.done["saturated"] == want["saturated"]
    assert receipt.done["status"] == Status.OK and receipt.cycles == build.cycles(job)
    return receipt


VIT = Attention(p=4, d_lanes=8, max_queries=129, max_keys=129, max_d=64, max_heads=3)


def test_a_vision_transformers_attention():
    """Edge-MoE's shape on its schedule: 102,168 steps of 129 tokens and 3 heads, 66 cycles to begin and end."""
    job = VIT.job(queries=129, keys=129, d=64, heads=3)
    with Simulator(VIT) as simulator:
        receipt = run_job(simulator, VIT, job, draw_operands(VIT, job, np.random.default_rng(1)))
    assert receipt.cycles == 102_168 + 66 and VIT.useful_fraction(job, receipt.cycles)["compute"] >= 0.97


NAMED = {
    "one of everything": {"queries": 1, "keys": 1, "d": 1},
    "fewer keys than slots": {"queries": 7, "keys": 2, "d": 8, "heads": 2},
    "fewer queries than slots": {"queries": 2, "keys": 9, "d": 5},
    "one query, as in generation": {"queries": 1, "keys": 30, "d": 8, "heads": 2, "causal": True},
    "a prompt": {"queries": 9, "keys": 9, "d": 8, "heads": 2, "kv_heads": 1, "causal": True},
    "a prompt behind others": {"queries": 6, "keys": 20, "d": 4, "causal": True},
    "more queries than keys": {"queries": 9, "keys": 4, "d": 4, "causal": True},
    "a window of one": {"queries": 9, "keys": 9, "d": 4, "causal": True, "window": 1},
    "a window across groups": {"queries": 9, "keys": 14, "d": 8, "causal": True, "window": 5},
    "a window wider than all": {"queries": 9, "keys": 9, "d": 4, "causal": True, "window": 30},
}


@pytest.fixture(scope="module", params=SCORES)
def small(request):
    build = Attention(p=3, d_lanes=4, score=request.param, max_queries=9, max_keys=30, max_d=8, max_heads=2)
    return build, PySimulator(build)


def test_named_jobs(small):
    """Bit-exact, in exactly the cycles that the closed form tells; in one run, so that nothing of a job is left to the next."""
    build, simulator = small
    rng, works, wants = np.random.default_rng(5), [], []
    for shape in NAMED.values():
        job = build.job(**shape)
        operands = draw_operands(build, job, rng)
        works.append(Work(job, pack(build, job, operands)))
        wants.append(results(build, job, operands)["y"])
    for name, work, want, receipt in zip(NAMED, works, wants, simulator.run(works, back_to_back=True), strict=True):
        assert (collect(build, work.job, receipt.outputs)["y"] == want).all(), name
        assert receipt.done["cycles"] == build.cycles(work.job), name


@pytest.mark.parametrize("bits", [8, 16])
def test_the_corner_does_not_overflow(bits):
    """Every element the smallest, every scale the largest: the mean of equal values is that value, but for the reciprocal."""
    low = -(1 << bits - 1)
    build = Attention(p=2, d_lanes=4, bits=bits, max_queries=2, max_keys=64, max_d=8, max_heads=1)
    job = build.job(queries=2, keys=64, d=8, shift=17, fraction=12)
    operands = {name: np.full((1, count, 8), low, f"int{bits}") for name, count in (("q", 2), ("k", 64), ("v", 64))}
    operands |= {f"{name}_scale": np.full((1, count), 65535) for name, count in (("q", 2), ("k", 64), ("v", 64))}
    receipt = run_job(PySimulator(build), build, job, operands)
    # All scores are clamped to 2**19 - 1, a thousandth of an octave below 512 octaves: each exponential is 32746, and so is
    # 32746 * 65535 / 2**16 = 32745.5003.
    mantissa, shift = (int(part) for part in reciprocal(64 * 32746))
    want = round(Fraction(64 * 32746 * low * mantissa, 2 ** (shift - 12)))  # half to even
    assert (collect(build, job, receipt.outputs)["y"] == want).all() and abs(want / (low * 2**12) - 1) < 2**-20
    assert receipt.done["saturated"] == 2 * 64


def test_shiftmax_holds_the_sum_of_clamped_rows():
    """400 equal scores of x0 = -1023: probabilities of 511 each, far more than one together."""
    build = Attention(p=1, d_lanes=4, score="shiftmax", max_queries=1, max_keys=400, max_d=4, max_heads=1)
    job = build.job(queries=1, keys=400, d=4, unit=1023, out_multiplier=1 << 31, out_shift=48)
    operands = draw_operands(build, job, np.random.default_rng(0))
    operands["q"][:], operands["v"][:] = 0, -128
    receipt = run_job(PySimulator(build), build, job, operands)
    assert 400 * 511 > 1 << 16 and collect(build, job, receipt.outputs)["y"].tolist() == [[[-128] * 4]]
    assert receipt.done["saturated"] == 4


BLOCKS = Attention(p=2, d_lanes=4, max_queries=6, max_keys=100, max_d=4, max_heads=2, block_sparse=True)


def test_left_out_blocks_cost_nothing():
    whole = BLOCKS.job(queries=6, keys=100, d=4, heads=2)
    some = BLOCKS.job(queries=6, keys=100, d=4, heads=2, block=16, blocks=((0, 6), (2,), (1, 5)))
    rng, simulator = np.random.default_rng(3), PySimulator(BLOCKS)
    times = [run_job(simulator, BLOCKS, job, draw_operands(BLOCKS, job, rng)).cycles for job in (whole, some)]
    assert times[0] - times[1] == 2 * (300 - (16 + 4) - 16 - 32) - (4 + BLOCKS.read_latency)


@pytest.mark.parametrize("index", [2, 6])
def test_a_list_beyond_the_keys_ends_in_overflow(index):
    """It ends as any other, and the next job is as if nothing had been."""
    job = BLOCKS.job(queries=2, keys=20, d=4, block=16, blocks=((0,),))
    image = pack(BLOCKS, job, draw_operands(BLOCKS, job, np.random.default_rng(0)))
    word = BLOCKS.block_record.to_bytes({"index": index, "last": 1})
    bad = Image(image.streams, image.buffers | {"blocks": np.frombuffer(word, np.uint8)[None]})
    first, second = PySimulator(BLOCKS).run([Work(job, bad), Work(job, image)])
    assert first.done["status"] == Status.OVERFLOW and second.done["status"] == Status.OK
    assert first.cycles == second.cycles == BLOCKS.cycles(job)


def test_a_stream_that_is_short_is_waited_for():
    """What never comes is missed, not made up: no results, no completion."""
    job = BLOCKS.job(queries=2, keys=5, d=4)
    image = pack(BLOCKS, job, draw_operands(BLOCKS, job, np.random.default_rng(1)))
    for name in "kv":
        short = Image(image.streams | {name: image.streams[name][:-1]}, image.buffers)
        with pytest.raises(SimulationError, match="the engine is stuck"):
            PySimulator(BLOCKS).run([Work(job, short)])


def test_packing_refuses_what_does_not_fit():
    job = BLOCKS.job(queries=2, keys=5, d=4)
    operands = draw_operands(BLOCKS, job, np.random.default_rng(1))
    for name, value, message in [
        ("q", operands["q"].astype(np.int16), r"q must be int8 \[1, 2, 4\], got int16 \[1, 2, 4\]"),
        ("k", operands["k"][:, 1:], r"k must be int8 \[1, 5, 4\], got int8 \[1, 4, 4\]"),
        ("v_scale", operands["v_scale"] + 65536, r"v_scale must be 0..65535, got"),
        ("k_scale", operands["k_scale"] * 1.0, r"k_scale must be integers \[1, 5\], got float64"),
    ]:
        with pytest.raises(ValueError, match=message):
            pack_stream(BLOCKS, job, operands | {name: value})


def test_collecting_refuses_another_order():
    job = BLOCKS.job(queries=2, keys=5, d=3)
    operands = draw_operands(BLOCKS, job, np.random.default_rng(1))
    receipt, = PySimulator(BLOCKS).run([Work(job, pack(BLOCKS, job, operands))])
    beats = receipt.outputs["y"]
    with pytest.raises(ValueError, match="o_y must deliver heads, in each the queries"):
        collect(BLOCKS, job, {"y": beats[::-1]})
    with pytest.raises(ValueError, match="o_y must deliver heads, in each the queries"):
        collect(BLOCKS, job, {"y": beats[:1]})
    with pytest.raises(ValueError, match="padding that is not 0"):
        collect(BLOCKS, job, {"y": np.where(np.arange(beats.shape[1]) == beats.shape[1] - 1, 1, beats).astype(np.uint8)})


@pytest.mark.slow
@pytest.mark.parametrize("score, keys", [("online", 1 << 20), ("sigmoid", 1 << 20)])
def test_a_context_longer_than_the_chip(score, keys):
    """A million keys through an engine that holds none of them."""
    build = Attention(p=1, d_lanes=16, score=score, max_queries=1, max_keys=keys, max_d=16, max_heads=1)
    job = build.job(queries=1, keys=keys, d=16, fraction=0)
    with Simulator(build, opt="fast") as simulator:
        receipt = run_job(simulator, build, job, draw_operands(build, job, np.random.default_rng(2)))
    assert receipt.cycles - keys < 100
