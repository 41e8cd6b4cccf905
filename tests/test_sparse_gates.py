"""The sparse chain's gates where it hurts: corners, named jobs, a model's shapes, streams that contradict their job."""

from fractions import Fraction

import numpy as np
import pytest

from sparseloom.models.formats.engines import Image, collect, pack
from sparseloom.models.golden.engines import draw_operands, results
from sparseloom.models.spec.engine import Status
from sparseloom.models.spec.sparse_chain import SparseChain
from sparseloom.models.spec.sparse_job import HEADERS
from sparseloom.sim.pysim import PySimulator
from sparseloom.sim.runner import SimulationError, Simulator, Work

pytestmark = pytest.mark.rtl


def corner(job, scale, offset):
    """Every product -128 * -128, every factor the largest."""
    return {"x": np.full((job.m, job.k), -128, np.int8), "x_scale": np.full((job.m, job.x_groups), 65535, np.int32),
            "codes": np.zeros((job.n, job.k), np.uint8), "mask": np.ones((job.n, job.k), bool),
            "scale": np.full((job.n, job.scale_groups), scale, np.int32),
            "offset": np.full((job.n, job.scale_groups), offset, np.int32)}


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("group_dsps", [1, 2, 4, 8])
def test_the_corner_does_not_overflow(tokens, group_dsps):
    """8 x (-128 x -128) in every cascade, 128 columns a segment, the largest accumulator; results by hand."""
    build = SparseChain(chains=1, window=8, tokens=tokens, group_dsps=group_dsps, max_k=256, max_n=2, max_m=2)
    works, wants = [], []
    for scale, offset in ((-(1 << 15), (1 << 15) - 1), ((1 << 15) - 1, -(1 << 15))):
        total = 256 * (128 * 128 * scale - 128 * offset) * 65535
        assert abs(total) <= build.acc_peak
        for shift in (31, 0):
            job = build.job(k=256, n=2, m=2, bits=8, header="affine", scale_group=128, x_group=0, shift=shift)
            works.append(Work(job, pack(build, job, corner(job, scale, offset))))
            wants.append(round(Fraction(total, 1 << shift)))  # half to even
    for work, want, receipt in zip(works, wants, PySimulator(build).run(works), strict=True):
        limited = min(max(want, -(1 << 31)), (1 << 31) - 1)
        assert (collect(build, work.job, receipt.outputs)["y"] == np.full((2, 2), limited)).all()
        assert receipt.done["status"] == Status.OK and receipt.done["saturated"] == (4 if limited != want else 0)
        assert receipt.cycles == build.cycles(work.job)


def run_job(simulator, build, job, seed):
    """The receipt of a job with random operands, its results compared with the golden ones."""
    operands = draw_operands(build, job, np.random.default_rng(seed))
    receipt, = simulator.run([Work(job, pack(build, job, operands))])
    want = results(build, job, operands)
    assert (collect(build, job, receipt.outputs)["y"] == want["y"]).all() and receipt.done["saturated"] == want["saturated"]
    assert receipt.done["status"] == Status.OK and receipt.cycles == build.cycles(job)
    return receipt


MODEL = SparseChain(max_k=1536, max_n=576, max_m=2)
"""What the conformance suite's wide build is: 512-bit beats."""


def test_a_models_matrix_uses_its_stream():
    """SmolLM2's down projection, a GEMV of 4-bit weights in affine groups of 32."""
    job = MODEL.job(k=1536, n=576, bits=4, header="affine", shift=30)
    with Simulator(MODEL) as simulator:
        receipt = run_job(simulator, MODEL, job, seed=1)
    assert receipt.cycles == 8676 and MODEL.useful_fraction(job, receipt.cycles)["stream"] >= 0.97
    assert sum(receipt.done[f"stall_{cause}"] for cause in "ixo") == 0


SMALL = SparseChain(chains=4, window=32, max_k=512, max_n=64, max_m=64)


@pytest.fixture(scope="module")
def small():
    with Simulator(SMALL) as simulator:
        yield simulator


def test_a_prefill_of_64_keeps_the_multipliers_busy(small):
    job = SMALL.job(k=512, n=64, m=64, header="affine", shift=30)
    assert 512 * 64 * 64 / (4 * 8 * 2) / run_job(small, SMALL, job, seed=2).cycles >= 0.99


@pytest.mark.parametrize("nnz, group", [(2, 4), (4, 8), (8, 16), (2, 8)])
def test_fewer_products_take_less_time(small, nnz, group):
    shape = {"k": 512, "n": 64, "m": 32, "scale_group": 128, "x_group": 0, "shift": 30}
    dense = run_job(small, SMALL, SMALL.job(**shape), seed=3)
    sparse = run_job(small, SMALL, SMALL.job(**shape, nnz=nnz, group=group), seed=4)
    assert dense.cycles / sparse.cycles >= 0.95 * group / nnz


