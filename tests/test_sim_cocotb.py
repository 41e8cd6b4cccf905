"""cocotb on the same Verilog says what the compiled harness says: results, completion records, cycles."""

import numpy as np
import pytest

from sparseloom.models.formats.engines import collect, pack
from sparseloom.models.golden.engines import draw_operands, results
from sparseloom.models.spec.ternary import TernaryEngine
from sparseloom.sim.build import design_of
from sparseloom.sim.cocotb.runner import run_jobs
from sparseloom.sim.runner import SimulationError, Simulator, Work
from sparseloom.sim.toy import Toy, toy_design, toy_image

pytestmark = pytest.mark.rtl

ENGINES = [
    TernaryEngine(rows=4, lanes=10, datapath="tree", max_k=64, max_n=32, max_m=3, requantise=True, statistics=True),
    pytest.param(TernaryEngine(rows=4, lanes=10, datapath="table", max_k=64, max_n=32, max_m=3), marks=pytest.mark.slow),
]


def same(build, works, design, pauses):
    """Compare the two on every job and return the receipts. Under pauses the two draw other patterns: only results can agree."""
    receipts, cycles = run_jobs(build, works, design=design, **pauses)
    with Simulator(build, design=design) as simulator:
        others = simulator.run(works, **pauses)
    assert len(receipts) == len(others) == len(works) > 0
    for receipt, other in zip(receipts, others, strict=True):
        assert receipt.outputs.keys() == other.outputs.keys()
        assert all((beats == other.outputs[name]).all() for name, beats in receipt.outputs.items())
        if not pauses:
            assert (receipt.done, receipt.cycles) == (other.done, other.cycles)
    assert cycles > sum(receipt.cycles for receipt in receipts)
    return receipts


@pytest.mark.parametrize("pauses", ({}, {"stall": 0.4, "idle": 0.4, "seed": 5}), ids=str)
def test_toy(pauses):
    build, rng = Toy(read_latency=1), np.random.default_rng(0)
    jobs = [build.job(n=1), *(build.draw_job(rng) for _ in range(5))]
    receipts = same(build, [Work(job, toy_image(build, job, rng)) for job in jobs], toy_design(build), pauses)
    if not pauses:
        assert [receipt.cycles for receipt in receipts] == [build.cycles(job) for job in jobs]


@pytest.mark.parametrize("pauses", ({}, {"stall": 0.4, "idle": 0.4, "seed": 5}), ids=str)
@pytest.mark.parametrize("build", ENGINES, ids=lambda build: build.datapath)
def test_engine(build, pauses):
    rng = np.random.default_rng(1)
    works, wants = [], []
    for _ in range(6):
        job = build.draw_job(rng)
        operands = draw_operands(build, job, rng)
        works.append(Work(job, pack(build, job, operands)))
        wants.append(results(build, job, operands))
    receipts = same(build, works, design_of(build), pauses)
    for work, want, receipt in zip(works, wants, receipts, strict=True):
        got = collect(build, work.job, receipt.outputs)
        assert all((np.asarray(got[name]) == np.asarray(want[name])).all() for name in got) and got["y"].size > 0
        if not pauses:
            assert receipt.cycles == build.cycles(work.job)


def test_a_job_that_takes_too_long_is_stuck():
    build, rng = Toy(read_latency=1), np.random.default_rng(0)
    job = build.job(n=20)
    with pytest.raises(SimulationError, match="job 0 is not done after 50 cycles"):
        run_jobs(build, [Work(job, toy_image(build, job, rng))], design=toy_design(build), limit=50)
