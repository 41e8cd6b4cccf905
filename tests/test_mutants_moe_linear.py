"""Deliberate faults in every block of the MoE linear engine; a handful of jobs in pysim must show each."""

import numpy as np
import pytest

from sparseloom.models.formats.engines import Image, collect, pack
from sparseloom.models.golden.engines import draw_operands, results
from sparseloom.models.spec.engine import Status
from sparseloom.models.spec.moe_linear import MoeLinear
from sparseloom.sim.mutants import Mutant, verdict
from sparseloom.sim.runner import Work

pytestmark = pytest.mark.rtl

BUILD = MoeLinear(tokens=2, rows=4, lanes=8, beat_bytes=16, ring_words=8, result_lanes=1, max_m=7, max_k=24, max_n=44,
                  max_experts=4, max_top_k=2, score_n=44)
TIES, CLAMPS = "ties", "clamps"
"""Operands made for one thing: ties of every rounding; clamped results."""
JOBS = [
    {"m": 7, "k": 24, "n": 11},
    {"m": 5, "k": 10, "n": 9, "experts": 4, "top_k": 2, "gelu": True, "routes": ((0, 1, 2, 3, 4), (), (1,), (0, 4)), "shift": 28},
    {"m": 7, "k": 8, "n": 10, "experts": 3, "top_k": 2, "use_score": True, "gather": False, "shift": 30,
     "routes": ((0, 2, 4, 6), (0, 1), (6,))},
    # One group an expert: sums that follow one another as closely as they may.
    {"m": 1, "k": 8, "n": 2, "experts": 2, "top_k": 2, "use_score": True, "draw": TIES, "shift": 31},
    {"m": 2, "k": 8, "n": 4, "experts": 2, "top_k": 2, "use_score": True, "narrow": True, "draw": CLAMPS, "shift": 17},
    {"m": 1, "k": 8, "n": 2, "draw": CLAMPS, "shift": 17},
    {"m": 3, "k": 17, "n": 5, "narrow": True, "shift": 30, "out_multiplier": 60000, "out_shift": 22},
    # More shares that do not leave than there is room for results.
    {"m": 6, "k": 8, "n": 24, "experts": 2, "top_k": 2, "use_score": True, "shift": 30},
]
MANY = {"m": 7, "k": 8, "n": 44}
"""More results than there is room for."""


def operands_of(job, kind, rng):
    operands = draw_operands(BUILD, job, rng)
    # No row like another.
    operands["x"] = rng.integers(-128, 128, operands["x"].shape, dtype=np.int8)
    operands["w"] = rng.integers(-128, 128, operands["w"].shape, dtype=np.int8)
    operands["x_scale"] = rng.integers(1 << 14, 1 << 16, job.x_rows)
    if kind == TIES:
        # z = 2 * acc + 1 / 2 rounded to even; half of it is a tie again.
        operands["x"][:], operands["w"][:] = 0, 0
        operands["x"][:, 0], operands["w"][:, :, 0] = 1, np.array([[3, -1], [7, 5]])[:, : job.n]
        operands["x_scale"][:], operands["w_scale"][:], operands["bias"][:] = 1 << 15, 1 << 15, 1
        operands["score"][:] = 1 << 14
    if kind == CLAMPS:
        operands["x"][:], operands["w"][:], operands["x_scale"][:], operands["w_scale"][:] = 127, 127, 65535, 65535
        if job.use_score:
            operands["score"][:] = 1 << 15
    return operands


def check():
    from sparseloom.sim.pysim import PySimulator

    works, wants, rng = [], [], np.random.default_rng(1)
    for shape in JOBS:
        job = BUILD.job(**{name: value for name, value in shape.items() if name != "draw"})
        operands = operands_of(job, shape.get("draw"), rng)
        works.append(Work(job, pack(BUILD, job, operands)))
        wants.append(results(BUILD, job, operands))
    nothing = Image({"w": works[0].image.streams["w"][:0]}, works[0].image.buffers)
    others = [Work(works[0].job, nothing, values=values, beats={"y": 0})
              for values in ({"m": BUILD.max_m + 1}, {"queued": 0, "use_score": 1}, {"shift": BUILD.max_shift + 1})]
    simulator = PySimulator(BUILD)
    for mode in ({}, {"idle": 0.4, "stall": 0.4, "back_to_back": True}):
        simulator.reset_mid_job(works[0], 60)
        receipts = simulator.run([*works, *others], seed=1, **mode)
        for work, want, receipt in zip(works, wants, receipts[: len(works)], strict=True):
            assert (collect(BUILD, work.job, receipt.outputs)["y"] == want["y"]).all(), (mode, work.job)
            done = receipt.done
            stalls = [done[f"stall_{cause}"] for cause in "ixo"]
            assert (done["saturated"], done["status"]) == (want["saturated"], Status.OK), (mode, work.job)
            assert done["cycles"] == done["busy"] + sum(stalls)
            assert mode or (done["cycles"], stalls) == (BUILD.cycles(work.job), [0, 0, 0]), work.job
        if mode:
            totals = [sum(receipt.done[f"stall_{cause}"] for receipt in receipts) for cause in "ixo"]
            assert min(totals) > 0 and receipts[0].done["stall_x"] > 0, totals
        assert [receipt.done["status"] for receipt in receipts[len(works) :]] == [Status.ILLEGAL] * len(others)
    job = BUILD.job(**MANY)
    operands = operands_of(job, None, rng)
    (receipt,) = simulator.run([Work(job, pack(BUILD, job, operands))], seed=2, stall=0.9)
    assert (collect(BUILD, job, receipt.outputs)["y"] == results(BUILD, job, operands)["y"]).all()


