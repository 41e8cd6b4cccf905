"""Deliberate faults in every block of the vector engine; a handful of jobs in pysim must show each."""

import numpy as np
import pytest

from sparseloom.models.formats.engines import Image, collect, pack
from sparseloom.models.golden.engines import draw_operands, results
from sparseloom.models.spec.engine import Status
from sparseloom.models.spec.vector import Vector
from sparseloom.sim.mutants import Mutant, verdict
from sparseloom.sim.runner import Work

pytestmark = pytest.mark.rtl

FREE = {"free": {}}
REFUSING = FREE | {"refusing": {"stall": 0.6, "back_to_back": True}, "idle": {"idle": 0.4}}


def small(rng, build, job, operands):
    """Rows of small integers, which round, tie and do not clamp."""
    operands["x"] = rng.integers(-40, 40, operands["x"].shape).astype(np.int32)


def weighed(rng, build, job, operands):
    """The same, and weights that leave ties."""
    small(rng, build, job, operands)
    operands["beta"] = rng.integers(-50, 50, job.k).astype(np.int32)
    if "gamma" in operands:
        operands["gamma"] = rng.integers(-200, 200, job.k).astype(np.int16)


def negative(rng, build, job, operands):
    """All of a row below 0."""
    operands["x"] = -rng.integers(1, 40, operands["x"].shape).astype(np.int32)


def wide(rng, build, job, operands):
    """int32 of all magnitudes, as they are drawn."""


def large(rng, build, job, operands):
    """int32 of the largest magnitudes."""
    operands["x"] = rng.integers(-(1 << 31), 1 << 31, operands["x"].shape).astype(np.int32)


def build(function, **more):
    return Vector(**{"function": function, "lanes": 2, "max_m": 4, "max_k": 9} | more)


JOBS = {
    "gelu": (build("gelu", max_m=60, lanes=3), REFUSING, [
        ({"m": 60, "k": 7, "in_multiplier": 3000, "out_multiplier": 3, "out_shift": 2}, small),
        ({"m": 2, "k": 9, "in_multiplier": 40000, "out_shift": 12, "narrow": True}, small),
        ({"m": 1, "k": 4, "in_multiplier": 7}, large), ({"m": 2, "k": 4}, large)]),
    "sigmoid": (build("sigmoid"), FREE, [({"m": 4, "k": 9, "in_multiplier": 1500}, small), ({"m": 2, "k": 9}, large)]),
    "exp2": (build("exp2"), FREE, [({"m": 4, "k": 9, "in_multiplier": 450}, small), ({"m": 2, "k": 9, "in_shift": 10}, large)]),
    "rsqrt": (build("rsqrt", narrow=False), FREE, [
        ({"m": 4, "k": 9}, small), ({"m": 4, "k": 9}, wide), ({"m": 4, "k": 9, "out_multiplier": 3001, "out_shift": 16}, small)]),
    "layernorm": (build("layernorm", max_m=8, read_latency=3), REFUSING, [
        ({"m": 8, "k": 1, "eps": 3, "out_shift": 1}, weighed), ({"m": 3, "k": 9, "shift": 20}, weighed),
        ({"m": 2, "k": 5, "shift": 21, "eps": 9000}, weighed), ({"m": 4, "k": 8, "shift": 22, "narrow": True}, wide)]),
    "rows": (build("rmsnorm", lanes=1, max_m=160, max_k=100), FREE | {"refusing": {"stall": 0.85}}, [
        ({"m": 160, "k": 1}, weighed)]),
    "beats": (build("rmsnorm", max_m=4, max_k=120), REFUSING, [({"m": 4, "k": 119, "shift": 21}, weighed)]),
    "shiftmax": (build("shiftmax", max_m=100, lanes=3), FREE | {"refusing": {"stall": 0.7}}, [
        ({"m": 100, "k": 2, "unit": 5}, small), ({"m": 4, "k": 7, "unit": 16}, small), ({"m": 4, "k": 9, "unit": 32000}, wide),
        ({"m": 3, "k": 8, "unit": 9}, negative)]),
    "shiftgelu": (build("shiftgelu"), FREE, [
        ({"m": 4, "k": 9, "unit": 19}, small), ({"m": 3, "k": 5, "unit": 30}, negative),
        ({"m": 2, "k": 4, "unit": 1}, negative), ({"m": 2, "k": 4, "unit": 7}, wide)]),
    "ilayernorm": (build("ilayernorm"), FREE, [
        ({"m": 3, "k": 4, "out_shift": 3}, weighed), ({"m": 1, "k": 9}, large), ({"m": 2, "k": 7}, weighed)]),
}


