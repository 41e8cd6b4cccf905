"""Deliberate faults in the weight update engine; a handful of jobs in pysim must show each."""

import numpy as np
import pytest

from sparseloom.models.formats.engines import Image, collect, pack
from sparseloom.models.golden.engines import results
from sparseloom.models.golden.floats import from_bits
from sparseloom.models.spec.engine import Status
from sparseloom.models.spec.nm_update import NmUpdate
from sparseloom.sim.mutants import Mutant, verdict
from sparseloom.sim.runner import Work

pytestmark = pytest.mark.rtl

PLAIN = NmUpdate(lanes=2, max_n=220, lion=False, pruned=False)
FULL = NmUpdate(lanes=1, max_n=64)
KEEP = NmUpdate(lanes=2, max_n=16, lion=False)
MODES = {"free": {}, "refusing": {"stall": 0.7, "back_to_back": True}, "idle": {"idle": 0.5}}
LION = {"rule": "lion", "lr": 0.3, "beta1": 0.9, "beta2": 0.8, "weight_decay": 0.11, "pruned_decay": 0.7}
SGD = {"lr": 0.3, "momentum": 0.9, "weight_decay": 0.11}
# A build, its jobs, how it is treated.
CHECKS = {
    "engine": (PLAIN, [{"n": 9} | SGD, {"n": 1} | SGD, {"n": 220} | SGD, {"n": 12, "lr": 1.0, "momentum": 1.0}], MODES),
    "lane": (FULL, [{"n": 64} | LION, {"n": 40, "pruned_decay": 0.7} | SGD], {"free": {}}),
    "keep": (KEEP, [{"n": 15, "pruned_decay": 0.7} | SGD], {"free": {}}),
}
# Gradients and momentum that meet in Lion's sign: 0, NaN, both signs; a weight that becomes infinite.
CORNERS = np.array([0, 1 << 31, 0x7F800001, 0x7F7FFFFF, 0xFF7FFFFF, 0x3F800000, 0x7F800000, 1, 0x80000001], np.uint32)


def operands(build, job, rng):
    drawn = {name: rng.standard_normal(job.n).astype(np.float32) for name in ("w", "g", "mom")}
    if job.n > 8:
        for name in drawn:
            drawn[name][:6] = from_bits(rng.choice(CORNERS, 6))
        # Lion's sign of zeros, and of a NaN at an ordinary weight.
        drawn["g"][6:9], drawn["mom"][6:9], drawn["w"][6:9] = [0, 0, np.nan], [-0.0, 0, 1], 1
    return drawn | ({"keep": np.arange(job.n) % 3 > 0} if build.pruned else {})


def check(name):
    from sparseloom.sim.pysim import PySimulator

    build, jobs, modes = CHECKS[name]
    rng, works, wants = np.random.default_rng(5), [], []
    for shape in jobs:
        job = build.job(**shape)
        given = operands(build, job, rng)
        image = pack(build, job, given)
        if job.n % build.lanes:
            # What lies beyond the last weight does not matter, infinite or not.
            for name in ("w", "g", "mom"):
                image.streams[name][-1, 4:8] = [0, 0, 0x80, 0x7F]
        works.append(Work(job, image))
        wants.append(results(build, job, given))
    nothing = Image({stream.name: np.zeros((0, stream.record.bytes), np.uint8) for stream in build.inputs}, {})
    refused = [Work(works[0].job, nothing, values=values, beats={"y": 0}) for values in build.illegal_values()]
    for mode, options in modes.items():
        receipts = PySimulator(build).run([*refused, *works], seed=2, **options)
        assert [receipt.done["status"] for receipt in receipts[: len(refused)]] == [Status.ILLEGAL] * len(refused)
        for work, want, receipt in zip(works, wants, receipts[len(refused) :], strict=True):
            done = receipt.done
            got = collect(build, work.job, receipt.outputs) | {"saturated": done["saturated"]}
            assert all(np.array_equal(got[name], want[name]) for name in want), (mode, work.job)
            stalls = [done[f"stall_{cause}"] for cause in "ixo"]
            assert done["status"] == Status.OK and done["cycles"] == done["busy"] + sum(stalls) and stalls[1] == 0
            if mode == "free":
                assert receipt.cycles == done["cycles"] == build.cycles(work.job) and sum(stalls) == 0
            elif mode == "refusing":
                assert stalls[2] > 0 or work.job.n < 9
            else:
                assert stalls[2] == 0 and (stalls[0] > 0 or work.job.n < 9)
                assert done["cycles"] == build.cycles(work.job) + stalls[0]