FAULTS = {
    "loader": [
        ("late weights are not counted", "self.stall.eq(wanted & ~self.valid)", "self.stall.eq(0)"),
        ("a word too many in the ring", "some.eq(after != size)", "some.eq(1)"),
        ("places are not freed", "after.eq(used + put - free)", "after.eq(used + put)"),
        ("a tile has no header", "m.d.sync += [heading.eq(1), *beats.load(build.header_beats), *tiles.advance()]",
         "m.d.sync += [*beats.load(build.word_beats), *tiles.advance()]"),
    ],
    "pair_queue": [
        ("experts begin at the first pair", "base.eq(after_expert), place.eq(after_expert)", "base.eq(0), place.eq(0)"),
        ("rows of x are tokens", "chosen.eq(Mux(job.gather, token, own))", "chosen.eq(token)"),
        ("rows of x are places", "chosen.eq(Mux(job.gather, token, own))", "chosen.eq(own)"),
        ("results of tokens", "row.eq(Mux(job.queued & ~job.use_score, own, token))", "row.eq(token)"),
        ("groups have all slots", "later.count.eq(at + 1)", "later.count.eq(build.tokens)"),
        ("each tile goes on behind the last", "m.d.sync += [place.eq(base), *pairs", "m.d.sync += [*pairs"),
        ("sums are read before they are written", "beats + Mux(expert_end & job.use_score, SCORE_GAP - 1, 0)", "beats"),
    ],
    "issue": [
        ("weights are not waited for", "(some | ~group.opens)", "1"),
        ("results have no room", "(spaced & self.credit)", "spaced"),
        ("results run into each other", "(spaced & self.credit)", "self.credit"),
        ("reads that were refused", "(~used | done | self.x_ready).all()", "1"),
        ("each group has new weights", "self.at.eq(tile_at)", "self.at.eq(self.at + 1)"),
        ("refused reads are not counted", "(self.x_valid & ~self.x_ready).any()", "0"),
        ("the sum goes on", "m.d.sync += [have.eq(self.groups.valid), group.eq(coming), self.first.eq(1)",
         "m.d.sync += [have.eq(self.groups.valid), group.eq(coming), self.first.eq(0)"),
    ],
    "products": [
        ("two rows change places", "for side, row in enumerate(rows))]", "for side, row in enumerate(rows[::-1]))]"),
        ("activations come early", 'j, f"act_{t}_{j}")', '0, f"act_{t}_{j}")'),
        ("sums are held too long", "m.d.sync += held.eq(after)", "m.d.sync += held.eq(acc)"),
    ],
    "drain": [
        ("a tile's rows are the last's", "tile_row.eq(tile_row + build.rows)", "tile_row.eq(tile_row)"),
        ("headers are not given back", "self.header_release.eq(end & group.closes)", "self.header_release.eq(0)"),
        ("every share leaves", "what.emit.eq(~self.job.use_score | own.last | ends)", "what.emit.eq(1)"),
        ("tokens share a sum", "chunk * build.max_m + own.row)", "chunk * build.max_m)"),
        ("one scale for all tokens", "self.x_scale.eq(scales[token])", "self.x_scale.eq(scales[0])"),
    ],
    "results": [
        ("no bias", "register(shift.o + bias, ", "register(shift.o + 0 * bias, "),
        ("GELU always", "Mux(self.job.gelu, gelu.o, ", "Mux(1, gelu.o, "),
        ("a score's tie goes up", "(product[: SCORE_FRACTION - 1].any() | product[SCORE_FRACTION])", "1"),
        ("sums of the job before", "Mux(first, 0, before", "Mux(0, 0, before"),
        ("clamped sums are not counted", "self._clamped.append(over & late_valid & job.use_score)", "pass"),
        ("clamped int8 are not counted", "self._clamped.append(shift.over & used & self.job.narrow)", "pass"),
        ("int8 always", "Mux(self.job.narrow, shift.o, ", "Mux(1, shift.o, "),
        ("clamps of the job before", "m.d.sync += self.saturated.eq(0)", "m.d.sync += self.saturated.eq(self.saturated)"),
        ("refused results are not counted", "self.stall.eq(out.valid & ~out.ready)", "self.stall.eq(0)"),
        ("room for shares that do not leave", "free + taken + drop - self.reserved", "free + taken - self.reserved"),
    ],
    "linear": [
        ("any number of tokens", "& within(job.m, build.max_m)", ""),
        ("any shift", "& (job.shift <= build.max_shift)", ""),
        ("scores without a queue", "& (job.queued | (job.gather & ~job.use_score))", ""),
        ("weights are freed as they are read", 'delay(m, issue.release, build.read_latency + 7, "release", reset_less=False)',
         "issue.release"),
    ],
}
"""By file: what is wrong, the text that says it right, the text in its place."""
MUTANTS = [Mutant(name, f"hdl.moe.{file}", old, new) for file, faults in FAULTS.items() for name, old, new in faults]


def test_unchanged_gates_pass():
    same = "m.submodules.shell = shell = JobShell(build)"
    assert verdict(Mutant("none", "hdl.moe.linear", same, same), check) is None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_killed(mutant):
    assert verdict(mutant, check) is not None
