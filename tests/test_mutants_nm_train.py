"""Deliberate faults in every block of the N:M training array; a handful of jobs in pysim must show each."""

import numpy as np
import pytest

from sparseloom.models.formats.bf16 import to_bf16
from sparseloom.models.formats.engines import Image, collect, pack
from sparseloom.models.golden.engines import draw_operands, results
from sparseloom.models.spec.engine import Status
from sparseloom.models.spec.nm_train import NmTrain
from sparseloom.sim.mutants import Mutant, verdict
from sparseloom.sim.runner import Work

pytestmark = pytest.mark.rtl

BUILD = NmTrain(rows=4, cols=2, slots=8, words=1, ws_rows=14, max_m=14, max_n=21, max_k=144)
JOBS = [
    {"m": 5, "n": 3, "k": 18}, {"m": 5, "n": 20, "k": 20, "nnz": 2, "group": 8, "narrow": True}, {"m": 1, "n": 1, "k": 1},
    {"m": 6, "n": 2, "k": 33, "nnz": 2, "group": 16},
    {"m": 5, "n": 3, "k": 7, "nnz": 2, "group": 4, "dataflow": "ws"}, {"m": 1, "n": 20, "k": 2, "dataflow": "ws"},
    {"m": 2, "n": 15, "k": 40, "nnz": 4, "group": 8, "dataflow": "ws", "narrow": True}, {"m": 10, "n": 2, "k": 3},
    {"m": 14, "n": 2, "k": 144, "nnz": 2, "group": 16, "dataflow": "ws"}, {"m": 7, "n": 21, "k": 1},
]
"""Both data flows, every layout of a period's words; several tiles of columns, of rows, of k; ragged ones; the least job."""
MODES = {"free": (range(9), {"back_to_back": True}), "refusing": ((9, 8), {"stall": 0.95}), "late": ((1, 6, 4), {"idle": 0.6}),
         "starved": ((5,), {"idle": 0.95}), "after a reset": ((4,), {})}


def operands_of(index, job, rng):
    """Numbers that show every mistake, not finite in the first job alone: NaN would hide others."""
    operands = draw_operands(BUILD, job, rng)
    padding = operands["values"].view(np.uint16) == 0
    for name in ("a", "values"):
        operands[name] = to_bf16(rng.standard_normal(operands[name].shape).astype(np.float32))
    operands["values"][padding] = 0
    if index == 0:
        operands["a"].view(np.uint16)[1, 2] = 0x7F80
    return operands


def check():
    from sparseloom.sim.pysim import PySimulator

    rng, works, wants = np.random.default_rng(1), [], []
    for index, shape in enumerate(JOBS):
        job = BUILD.job(**shape)
        operands = operands_of(index, job, rng)
        works.append(Work(job, pack(BUILD, job, operands)))
        wants.append(results(BUILD, job, operands))
    empty = {stream.name: np.zeros((0, stream.record.bytes), np.uint8) for stream in BUILD.inputs}
    refused = [Work(works[2].job, Image(empty, {}), values=values, beats={"y": 0})
               for values in ({"m": BUILD.max_m + 1}, {"n": 0}, {"k": BUILD.max_k + 1}, {"k_tiles": 0}, {"pattern": 6})]
    for mode, (chosen, options) in MODES.items():
        simulator = PySimulator(BUILD)
        if mode == "after a reset":
            simulator.reset_mid_job(works[4], BUILD.cycles(works[4].job) - 20)
        receipts = simulator.run([*(works[i] for i in chosen), *(refused if mode == "free" else ())], seed=1, **options)
        for place, (index, receipt) in enumerate(zip(chosen, receipts[: len(chosen)], strict=True)):
            job, done = works[index].job, receipt.done
            got = collect(BUILD, job, receipt.outputs)
            assert np.array_equal(got["y"], wants[index]["y"]), (mode, job)
            assert done["status"] == Status.OK and done["saturated"] == done["stall_x"] == 0, (mode, job)
            assert done["cycles"] == done["busy"] + done["stall_i"] + done["stall_o"]
            assert (done["stall_i"] > 0, done["stall_o"] > 0) == (mode in ("late", "starved"), mode == "refusing"), (mode, job)
            assert done["busy"] <= BUILD.cycles(job), (mode, job)
            if mode == "free":
                assert done["cycles"] == BUILD.cycles(job), job
                assert receipt.cycles == (BUILD.cycles_back_to_back if place else BUILD.cycles)(job), job
        assert [receipt.done["status"] for receipt in receipts[len(chosen) :]] == [Status.ILLEGAL] * (len(receipts) - len(chosen))