ENGINE = [
    ("nothing is illegal", "legal = (job.n != 0) & (job.n <= build.max_n)", "legal = job.n == job.n"),
    ("0 weights are legal", "legal = (job.n != 0) & (job.n <= build.max_n)", "legal = job.n <= build.max_n"),
    ("operands are taken without a place", "ask.eq(wanted & room)", "ask.eq(wanted)"),
    ("operands are taken after the last", "wanted.eq(~left.last)]", "wanted.eq(1)]"),
    ("two operands are enough", "self.i_w.valid & self.i_g.valid & self.i_mom.valid", "self.i_w.valid & self.i_g.valid"),
    ("one is taken before the others are there", "port.ready.eq(ask & others[0] & others[1])", "port.ready.eq(ask & others[0])"),
    ("a late operand is no stall", "shell.stall_i.eq(ask & ~took)", "shell.stall_i.eq(0)"),
    ("a refused result is no stall", "shell.stall_o.eq(out.valid & ~out.ready)", "shell.stall_o.eq(0)"),
    ("padding is a weight", "inside = index < made.left", "inside = made.left.any()"),
    ("padding is counted", "broken[index].eq(inside & lane.broken)", "broken[index].eq(lane.broken)"),
    ("a weight too few", "inside = index < made.left", "inside = index + 1 < made.left"),
    ("any rule", "legal if build.lion else legal & ~job.lion", "legal"),
    ("a cycle too early", "1 + Times(build).weight, \"put\"", "Times(build).weight, \"put\""),
    ("indices count beats", "(index + build.lanes)[: len(index)]", "(index + 1)[: len(index)]"),
    ("indices go on", "index.eq(0), total.eq(0)]", "total.eq(0)]"),
    ("counts go on", "index.eq(0), total.eq(0)]", "index.eq(0)]"),
    ("idle cycles are counted", "count.eq(Mux(valid, sum(broken), 0))", "count.eq(sum(broken))"),
    ("completion before the last count", "taken & left.last, 2, \"finish\"", "taken & left.last, 1, \"finish\""),
    ("places are given back twice", "after.eq(free + taken - took)", "after.eq(free + (taken << 1) - took)"),
]
LANE = [
    ("step up", "back = Cat(change[:31], ~change[31])", "back = change"),
    ("momentum of the sign", "first = Mux(self.lion, self._sign(mixed), g)", "first = Mux(self.lion, mixed, g)"),
    ("Lion decays the gradient", "second = Mux(self.lion, delay(", "second = Mux(0, delay("),
    ("decay of the next weight", 'MULTIPLY_LATENCY, "decay_late"', 'MULTIPLY_LATENCY - 1, "decay_late"'),
    ("Lion's gradient is decayed first", "Mux(self.lion, delay(m, g, SUM, \"g_whole\"), decayed)", "decayed"),
    ("the kept decay", "gradient = Mux(keep,", "gradient = Mux(~keep,"),
    ("the next weight's bit", 'times.gradient, "keep_late"', 'times.gradient - 1, "keep_late"'),
    ("pruned ones shrink to the next weight", "self.w), SUM, \"shrink\")", "self.w), SUM - 1, \"shrink\")"),
    ("the gradient is not weighed", 'fresh = self._times(m, "fresh", gradient) if build.lion else gradient',
     'fresh = delay(m, gradient, MULTIPLY_LATENCY if build.lion else 0, "fresh_late")'),
    ("the last weight's momentum", 'MULTIPLY_LATENCY, "old_late"', 'MULTIPLY_LATENCY + 1, "old_late"'),
    ("both momenta are weighed alike", 'self._times(m, "old_2", self.mom)', 'self._times(m, "old", self.mom) if 0 else old'),
    ("Lion's momentum is its mean", 'momentum = Mux(self.lion, self._sum(m, "mixed_2", old, fresh), mixed)',
     'momentum = Mux(0, self._sum(m, "mixed_2", old, fresh), mixed)'),
    ("Lion takes the mean as its step", "step = Mux(self.lion, decayed, delay(", "step = Mux(0, decayed, delay("),
    ("the next weight is moved", "times.weight - SUM, \"w_late\"", "times.weight - SUM - 1, \"w_late\""),
    ("the next momentum", "times.weight - times.mixed, \"momentum_late\"", "times.weight - times.mixed - 1, \"momentum_late\""),
    ("the copy is cut off", "self.copy.eq(round_bf16(self.weight))", "self.copy.eq(self.weight[16:])"),
    ("zeros' exponents are broken", "self.weight[23:31].all()", "self.weight[24:31].all()"),
    ("NaN has a sign", "Mux(value == CANONICAL_NAN, value,", "Mux(value == 0, value,"),
    ("0 has a sign", "Mux(value[:31].any(), Cat(Const(ONE, 31), value[31]), Const(0, 32))", "Cat(Const(ONE, 31), value[31])"),
    ("signs are positive", "Cat(Const(ONE, 31), value[31])", "Cat(Const(ONE, 31), Const(0, 1))"),
]
FILES = {"engine": ("update", ENGINE), "lane": ("update_lane", LANE)}
CASES = [(name, Mutant(f"{file}: {title}", f"hdl.nm_train.{file}", old, new)) for name, (file, faults) in FILES.items()
         for title, old, new in faults]
CASES.append(("keep", Mutant("update: every weight is kept alike", "hdl.nm_train.update", "operands[0].keep[index]",
                             "operands[0].keep[0]")))


@pytest.mark.parametrize("name", CHECKS)
def test_the_check_passes_without_a_fault(name):
    check(name)


@pytest.mark.parametrize("name, mutant", [pytest.param(*case, id=case[1].name, marks=[pytest.mark.slow] if index % 2 else [])
                                          for index, case in enumerate(CASES)])
def test_each_fault_is_seen(name, mutant):
    assert verdict(mutant, lambda: check(name)) is not None