def check(name):
    from sparseloom.sim.pysim import PySimulator

    build, modes, shapes = JOBS[name]
    rng, works, wants = np.random.default_rng(1), [], []
    for shape, change in shapes:
        job = build.job(**shape)
        operands = draw_operands(build, job, rng)
        change(rng, build, job, operands)
        works.append(Work(job, pack(build, job, operands)))
        wants.append(results(build, job, operands))
    bare = Image({"x": works[0].image.streams["x"][:0]}, works[0].image.buffers)
    illegal = Work(works[0].job, bare, values={"m": build.max_m + 1}, beats={"y": 0})
    for mode, options in modes.items():
        *receipts, refused = PySimulator(build).run([*works, illegal], seed=1, **options)
        assert refused.done["status"] == Status.ILLEGAL
        for work, want, receipt in zip(works, wants, receipts, strict=True):
            assert (collect(build, work.job, receipt.outputs)["y"] == want["y"]).all(), (mode, work.job)
            done = receipt.done
            stalls = [done[f"stall_{cause}"] for cause in "ixo"]
            assert (done["saturated"], done["status"]) == (want["saturated"], Status.OK), (mode, work.job)
            assert done["cycles"] == done["busy"] + sum(stalls)
            late = done["cycles"] - build.cycles(work.job)
            assert late == 0 if mode == "free" else late >= 0, (mode, late, work.job)
            assert stalls[1:] == [0, 0] and stalls[0] >= late if mode == "idle" else stalls[0] == 0, (mode, stalls)
        for cause in ["stall_o"] + ["stall_x"] * build.weighted:
            assert any(receipt.done[cause] for receipt in receipts) == (mode == "refusing"), (mode, cause)