FAULTS = {
    "pe": [
        ("values go to the half at work", "value_in.addr.eq(Cat(step.address, ~step.half))",
         "value_in.addr.eq(Cat(step.address, step.half))"),
        ("indices are not looked at", "Cat(step.base | chosen[16:], step.half)", "Cat(step.base, step.half)"),
        ("chunks of A have one group", "Cat(step.base | chosen[16:], step.half)", "Cat(chosen[16:], step.half)"),
        ("every row takes the weights", "weight.load & (weight.row == self.own)", "weight.load"),
        ("weights never stay", "chosen.eq(Mux(self.ws, stored.data, moving))", "chosen.eq(moving)"),
        ("sums begin anywhere", "Mux(zero, Const(0, 32), Mux(above", "Mux(Const(0), Const(0, 32), Mux(above"),
        ("sums do not come down", "Mux(above, self.above, base.data)", "base.data"),
        ("tiles share their sums", "here = Cat(order.slot, order.parity)", "here = Cat(order.slot, Const(0, 1))"),
        ("bubbles are added up", "put.en.eq(delay(m, go, FloatAdd.LATENCY", "put.en.eq(1 | delay(m, go, FloatAdd.LATENCY"),
        ("all rows drain at once", "with m.If(order.row == self.own):", "with m.If(1):"),
    ],
    "row": [
        ("words of another beat", "& (self.words.beat == beat) &", "&"),
        ("words overwrite those before", "& (self.words.half == half)", ""),
        ("a value too few", "left.eq(Mux(command.take, count, 0))", "left.eq(Mux(command.take, count - 1, 0))"),
        ("lower rows begin from nothing", "(~self.ws | (self.row == 0))", "1"),
        ("all rows change their weights at once", "self.token_out.eq(token)", "self.token_out.eq(self.token)"),
    ],
    "array": [
        ("a column's sums come early", 'delay(m, self.sums[j], j, f"sums_{j}")', "self.sums[j]"),
        ("weights come to all columns at once", 'delay(m, there.values[j], j, f"value_{j}")', "there.values[j]"),
        ("results are not lined up", 'delay(m, out.sum, build.cols - 1 - j, f"out_{j}")', "out.sum"),
    ],
    "sequence": [
        ("a chunk is always full", "Mux(k_left < 16, k_left[:5], 16)", "16"),
        ("a group's rest is cut off", "+ ((1 << group_bits(job)) - 1)) >>", ") >>"),
        ("tiles of columns begin alike", "column.eq(column + build.tile_columns)", "column.eq(column)"),
        ("tiles of rows begin alike", "row.eq(row + by_rows)", "row.eq(row)"),
        ("a last tile has too few slots", "Mux(used < MIN_SLOTS, MIN_SLOTS, used)", "used"),
        ("other slots need no pause", "length.eq(block + build.gap)", "length.eq(Mux(block < build.gap, build.gap, block))"),
        ("sums are not waited for", "length.eq(Mux(block < build.gap, build.gap, block))", "length.eq(block)"),
        ("waiting periods have results", "o.valid.eq(~tail & (at < block))", "o.valid.eq(~tail)"),
        ("results of every tile leave", "o.out.eq(last_k), o.row.eq(row + at)", "o.out.eq(1), o.row.eq(row + at)"),
        ("a period too few at the end", "left.eq(Mux(job.ws, build.rows + 1, 1))", "left.eq(Mux(job.ws, build.rows, 1))"),
    ],
    "intake": [
        ("beats are taken for nobody", "self.ready.eq(self.i.valid & self.i.payload.takes &", "self.ready.eq(self.i.valid &"),
        ("missing beats are not counted", "self.stall.eq(self.ready & ~self.valid)", "self.stall.eq(0)"),
        ("one half for all words", "half.eq(~half)]", "half.eq(0)]"),
    ],
    "loader": [
        ("weights overwrite those at work", "(fresh | (begun > self.row))", "1"),
        ("rows begin before their weights", "(lead > 0) | ((lead == 0) & (self.row != 0))", "1"),
        ("lower rows begin before their weights", "(lead >= 0) | (self.row > begun) | (begun == build.rows)", "1"),
        ("weights are loaded once", "running.eq(columns > build.tile_columns)", "running.eq(0)"),
        ("one half for all weights", "self.row.eq(0), half.eq(~half)", "self.row.eq(0), half.eq(half)"),
    ],
    "issue": [
        ("steps do not wait for weights", "go.eq(active & (job.ws | self.b_valid))", "go.eq(active)"),
        ("values are not waited for", "& (gap == 0) & ready", "& ready"),
        ("tiles do not wait for room", "~self.next.opens | self.free", "1"),
        ("groups of a chunk lie in one place", "base.eq(base + (1 << group_bits(job)))", "base.eq(base)"),
        ("one group a step", "+ (1 << group_bits(job))), *place.load(1 << nnz_bits(job))]",
         "+ (1 << group_bits(job))), *place.load(1)]"),
        ("what is left of a job runs on", "with m.If(self.stop):", "with m.If(0):"),
    ],
    "retire": [
        ("results leave too soon", "_SETTLE = 6", "_SETTLE = 5"),
        ("sums are replaced first", "_REPLACED = 4", "_REPLACED = 7"),
        ("sums are not made yet", "_REPLACED = 4", "_REPLACED = 0"),
        ("rows beyond the job have results", "(row == tile.rows - 1)", "(row == build.rows - 1)"),
        ("slots without columns have results", "(slot < Mux(now.out, now.used, now.slots))", "(slot < now.slots)"),
        ("tiles drain from one parity", "row.eq(0), parity.eq(~parity)", "row.eq(0), parity.eq(parity)"),
        ("results come before the first", "old.valid.eq(read.data.valid & (ahead == 0))", "old.valid.eq(read.data.valid)"),
    ],
    "results": [
        ("narrow results are cut off", "Mux(job.narrow, round_bf16(beat[j]), beat[j])", "Mux(job.narrow, beat[j][16:], beat[j])"),
        ("lanes beyond n are full", "Mux(columns > j, Mux(job.narrow", "Mux(1, Mux(job.narrow"),
        ("sums wait in one place", "put.eq(write.addr + 1)", "put.eq(write.addr)"),
        ("sums are read from the last place", "read.addr.eq(Mux(self.again, 0, get))", "read.addr.eq(get)"),
        ("refused results are not counted", "self.stall.eq(queue.o.valid & ~self.o_y.ready)", "self.stall.eq(0)"),
        ("a job ends before its results", "self.empty.eq(under_way == 0)", "self.empty.eq(1)"),
    ],
    "engine": [
        ("any pattern", "& (job.pattern < len(PATTERNS))", ""),
        ("any rows", "within(job.m, build.max_m) &", ""),
        ("missing weights are not counted", "| issue.stall |", "|"),
    ],
}
"""By file: what is wrong, the text that says it right, the text in its place."""
MUTANTS = [Mutant(name, f"hdl.nm_train.{file}", old, new) for file, faults in FAULTS.items() for name, old, new in faults]


def test_unchanged_gates_pass():
    same = "m.submodules.shell = shell = JobShell(build)"
    assert verdict(Mutant("none", "hdl.nm_train.engine", same, same), check) is None


@pytest.mark.parametrize("index", [pytest.param(i, id=mutant.name, marks=[] if i % 6 == 0 else [pytest.mark.slow])
                                   for i, mutant in enumerate(MUTANTS)])
def test_mutant_is_killed(index):
    assert verdict(MUTANTS[index], check) is not None