NAMED = {
    "one of everything": {"k": 1, "n": 1},
    "one step a row, one token": {"k": 8, "n": 64, "bits": 2},
    "one step a row, two tokens": {"k": 8, "n": 64, "m": 2, "bits": 2},
    "one step a row, an odd token": {"k": 8, "n": 20, "m": 7, "bits": 2},
    "sixteen places full": {"k": 512, "n": 8, "m": 64, "bits": 1},
    "a ragged quad in each row": {"k": 33, "n": 30, "m": 2, "bits": 3, "header": "zero"},
    "a group a row": {"k": 500, "n": 9, "scale_group": 0, "x_group": 0, "header": "levels"},
    "groups of 64 under scales of 32": {"k": 300, "n": 9, "m": 3, "scale_group": 64, "header": "levels"},
    "scales of 128 under groups of 32": {"k": 300, "n": 9, "m": 3, "x_group": 128, "bits": 8, "header": "affine"},
    "1 of 4": {"k": 500, "n": 10, "m": 3, "nnz": 1, "group": 4, "bits": 8},
    "4 of 16": {"k": 500, "n": 10, "m": 1, "nnz": 4, "group": 16, "header": "zero"},
    "every second block": {"k": 512, "n": 10, "m": 2, "block": 128, "nnz": 4, "group": 8, "scale_group": 64, "x_group": 64},
    "blocks of one segment": {"k": 512, "n": 5, "m": 1, "block": 32, "header": "affine"},
    "blocks of three kinds": {"k": 128, "n": 8, "m": 3, "block": 32, "nnz": 4, "group": 4,
                              "blocks": (((0, 1), (1, 2), (2, 4), (3, 2)), ((3, 1),))},
}


@pytest.mark.parametrize("name", NAMED)
def test_named_jobs(small, name):
    """Bit-exact, in exactly the cycles that the closed form tells."""
    run_job(small, SMALL, SMALL.job(**NAMED[name], shift=20), seed=5)


TINY = SparseChain(chains=2, window=16, max_bits=4, max_k=128, max_n=4, max_m=2)
BLOCKS = {"k": 128, "n": 4, "m": 2, "bits": 2, "block": 32, "nnz": 2, "group": 4}


def words(value):
    return np.frombuffer(value.to_bytes(4, "little"), np.uint8)


def hostile(name):
    """(job, beats) of a stream that contradicts its job; as long as what the engine takes it for."""
    rng = np.random.default_rng(7)
    if name == "zero above 128":
        job = TINY.job(k=64, n=4, m=2, bits=4, header="zero")
        operands = draw_operands(TINY, job, rng)
        beats = pack(TINY, job, operands).streams["w"].copy()
        beats[0, 2] = 129  # the first header of row 0
        return job, operands, beats
    # Both tiles: block 1 at 2 of 4, block 3 dense. A dense span: header, 2 planes; a sparse one, half a quad, 2 more.
    blocks = (((1, 2), (3, 4)),) * 2
    job = TINY.job(**BLOCKS | {"blocks": blocks})
    operands = draw_operands(TINY, job, rng)
    beats = pack(TINY, job, operands).streams["w"].copy()
    assert beats[0, :4].tolist() == [1, 0, 1, 0] and beats[6, :4].tolist() == [3, 0, 0x10, 0]
    index, ratio = {"block beyond the matrix": (4, 0), "block far beyond the matrix": (0xFFFF, 0),
                    "sparser than the window": (3, 2), "sparser than anything": (3, 15)}[name]
    word = index | ratio << 16 | 1 << 20
    beats[6] = np.tile(words(word), 2)
    return job, operands, beats


HOSTILE = ["block beyond the matrix", "block far beyond the matrix", "sparser than the window", "sparser than anything",
           "zero above 128"]


@pytest.fixture(scope="module")
def tiny():
    return PySimulator(TINY)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_stream_that_contradicts_its_job_ends_in_overflow(tiny, name):
    """It ends as punctually as any other, and the next job is as if nothing had been."""
    job, operands, beats = hostile(name)
    image = pack(TINY, job, operands)
    good = Work(job, image)
    bad = Work(job, Image(streams={"w": beats}, buffers=image.buffers))
    first, second = tiny.run([bad, good])
    assert first.done["status"] == Status.OVERFLOW and first.cycles == TINY.cycles(job)
    assert second.done["status"] == Status.OK and second.cycles == TINY.cycles(job)
    assert (collect(TINY, job, second.outputs)["y"] == results(TINY, job, operands)["y"]).all()


def test_a_stream_that_is_short_is_waited_for(tiny):
    """What never comes is missed, not made up: no results, no completion."""
    job = TINY.job(k=64, n=4)
    image = pack(TINY, job, draw_operands(TINY, job, np.random.default_rng(1)))
    short = Image(streams={"w": image.streams["w"][:-1]}, buffers=image.buffers)
    with pytest.raises(SimulationError, match="the engine is stuck"):
        tiny.run([Work(job, short)])


@pytest.mark.parametrize("values", [{"header": HEADERS.index("affine")}, {"index_bits": 1}], ids=str)
def test_sparsity_that_means_nothing_is_illegal(tiny, values):
    """Offsets of weights that are not there; one of a group of two. The next job is as if nothing had been."""
    job = TINY.job(k=64, n=4, bits=2, nnz=2, group=4)
    operands = draw_operands(TINY, job, np.random.default_rng(1))
    image = pack(TINY, job, operands)
    nothing = Image(streams={"w": image.streams["w"][:0]}, buffers=image.buffers)
    refused, after = tiny.run([Work(job, nothing, values=values, beats={"y": 0}), Work(job, image)])
    assert (refused.done["status"], after.done["status"]) == (Status.ILLEGAL, Status.OK)
    assert (collect(TINY, job, after.outputs)["y"] == results(TINY, job, operands)["y"]).all()
