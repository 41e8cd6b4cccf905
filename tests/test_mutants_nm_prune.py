"""Deliberate faults in every block of the N:M pruner; a handful of jobs in pysim must show each."""

from dataclasses import replace

import numpy as np
import pytest

from sparseloom.models.formats.engines import Image, collect, pack
from sparseloom.models.golden.engines import draw_operands, results
from sparseloom.models.spec.engine import Status
from sparseloom.models.spec.nm_pattern import PATTERNS
from sparseloom.models.spec.nm_prune import NmPrune
from sparseloom.sim.mutants import Mutant, verdict
from sparseloom.sim.runner import Work

pytestmark = pytest.mark.rtl

MODES = {"back_to_back": {"back_to_back": True}, "refusing": {"stall": 0.8}, "idle": {"idle": 0.4}}
BUILDS = {values: NmPrune(lanes=2, values=values, slots=5, max_n=24, max_k=33) for values in (1, 2, 4, 8, 16)}
WIDE = {values: replace(build, max_k=48) for values, build in BUILDS.items()}
SHAPES = [(21, 9), (11, 17), (1, 3), (12, 16), (3, 1), (23, 20)]


def jobs(build):
    """Every pattern, ragged and full shapes; beyond a group and beyond n there is rubbish. Then a NaN, and a job without one."""
    rng, works, wants = np.random.default_rng(3), [], []
    for at, (nnz, group) in enumerate((*PATTERNS, (4, 8), (2, 16), (2, 8), (1, 1))):
        n, k = SHAPES[at % len(SHAPES)]
        job = build.job(n=n, k=k, nnz=nnz, group=group)
        operands = draw_operands(build, job, rng)
        if at == len(PATTERNS) + 2:
            operands["w"][-1, -1] = np.nan
        image = pack(build, job, operands)
        # Of weights up to the end of the last group all that is 0 is beyond.
        whole = WIDE[build.values].job(n=n, k=-(-k // group) * group, nnz=nnz, group=group)
        ones = np.ones((n, whole.k), np.float32)
        image.streams["w"].view("<u4")[pack(WIDE[build.values], whole, {"w": ones}).streams["w"].view("<u4") == 0] = 0xFFFFFFFF
        works.append(Work(job, image))
        wants.append(results(build, job, operands))
    return works, wants


def check(values):
    from sparseloom.sim.pysim import PySimulator

    build = BUILDS[values]
    works, wants = jobs(build)
    usual = build.job_values(works[2].job)
    refused = [Work(works[0].job, Image({"w": works[0].image.streams["w"][:0]}, {}), values=usual | wrong, beats={"y": 0})
               for wrong in build.illegal_values()]
    for mode, options in MODES.items():
        receipts = PySimulator(build).run([*works, *refused], seed=1, **options)
        total = {cause: 0 for cause in ("stall_i", "stall_x", "stall_o")}
        for index, (work, want, receipt) in enumerate(zip(works, wants, receipts[: len(works)], strict=True)):
            done, got = receipt.done, collect(build, work.job, receipt.outputs)
            assert all(np.array_equal(got[name], want[name]) for name in got), (mode, work.job)
            nan = bool((want["values"] == 0x7FC0).any())
            assert (done["status"], done["saturated"]) == (Status.OVERFLOW if nan else Status.OK, 0), (mode, work.job)
            stalls = {cause: done[cause] for cause in total}
            assert done["cycles"] == done["busy"] + sum(stalls.values())
            late = done["cycles"] - build.cycles(work.job)
            if mode == "back_to_back":
                assert late == 0 and not any(stalls.values()), (mode, work.job, late)
                assert receipt.cycles == (build.cycles_back_to_back if index else build.cycles)(work.job)
            assert late >= 0 and (mode != "idle" or stalls["stall_i"] >= late), (mode, work.job, late, stalls)
            total = {cause: total[cause] + stalls[cause] for cause in total}
        counted = {cause for cause, cycles in total.items() if cycles}
        assert counted == {"refusing": {"stall_o"}, "idle": {"stall_i"}}.get(mode, set()), (mode, total)
        assert all(receipt.done["status"] == Status.ILLEGAL for receipt in receipts[len(works):]), mode


FAULTS = {
    (1, "prune_merge"): [
        ("later ones win ties", "mine.magnitude >= other.magnitude", "mine.magnitude > other.magnitude"),
        ("the smallest are kept", "mine.magnitude >= other.magnitude", "mine.magnitude <= other.magnitude"),
        ("without the lowest bit", "mine.magnitude >= other.magnitude", "mine.magnitude[1:] >= other.magnitude[1:]"),
        ("the sign is part of the magnitude", "mine.magnitude >= other.magnitude",
         "Value.cast(mine)[:32] >= Value.cast(other)[:32]"),
        ("the group before counts", "first[i, j] &= _bit(a_there[i])", "pass"),
    ],
    (4, "prune_merge"): [
        ("what lies beyond a group counts", "(mine.magnitude >= other.magnitude) | ~_bit(b_there)",
         "mine.magnitude >= other.magnitude"),
        ("of four choices two", "low = Mux(high, more[2], more[0])", "low = more[0]"),
        ("of three choices two", "Mux(high, choices[2], Mux(more[0],", "Mux(more[0], choices[2], Mux(more[0],"),
        ("b's next instead of its first", "b[min(place - i, len(b) - 1)]", "b[min(place - i + 1, len(b) - 1)]"),
    ],
    (2, "prune_lane"): [
        ("indices count beats", "one.index, number))", "number, one.index))"),
        ("beats of one weight fill the list", "number > rank // build.values", "number > rank"),
        ("weights are merged when none came", "with m.If(control.put):", "with m.If(1):"),
        ("by the list's order, not by index", "best[other].index < one.index", "best[other].index > one.index"),
        ("what is not kept has its turn", "Mux(kept[rank], sum(lower), MAX_NNZ - 1)", "sum(lower)"),
        ("what is not kept pushes others back", "kept[other] & (best[other].index", "(best[other].index"),
        ("truncated", "upper[:15] + up", "upper[:15] + 0"),
        ("ties round up", "(low[:15].any() | one.magnitude[16])", "1"),
        ("ties round down", "(low[:15].any() | one.magnitude[16])", "low[:15].any()"),
        ("infinity is no number", "nan = upper[7:15].all() & (upper[:7].any() | some)", "nan = upper[7:15].all()"),
        ("the sign is lost", "upper[:15] + up)[:15], upper[15])", "upper[:15] + up)[:15], 0 * upper[15])"),
        ("the next list takes this one's place", "with m.If(control.full):", "with m.If(1):"),
    ],
    (8, "prune_lane"): [
        ("four weights of a group of eight are those of the next beat",
         "Mux(there[rank], Value.cast(held[rank]), Value.cast(new[rank]))", "Value.cast(held[rank])"),
        ("two of a half matter", "2 if at * half >= MAX_GROUP // 2 else MAX_NNZ", "2"),
        ("a beat of a pair is of four", "self.control.over[max(0, level - 1)]", "self.control.over[max(0, level - 2)]"),
    ],
    (16, "prune_lane"): [
        ("halves of a group are of any group", "2, b_there=there), *map", "2), *map"),
        ("the lower half alone", "if half == MAX_GROUP // 2:\n                    values = [*merge(a[:2], b[:2], 2,",
         "if half == MAX_GROUP // 2:\n                    values = [*merge(a[:2], a[:2], 2,"),
    ],
    (4, "prune_intake"): [
        ("no pause for results", "waiting.eq(rest != 0)", "waiting.eq(0)"),
        ("a pause too long", "max(0, nnz - -(-group // build.values))", "max(0, nnz - -(-group // build.values) + 1)"),
        ("beats are taken without room", "(self.room | ~beats.last)", "1"),
        ("late weights are not counted", "self.stall.eq(source.ready & ~source.valid)", "self.stall.eq(0)"),
        ("groups begin at the beat before's number", "*beats.load(count), beat.eq(0), running", "*beats.load(count), running"),
        ("a job without end", "running.eq(~walk.last)", "running.eq(1)"),
        ("all patterns keep four", "(1 << nnz) - 1", "15"),
        ("results leave a cycle early", 'turn.any(), 2, "leaves"', 'turn.any(), 1, "leaves"'),
        ("lists are merged a cycle late", 'delay(m, took, sorted_at, "put"', 'delay(m, took, sorted_at + 1, "put"'),
    ],
    (1, "prune_walk"): [
        ("the last tile is full", "count = Mux(last, job.last_slots, build.slots)", "count = build.slots"),
        ("all tiles are the last", "enter(tiles.left == 2)", "enter(1)"),
        ("the last tile begins like one before", "enter(tiles.left == 2)", "enter(tiles.last)"),
        ("the first tile is never the last", "enter(job.tiles == 1)", "enter(0)"),
        ("one tile", "tiles.last & groups.last & slots.last", "groups.last & slots.last"),
        ("all slots have all columns", "Mux(left > build.lanes, left - build.lanes, 0)", "left"),
        ("columns wrap", "left.eq(Mux(left > build.lanes, left - build.lanes, 0))", "left.eq(left - build.lanes)"),
    ],
    (16, "prune_results"): [
        ("columns beyond n have values", "out.value[lane].eq(Mux(inside, value, 0))", "out.value[lane].eq(value)"),
        ("columns beyond n have indices", "out.index[lane].eq(Mux(inside, index, 0))", "out.index[lane].eq(index)"),
        ("columns beyond n are kept", "out.keep[lane].eq(Mux(inside, keep, 0))", "out.keep[lane].eq(keep)"),
        ("a NaN beyond n counts", "inside & value[6:15].all()", "value[6:15].all()"),
        ("infinity is told", "value[6:15].all()", "value[7:15].all()"),
        ("a NaN is told for ever", "self.nan.eq(0)", "self.nan.eq(self.nan)"),
        ("what the group before kept", "Mux(fresh, 0, out.keep[lane])", "out.keep[lane]"),
        ("turns are neighbours", "place.eq(place + walk.slots)", "place.eq(place + 1)"),
        ("slots begin where the last one ended", "place.eq(base + 1), base.eq(base + 1)",
         "place.eq(place + 1), base.eq(base + 1)"),
        ("groups begin where the first did", "place.eq(place + 1), base.eq(place + 1)", "place.eq(place + 1), base.eq(base + 1)"),
        ("jobs begin where the last one ended", "place.eq(0), base.eq(0)", "place.eq(place), base.eq(base)"),
        ("places are not given back", "after.eq(free + leave - ", "after.eq(free - "),
        ("a group takes one place", "Mux(self.took, nnz, 0)", "self.took"),
        ("room for two", "after >= MAX_NNZ", "after >= 2"),
        ("refused results are not counted", "self.stall.eq(out.valid & ~out.ready)", "self.stall.eq(0)"),
        ("results are overwritten", "queue.o.ready.eq(~out.valid | out.ready)", "queue.o.ready.eq(1)"),
        ("one turn", "walk.step.eq(leave & turns.last)", "walk.step.eq(leave)"),
        ("done with the last group's first", "last.eq(walk.last & turns.last)", "last.eq(walk.last)"),
    ],
    (2, "prune"): [
        ("any rest", "within(job.rest, build.tile_columns)", "(job.rest != 0)"),
        ("any number of tiles", "within(job.tiles, build.max_tiles)", "(job.tiles != 0)"),
        ("no groups", "within(job.groups, build.max_k)", "(job.groups <= build.max_k)"),
        ("any slots", "& (job.last_slots <= build.slots)", ""),
        ("few slots", "(job.last_slots >= MIN_SLOTS) &", ""),
        ("any pattern", "& (job.pattern < len(PATTERNS))", ""),
        ("weights of lanes in turn", "number * build.values + at", "at * build.lanes + number"),
        ("no status for NaN", "shell.overflow.eq(results.nan)", "shell.overflow.eq(0)"),
    ],
}
"""By ``values`` and file: what is wrong, the text that says it right, the text in its place."""
MUTANTS = [(values, Mutant(name, f"hdl.nm_train.{file}", old, new))
           for (values, file), faults in FAULTS.items() for name, old, new in faults]


@pytest.mark.parametrize("values", BUILDS)
def test_unchanged_gates_pass(values):
    same = "m.submodules.shell = shell = JobShell(build)"
    assert verdict(Mutant("none", "hdl.nm_train.prune", same, same), lambda: check(values)) is None


@pytest.mark.parametrize("values, mutant", [
    pytest.param(values, mutant, id=f"{values}-{mutant.name}", marks=[pytest.mark.slow] if index % 3 else [])
    for index, (values, mutant) in enumerate(MUTANTS)])
def test_mutant_is_killed(values, mutant):
    assert verdict(mutant, lambda: check(values)) is not None
