"""The suite that every engine passes: values and cycles of random jobs, free, under stalls, back to back, after errors and
resets.

It knows no family: builds, jobs and closed forms come from the spec, operands and expected results from golden, gates from the
spec's name. An out-of-tree engine that registers in these rooms runs the same suite.
"""

from dataclasses import dataclass

import numpy as np

from ..models.formats.engines import collect, pack
from ..models.golden.engines import draw_operands, results
from ..models.spec.engine import Status
from .runner import Simulator, Work

__all__ = ["MODES", "Conformance", "Mismatch", "check_build", "draw_builds", "draw_works"]

MODES = {
    "free": {},
    "back_to_back": {"back_to_back": True},
    "idle_source": {"idle": 0.3},
    "stalling_sink": {"stall": 0.3},
    "both": {"idle": 0.4, "stall": 0.4, "back_to_back": True},
}
"""How the ports behave in each pass over the jobs; arguments of ``Simulator.run``."""


class Mismatch(AssertionError):
    """The gates delivered something else than golden or the closed form."""


@dataclass
class Conformance:
    """What a check compared: ``jobs`` runs of a job, ``values`` results, ``cycles`` simulated."""

    jobs: int = 0
    values: int = 0
    cycles: int = 0


def draw_builds(spec, count, seed):
    """``count`` different random builds of a family."""
    rng, builds = np.random.default_rng(seed), []
    while len(builds) < count:
        build = spec.draw_build(rng)
        if build not in builds:
            builds.append(build)
    return builds


def draw_works(build, count, seed):
    """(works, expected results) of ``count`` jobs: the largest, then random ones."""
    rng, works, wants = np.random.default_rng(seed), [], []
    for index in range(count):
        job = build.draw_job(rng) if index else build.largest_job()
        operands = draw_operands(build, job, rng)
        works.append(Work(job, pack(build, job, operands)))
        wants.append(results(build, job, operands))
    return works, wants


def check_build(build, *, jobs, seed, modes=tuple(MODES), simulator=None):
    """Run ``jobs`` random jobs of ``build`` in each mode, then an illegal job and resets in mid-job; Mismatch on the first
    difference."""
    works, wants = draw_works(build, jobs, seed)
    seen = Conformance()
    sim = simulator or Simulator(build)
    for mode in modes:
        receipts = sim.run(works, seed=seed, **MODES[mode])
        _check_causes(build, works, receipts, mode)
        for index, (work, want, receipt) in enumerate(zip(works, wants, receipts, strict=True)):
            where = f"{build!r}, {mode}, job {index}: {work.job!r}"
            _check_values(build, work.job, want, receipt, where, seen)
            _check_counters(build, work.job, receipt, mode, index, where)
            seen.jobs += 1
            seen.cycles += receipt.cycles
    _check_illegal(build, sim, works, wants, seed, seen)
    _check_reset(build, sim, works, wants, seed, seen)
    return seen


def _check_values(build, job, want, receipt, where, seen):
    got = collect(build, job, receipt.outputs) | {"saturated": receipt.done["saturated"]}
    if set(got) != set(want):
        raise Mismatch(f"{where}: results {sorted(got)}, expected {sorted(want)}")
    for name, value in got.items():
        have, need = np.asarray(value), np.asarray(want[name])
        if have.shape != need.shape or (have != need).any():
            at = tuple(int(i) for i in np.argwhere(have != need)[0]) if have.shape == need.shape else have.shape
            raise Mismatch(f"{where}: {name} differs first at {at}: {have[at]} instead of {need[at]}")
        seen.values += have.size
    if receipt.done["status"] != Status.OK or receipt.done["tag"] != job.tag:
        raise Mismatch(f"{where}: done says {receipt.done}")


def _check_counters(build, job, receipt, mode, index, where):
    done = receipt.done
    stalls = done["stall_i"] + done["stall_x"] + done["stall_o"]
    if done["cycles"] != done["busy"] + stalls:
        raise Mismatch(f"{where}: cycles are not busy + stalls: {done}")
    if mode in ("free", "back_to_back"):
        late = mode == "back_to_back" and index
        want = build.cycles_back_to_back(job) if late else build.cycles(job)
        if receipt.cycles != want or stalls:
            raise Mismatch(f"{where}: {receipt.cycles} cycles, closed form {want}; stalls {stalls}")
        if done["cycles"] != build.cycles(job):
            raise Mismatch(f"{where}: done counts {done['cycles']} cycles, closed form {build.cycles(job)}")


def _check_causes(build, works, receipts, mode):
    """Refusing sinks stall buffers and results alone, and both; idle sources operands alone, and surely if anything came late."""
    total = {cause: sum(receipt.done[cause] for receipt in receipts) for cause in ("stall_i", "stall_x", "stall_o")}
    late = sum(receipt.done["cycles"] - build.cycles(work.job) for work, receipt in zip(works, receipts, strict=True))
    counted = {cause for cause, cycles in total.items() if cycles}
    refused = {"stall_x", "stall_o"} if build.buffers else {"stall_o"}
    caused = {"idle_source": {"stall_i"} if late else counted & {"stall_i"}, "stalling_sink": refused}
    if counted != caused.get(mode, counted):
        raise Mismatch(f"{build!r}, {mode}: {late} cycles late, only {caused[mode]} may count, counted {total}")


def _check_illegal(build, sim, works, wants, seed, seen):
    """A job outside the build's maxima completes with a status, no results, and does not disturb the next."""
    work, want = min(zip(works, wants, strict=True), key=lambda pair: build.cycles(pair[0].job))
    for values in build.illegal_values():
        bare = type(work.image)({s.name: np.zeros((0, s.record.bytes), np.uint8) for s in build.inputs}, work.image.buffers)
        bad = Work(work.job, bare, values=values, beats={stream.name: 0 for stream in build.outputs})
        refused, after = sim.run([bad, work], seed=seed)
        if refused.done["status"] != Status.ILLEGAL:
            raise Mismatch(f"{build!r}: job with {values} must end ILLEGAL, done says {refused.done}")
        _check_values(build, work.job, want, after, f"{build!r}, after the illegal {values}", seen)


def _check_reset(build, sim, works, wants, seed, seen):
    """After a reset in mid-job the next job is as if nothing had been."""
    rng, longest = np.random.default_rng(seed), works[0]
    for work, want in list(zip(works, wants, strict=True))[1:4]:
        sim.reset_mid_job(longest, int(rng.integers(1, build.cycles(longest.job))), stall=0.2, seed=seed)
        (receipt,) = sim.run([work], seed=seed)
        where = f"{build!r}, after a reset: {work.job!r}"
        _check_values(build, work.job, want, receipt, where, seen)
        _check_counters(build, work.job, receipt, "free", 0, where)
