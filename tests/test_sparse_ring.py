"""Jobs in which the ring of quads is full: dense blocks that issue long and fetch short beside sparse ones, the opposite."""

import numpy as np
import pytest

from sparseloom.models.formats.engines import collect, pack
from sparseloom.models.golden.engines import draw_operands, results
from sparseloom.models.spec import sparse_cycles
from sparseloom.models.spec.sparse_chain import SparseChain
from sparseloom.sim.runner import Simulator, Work

pytestmark = pytest.mark.rtl

BUILD = SparseChain(chains=1, window=128, max_k=2048, max_n=16, max_m=6, group_dsps=2)
JOBS = 80


def draw_job(rng):
    k, block = int(rng.integers(256, 1793)), int(rng.choice([128, 256]))
    blocks = tuple(tuple((index, int(rng.choice([1, 2, 16, 16]))) for index in range(-(-k // block)))
                   for _ in range(int(rng.integers(1, 12))))
    return BUILD.job(k=k, n=len(blocks), m=int(rng.integers(1, 7)), bits=int(rng.choice([1, 2, 3, 8])), group=16, nnz=1,
                     scale_group=int(rng.choice([0, 128])), x_group=0, block=block, blocks=blocks, shift=20)


def test_cycles_where_the_ring_is_full(monkeypatch):
    rng = np.random.default_rng(5)
    jobs = [draw_job(rng) for _ in range(JOBS)]
    cases = [(job, draw_operands(BUILD, job, rng)) for job in jobs]
    predicted = [BUILD.cycles(job) for job in jobs]
    with Simulator(BUILD) as simulator:
        receipts = simulator.run([Work(job, pack(BUILD, job, operands)) for job, operands in cases])
    for (job, operands), receipt, cycles in zip(cases, receipts, predicted, strict=True):
        assert np.array_equal(collect(BUILD, job, receipt.outputs)["y"], results(BUILD, job, operands)["y"])
        assert receipt.cycles == cycles, job
    # The ring matters here: with one place more or less the recurrence would tell otherwise.
    for places in (sparse_cycles.QUADS - 1, sparse_cycles.QUADS + 1):
        monkeypatch.setattr(sparse_cycles, "QUADS", places)
        assert sum(BUILD.cycles(job) != cycles for job, cycles in zip(jobs, predicted, strict=True)) >= 3
