"""Speed of simulation: the compiled harness against cocotb with Python in every cycle, same Verilog, same jobs.

python benchmarks/harness.py [--json]

CPU seconds; builds are counted apart, from an empty cache. ``kcycles_s``: thousand cycles a CPU second. ``ratio``: the harness as
quickly compiled as the tests have it, over cocotb.
"""

import argparse
import json
import os
import resource
import tempfile
import time

import numpy as np

from sparseloom.models.formats.engines import collect, pack
from sparseloom.models.golden.engines import draw_operands, results
from sparseloom.models.spec.ternary import TernaryEngine
from sparseloom.sim.build import OPTIMISATIONS, design_of
from sparseloom.sim.cocotb.runner import program, run_jobs
from sparseloom.sim.runner import Simulator, Work

BUILDS = {
    "tree, 128-bit beats": TernaryEngine(rows=4, lanes=20, datapath="tree", max_k=1024, max_n=1024, max_m=1),
    "tree, 512-bit beats": TernaryEngine(rows=16, lanes=20, datapath="tree", max_k=1024, max_n=4096, max_m=1),
    "table, 512-bit beats": TernaryEngine(rows=16, lanes=20, datapath="table", max_k=1024, max_n=4096, max_m=1),
}
FLOOR = 10.0  # how many times faster than cocotb the harness must be
REPEATS, REPEATS_COCOTB = 20, 3  # of the job, so that there is something to time


def cpu_seconds():
    """CPU seconds of this process and of its children that ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(work):
    """(result, CPU seconds) of ``work()``."""
    start = cpu_seconds()
    return work(), cpu_seconds() - start


def measure(name, build):
    """One row: build seconds, kilocycles a second in both, their ratio, the results having been compared with golden."""
    rng = np.random.default_rng(0)
    job = build.job(k=build.max_k, n=build.max_n)
    operands = draw_operands(build, job, rng)
    work, want = Work(job, pack(build, job, operands)), results(build, job, operands)["y"]

    row = {"build": name}
    design, row["convert_s"] = timed(lambda: design_of(build))
    for opt in OPTIMISATIONS:
        simulator, row[f"build_{opt}_s"] = timed(lambda opt=opt: Simulator(build, opt=opt))
        receipts, seconds = timed(lambda simulator=simulator: simulator.run([work] * REPEATS))
        row[f"kcycles_s_{opt}"] = simulator.total_cycles / seconds / 1e3
        assert all((collect(build, job, receipt.outputs)["y"] == want).all() for receipt in receipts)
    row["mtrits_s"] = row["kcycles_s_fast"] * build.rows * build.lanes / 1e3
    _, row["build_cocotb_s"] = timed(lambda: program(design))
    # What the interpreter and cocotb take to start is no part of a cycle's price: a tiny job is timed and taken off.
    tiny = build.job(k=1, n=1)
    idle = Work(tiny, pack(build, tiny, draw_operands(build, tiny, rng)))
    _, start = timed(lambda: run_jobs(build, [idle], design=design))
    (receipts, cycles), seconds = timed(lambda: run_jobs(build, [work] * REPEATS_COCOTB, design=design))
    assert (collect(build, job, receipts[0].outputs)["y"] == want).all()
    row["kcycles_s_cocotb"] = cycles / (seconds - start) / 1e3
    row["ratio"] = row["kcycles_s_quick"] / row["kcycles_s_cocotb"]
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SPARSELOOM_CACHE"] = cache
        start = time.perf_counter()
        rows = [measure(name, build) for name, build in BUILDS.items()]
        wall = time.perf_counter() - start
    slowest = min(row["ratio"] for row in rows)
    if as_json:
        print(json.dumps({"rows": rows, "slowest_ratio": slowest, "floor": FLOOR, "wall_s": wall, "basis": "measured"}))
    else:
        for row in rows:
            print(", ".join(f"{key} {value:.1f}" if isinstance(value, float) else value for key, value in row.items()))
        print(f"compiled harness over cocotb: {slowest:.0f}x at least (floor {FLOOR:.0f}x)")
    return 0 if slowest >= FLOOR else 1


if __name__ == "__main__":
    raise SystemExit(main())
