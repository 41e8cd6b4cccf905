"""Statistics gathered over several jobs, and the one overflow that an engine can have: counted, never silent."""

import numpy as np

from sparseloom.models.formats.engines import collect, pack
from sparseloom.models.spec.engine import Status
from sparseloom.models.spec.ternary import TernaryEngine
from sparseloom.sim.runner import Simulator, Work

BUILD = TernaryEngine(rows=1, lanes=5, max_k=5, max_n=2, max_m=1, statistics=True)
SQUARE = 2 * (128 * 5) ** 2
FIT = ((1 << BUILD.square_width) - 1) // SQUARE


def test_over_jobs_until_overflow():
    operands = {"x": np.full((1, 5), -128, np.int8), "w": np.array([[1] * 5, [-1] * 5], np.int8)}
    assert FIT >= 16
    jobs = [BUILD.job(k=5, n=2, first=index == 0, last=index >= FIT - 1, tag=index) for index in range(FIT + 1)]
    jobs.append(BUILD.job(k=5, n=2))
    with Simulator(BUILD) as sim:
        receipts = sim.run([Work(job, pack(BUILD, job, operands)) for job in jobs])
    assert [r.done["status"] for r in receipts] == [Status.OK] * FIT + [Status.OVERFLOW, Status.OK]
    full, fresh = (collect(BUILD, jobs[i], receipts[i].outputs) for i in (FIT - 1, FIT + 1))
    assert full["squares"].tolist() == [FIT * SQUARE] and full["absmax"].tolist() == [640]
    assert fresh["squares"].tolist() == [SQUARE]
    assert [r.cycles for r in receipts] == [BUILD.cycles(job) for job in jobs]