FAULTS = {
    ("gelu", "interpolate"): [
        ("lines end where they begin", "start + product", "start"),
        ("steps of the argument a cycle early", 'self.i[:step], 2, "along"', 'self.i[:step], 1, "along"'),
    ],
    ("gelu", "rectified"): [
        ("a bump for every argument", "far.eq(size >= self.table.reach)", "far.eq(0)"),
        ("relu without its sign", "positive.eq(Mux(self.i[-1], 0, self.i))", "positive.eq(self.i[:-1])"),
    ],
    ("sigmoid", "sigmoid"): [
        ("no reflection", "EXP_ONE - y, y)", "y, y)"),
        ("far arguments have a line", "far.eq(size >= SIGMOID.reach)", "far.eq(0)"),
    ],
    ("exp2", "exp2"): [
        ("shifts of four are lost", "(places & -1 << _COARSE)", "(places & 8)"),
        ("rounded down", "(rest + 1) >> 1", "rest >> 1"),
        ("far arguments have a value", "far.eq(self.i[EXP_FRACTION:] >= EXP_REACH)", "far.eq(0)"),
    ],
    ("rsqrt", "interpolate"): [
        ("rounded down", "Const(1 << step - 1, step)", "Const(0, step)"),
    ],
    ("rsqrt", "round_shift"): [
        ("what the first stage drops is forgotten", "lost.eq(fallen | before)", "lost.eq(fallen)"),
    ],
    ("rsqrt", "mantissa"): [
        ("a mantissa of 2**17 is 0", "rounded[-2] | full", "rounded[-2]"),
        ("a full mantissa keeps its shift", "(place >> self.halvings) - full", "(place >> self.halvings)"),
        ("0 has a root", "some = delay(m, normal.some, INTERPOLATE_LATENCY + 1, \"some\")", "some = 1"),
        ("places a cycle early", "normal.place, INTERPOLATE_LATENCY + 1,", "normal.place, INTERPOLATE_LATENCY,"),
    ],
    ("rsqrt", "normalise"): [
        ("places count from the other end", "found.eq(before - times * step)", "found.eq(before)"),
        ("the whole number is the rest", "value[width - 1 - NORMAL_BITS : width - 1]", "value[width - NORMAL_BITS : width]"),
    ],
    ("rsqrt", "elementwise"): [
        ("negative numbers have a root", "gates.i.eq(Mux(t[-1], 0, t[:31]))", "gates.i.eq(t[:31])"),
    ],
    ("gelu", "elementwise"): [
        ("clamped arguments are not counted", "early.eq(Mux(put, sum(over), 0))", "early.eq(0)"),
    ],
    ("gelu", "round_shift"): [
        ("ties round up", "(below | fine[1])", "1"),
        ("ties round down", "(below | fine[1])", "below"),
    ],
    ("gelu", "rescale"): [
        ("clamps to the other end", "Mux(shift.y[-1], -(1 << bits), (1 << bits) - 1)",
         "Mux(shift.y[-1], (1 << bits) - 1, -(1 << bits))"),
        ("narrow results are wide", "m.d.comb += bounded(7)", "m.d.comb += bounded(8)"),
    ],
    ("gelu", "intake"): [
        ("a row's last beat is dropped", "running.eq(~rows.last)", "running.eq(rows.left > 2)"),
        ("late operands are not counted", "self.stall.eq(source.ready & ~source.valid)", "self.stall.eq(0)"),
        ("taken without room", "running & self.room", "running"),
    ],
    ("sigmoid", "results"): [
        ("what lies beyond a row is delivered", "Mux(inside, self.y[lane], 0)", "self.y[lane]"),
    ],
    ("gelu", "results"): [
        ("clamped results are not counted", "Mux(put, sum(over), 0) + self.early", "self.early"),
        ("credit for all", "self.credit.eq(after.any())", "self.credit.eq(1)"),
        ("credit is not given back", "after.eq(free + taken - self.issued)", "after.eq(free - self.issued)"),
        ("finished a beat too soon", "taken & rows.last & beats.last", "taken & rows.last"),
        ("refused results are not counted", "self.stall.eq(out.valid & ~out.ready)", "self.stall.eq(0)"),
    ],
    ("rows", "row_memory"): [
        ("rows without end", "after.any() & rows_after.any()", "after.any()"),
    ],
    ("layernorm", "row_memory"): [
        ("statistics stay for a row too long", "rows.o.ready.eq(self.go & beats.last)", "rows.o.ready.eq(self.go & first)"),
        ("words a cycle early", 'delay(m, read.data, later, "data")', 'delay(m, read.data, later - 1, "data")'),
        ("weights of the next row", "self.beat.eq(self.beat + 1)", "self.beat.eq(self.beat)"),
    ],
    ("beats", "row_memory"): [
        ("beats without end", "after.any() & rows_after.any()", "rows_after.any()"),
    ],
    ("layernorm", "row_sums"): [
        ("rows run into each other", "Mux(first, 0, self.total) +", "self.total +"),
        ("squares run into each other", "Mux(first, 0, self.squares) +", "self.squares +"),
    ],
    ("layernorm", "multiply"): [
        ("the upper part a chunk too low", "high << above - at", "high << above - at - 1"),
        ("the sign of a factor is lost", "chunk.as_signed() if b.shape().signed and at + _CHUNK >= len(b) else chunk", "chunk"),
    ],
    ("layernorm", "norm"): [
        ("no eps", "difference + self.job.eps", "difference"),
        ("the mean stays", "scaled[: build.sum_width].as_signed() - delay", "scaled[: build.sum_width].as_signed() - 0 * delay"),
        ("gamma a cycle early", 'delay(m, gamma, at, f"gamma', 'delay(m, gamma, at - 1, f"gamma'),
        ("beta is subtracted", "weighted.y + delay", "weighted.y - delay"),
        ("k without the last beat", "(job.beats - 1) * build.lanes + job.tail", "job.beats * build.lanes"),
        ("refused reads are not counted", "self.stall.eq(weight.valid & ~weight.ready)", "self.stall.eq(0)"),
    ],
    ("shiftmax", "row_max"): [
        ("what lies beyond a row counts", "Mux(self.inside[lane], self.x[lane], _LEAST)", "self.x[lane]"),
        ("the smallest", "pair[0] > pair[-1]", "pair[0] < pair[-1]"),
        ("of all rows so far", '(delay(m, self.first, level, "first") | ', "("),
    ],
    ("shiftmax", "shift_exp"): [
        ("sixteenths round down", "less.eq((t + 15) >> 4)", "less.eq(t >> 4)"),
        ("halves round down", "(t + 1) >> 1", "t >> 1"),
        ("no limit", "Mux(distance > most, most, distance[:width])", "distance[:width]"),
        ("the half is lost", "(self.unit << 1) - rest", "(self.unit << 1) - (rest & ~1)"),
        ("a unit less fits", "fits.eq(rest >= self.unit << bit)", "fits.eq(rest > self.unit)"),
    ],
    ("shiftgelu", "shift_exp"): [
        ("positive arguments have no answer", "offset.eq(self.unit * self.ahead)", "offset.eq(0)"),
        ("answers wrap", "(1 << _BITS) - 1, kept)", "kept, kept)"),
    ],
    ("shiftmax", "full_over"): [
        ("2**31 is divided", "now = Cat(Const(1, 1), rest) if stage", "now = Cat(Const(0, 1), rest) if stage"),
        ("the rest is negative", "fits.eq(now >= divisor)", "fits.eq(now > divisor)"),
    ],
    ("shiftmax", "shiftmax"): [
        ("sums wrap", "limited.eq(Mux(total > _FULL, _FULL, total))", "limited.eq(total)"),
        ("what lies beyond a row is summed", "Mux(inside, exp.e, 0)", "exp.e"),
        ("exponentials without room", "rows.offers & exps.room", "rows.offers"),
        ("results without credit", "exps.offers & self.credit", "exps.offers"),
        ("a bit too many", "product[_DROPPED:_EXP_BITS]", "product[_DROPPED - 1 : _EXP_BITS]"),
    ],
    ("shiftgelu", "shiftgelu"): [
        ("sums wrap", "limited.eq(Mux(total[-1], _FULL, total[:_EXP_BITS]))", "limited.eq(total[:_EXP_BITS])"),
        ("the next row's base", 'm, most.most, base.latency, "most_late"', 'm, most.most, base.latency - 1, "most_late"'),
        ("x of a neighbour", 'delay(m, x, at, f"x_{lane}")', 'delay(m, x, at - 1, f"x_{lane}")'),
    ],
    ("ilayernorm", "root"): [
        ("nine steps", "_STEPS, _START_BIT, _FULL = 10,", "_STEPS, _START_BIT, _FULL = 9,"),
        ("from 2**15", "_STEPS, _START_BIT, _FULL = 10, 16,", "_STEPS, _START_BIT, _FULL = 10, 15,"),
        ("a tie of the mean rounds up", "((twice == self.count) & odd)", "(twice == self.count)"),
        ("a mean that rounds down", "((twice > self.count) | ((twice == self.count) & odd))", "0"),
        ("the variance about 0", "sums.squares - product", "sums.squares"),
        ("a step without its rest", "wide = Signal(), Signal(len(self.rest) + 1)", "wide = Signal(), Signal(1)"),
    ],
    ("ilayernorm", "ilayernorm"): [
        ("clamped elements are not counted", "early.eq(Mux(self.put, sum(over), 0))", "early.eq(0)"),
        ("clamps to the other end", "Mux(x[-1], -top, top - 1)", "Mux(x[-1], top - 1, -top)"),
        ("the whole is delivered", "product[1:32]", "product[0:31]"),
    ],
    ("layernorm", "engine"): [
        ("illegal jobs are run", "return (value != 0) & (value <= most)", "return value != 0"),
        ("rows end a beat late", 'stage.y_last, RESCALE_LATENCY, "last"', 'stage.y_last, RESCALE_LATENCY + 1, "last"'),
    ],
}
"""By jobs and file: what is wrong, the text that says it right, the text in its place."""
MUTANTS = [(jobs, Mutant(name, f"hdl.vector.{file}", old, new))
           for (jobs, file), faults in FAULTS.items() for name, old, new in faults]


@pytest.mark.parametrize("name", JOBS)
def test_unchanged_gates_pass(name):
    same = "m.submodules.results = results = Results(build)"
    assert verdict(Mutant("none", "hdl.vector.engine", same, same), lambda: check(name)) is None


@pytest.mark.parametrize("name, mutant", MUTANTS, ids=lambda value: value.name if isinstance(value, Mutant) else value)
def test_mutant_is_killed(name, mutant):
    assert verdict(mutant, lambda: check(name)) is not None
