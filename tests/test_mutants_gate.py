"""Deliberate faults in every block of the MoE gate; a handful of jobs in pysim must show each."""

import numpy as np
import pytest

from sparseloom.models.formats.engines import Image, collect, pack
from sparseloom.models.golden.engines import results
from sparseloom.models.spec.engine import Status
from sparseloom.models.spec.moe_gate import MoeGate
from sparseloom.sim.mutants import Mutant, verdict
from sparseloom.sim.runner import Work

pytestmark = pytest.mark.rtl

BUILD = MoeGate(max_m=16, max_experts=6, max_top_k=3, max_tasks=2)
MODES = {"free": {}, "back_to_back": {"back_to_back": True}, "refusing": {"stall": 0.75, "back_to_back": True}}

# A job, and the range of its logits: few values make ties, many make distances of all sizes; 2**19 is where they are clamped.
JOBS = [
    ({"m": 1, "experts": 1}, (0, 1)), ({"m": 5, "experts": 6, "top_k": 3}, (-1, 1)),
    ({"m": 3, "experts": 4, "top_k": 2, "task": 1}, (-5000, 5000)), ({"m": 4, "experts": 6, "top_k": 2, "nulls": 2}, (-3, 3)),
    ({"m": 5, "experts": 6, "top_k": 2, "nulls": 4, "renormalise": True}, (-4000, 4000)),
    ({"m": 8, "experts": 6, "top_k": 3, "nulls": 2, "renormalise": True}, (-30000, 30000)),
    ({"m": 4, "experts": 3, "top_k": 3, "renormalise": True, "multiplier": 3, "shift": 1}, (-900, 900)),
    ({"m": 3, "experts": 6, "top_k": 2, "multiplier": 5, "shift": 3}, (-200, 200)),
    ({"m": 3, "experts": 4, "top_k": 2}, (-(1 << 31), (1 << 31) - 1)),
    ({"m": 2, "experts": 4, "top_k": 3}, ((1 << 19) - 3000, (1 << 19) + 3000)),
    ({"m": 2, "experts": 4, "top_k": 3}, (-(1 << 19) - 3000, -(1 << 19) + 3000)),
    ({"m": 16, "experts": 6, "top_k": 2}, (-2500, 2500)), ({"m": 1, "experts": 6}, (-9, 9)), ({"m": 1, "experts": 6}, (0, 9)),
]


def check():
    from sparseloom.sim.pysim import PySimulator

    rng, works, wants = np.random.default_rng(1), [], []
    for shape, (low, high) in JOBS:
        job = BUILD.job(**shape)
        operands = {"logits": rng.integers(low, high + 1, (job.task + 1, job.m, job.experts)).astype(np.int32)}
        works.append(Work(job, pack(BUILD, job, operands)))
        wants.append(results(BUILD, job, operands))
    usual = works[0]
    refused = [Work(usual.job, Image({}, usual.image.buffers), values=values, beats={"pair": 0, "expert": 0})
               for values in ({"m": BUILD.max_m + 1}, {"experts": 2, "top_k": 3}, {"nulls": 1}, {"base": BUILD.words})]
    for mode, options in MODES.items():
        receipts = PySimulator(BUILD).run([*works, *refused], seed=1, **options)
        for index, (work, want, receipt) in enumerate(zip(works, wants, receipts[: len(works)], strict=True)):
            done = receipt.done
            got = collect(BUILD, work.job, receipt.outputs) | {"saturated": done["saturated"]}
            assert all(np.array_equal(got[name], want[name]) for name in want), (mode, work.job)
            real = int((1 - want["null"]).sum())
            assert (done["status"], done["pairs"], done["used"]) == (Status.OK, real, int((want["queue"][:, 1] > 0).sum()))
            stalls = [done[f"stall_{cause}"] for cause in "ixo"]
            assert done["cycles"] == done["busy"] + sum(stalls) and stalls[0] == 0
            if mode == "refusing":
                assert min(stalls[1:]) > 0 or work.job.m == 1, (work.job, stalls)
                assert done["busy"] <= BUILD.cycles(work.job), work.job
            else:
                late = mode == "back_to_back" and index
                assert done["cycles"] == BUILD.cycles(work.job) and sum(stalls) == 0, (mode, work.job)
                assert receipt.cycles == (BUILD.cycles_back_to_back if late else BUILD.cycles)(work.job), (mode, work.job)
        assert [receipt.done["status"] for receipt in receipts[len(works) :]] == [Status.ILLEGAL] * len(refused)


FAULTS = {
    "choose": [
        ("the highest number wins ties", "(logit > held[rank])", "(logit >= held[rank])"),
        ("log2 units are compared as logits are",
         'self._insert(m, delay(m, self.x_data, self._behind, "logit")', "self._insert(m, self.t"),
        ("the token before stays in the list", "some[rank - 1] & ~first", "some[rank - 1]"),
        ("a token's first logit is compared with the last token's", "better = [first | ~some[rank]", "better = [~some[rank]"),
        ("every task is the first", "self.x_addr.eq(job.base)", "self.x_addr.eq(0)"),
        ("refused requests are not repeated", "step = self.x_valid & self.x_ready", "step = self.x_valid"),
        ("refused requests are not counted", "self.stall.eq(self.x_valid & ~self.x_ready)", "self.stall.eq(0)"),
        ("no pause between tokens", "*pause.load(job.top_k)", "*pause.load(1)"),
        ("clamped to the other end", "Mux(over, high, Mux(under, -high - 1,", "Mux(under, high, Mux(over, -high - 1,"),
        ("small logits are not clamped", "wide.eq(over | under)", "wide.eq(over)"),
        ("the choice is complete too soon",
         'last = delay(m, step & expert.last, back, "last"', 'last = delay(m, step & expert.last, back - 1, "last"'),
    ],
    "score": [
        ("the sum is over the chosen ones, always",
         "Mux(job.renormalise, choosing & ~null, summing)",
         "choosing & ~null"),
        ("the sum is over all, always", "Mux(job.renormalise, choosing & ~null, summing)", "summing"),
        ("null experts count in the sum", "choosing & ~null, summing)", "choosing, summing)"),
        ("null experts have scores", "Mux(out.null, Const(0, 16), rounded.y[:16])", "rounded.y[:16]"),
        ("one null expert too few", "null.eq(one.expert >= limit)", "null.eq(one.expert > limit)"),
        ("null experts are first", "(one.expert == lowest) & ~null", "(one.expert == lowest)"),
        ("lists of unlike length have ends of what is left over", "& (rank < self.job.top_k)", ""),
        ("sums run into each other", "Mux(first, 0, total)", "total"),
        ("one half of the logits' memory", "filling.eq(~filling)", "filling.eq(0)"),
        ("the sum's shift is one off", "reciprocal.o_shift - _ONE_SHIFT)", "reciprocal.o_shift - _ONE_SHIFT + 1)"),
        ("the next token's shift", 'delay(m, shift, 2, "shift")', "reciprocal.o_shift - _ONE_SHIFT"),
        ("the chosen ones' distance to the second", "top.eq(self.chosen[0].t)]", "top.eq(self.chosen[-1].t)]"),
        ("null experts are the reference", "& (self.chosen[index].expert < limit) & (index", "& (index"),
        ("tokens have the same number", "token.eq(token + 1)", "token.eq(token)"),
    ],
    "sort": [
        ("places begin at 1", "running.eq(0), self.pairs.eq(0)", "running.eq(1), self.pairs.eq(0)"),
        ("an expert's pairs in one place", "Mux(listing, running, have + 1)", "Mux(listing, running, have)"),
        ("the last job's counts", "have = Mux(some, read.data, 0)", "have = read.data"),
        ("null experts are listed", "listing & some & (place < job.experts - job.nulls)", "listing & some"),
        ("experts without pairs are listed", "listing & some & (place", "listing & (place"),
        ("no last expert", "word.last.eq(real & (words + 1 == self.used))", "word.last.eq(0)"),
        ("null pairs are counted", "self.put & ~self.pair.null", "self.put"),
        ("the queue takes more than it holds", "(left != 0) & (free != 0)", "(left != 0)"),
        ("room is not given back", "free.eq(free + taken - ask)", "free.eq(free - ask)"),
        ("the pairs alone end the job", "pair_end & expert_end & ~over", "pair_end & ~over"),
        ("refused results are not counted", "(self.o_pair.valid & ~self.o_pair.ready) | ", ""),
    ],
    "gate": [
        ("any number of experts is chosen", "& (job.top_k <= job.experts)", ""),
        ("all experts may be null", "& (job.nulls < job.experts)", ""),
        ("clamped logits of the job before", "m.d.sync += clamped.eq(0)", "m.d.sync += clamped.eq(clamped)"),
        ("a task beyond the buffer", "(job.base + job.m * job.experts <= build.words)", "(job.base <= build.words)"),
    ],
}
"""By file: what is wrong, the text that says it right, the text in its place."""
MUTANTS = [Mutant(name, f"hdl.moe.{file}", old, new) for file, faults in FAULTS.items() for name, old, new in faults]


def test_unchanged_gates_pass():
    same = "m.submodules.shell = shell = JobShell(build)"
    assert verdict(Mutant("none", "hdl.moe.gate", same, same), check) is None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_killed(mutant):
    assert verdict(mutant, check) is not None
