"""Deliberate faults in every block of the loader; a handful of jobs in pysim must show each."""

import numpy as np
import pytest

from sparseloom.models.formats.engines import Image, collect, pack
from sparseloom.models.golden.engines import draw_operands, results
from sparseloom.models.spec.engine import Status
from sparseloom.models.spec.nm_load import NmLoad
from sparseloom.models.spec.nm_load_plan import plan
from sparseloom.sim.mutants import Mutant, verdict
from sparseloom.sim.runner import Work

pytestmark = pytest.mark.rtl

BUILD = NmLoad(words=2, rows=4, slots=5, map_words=64, read_latency=1)
MODES = {"back_to_back": {"back_to_back": True}, "refusing": {"stall": 0.7, "back_to_back": True}}
CONVOLUTION = {"batch": 2, "height": 3, "width": 2, "channels": 40, "taps_y": 2, "taps_x": 2, "start_y": -1, "start_x": -1,
               "out_height": 3, "out_width": 3}
JOBS = [
    CONVOLUTION | {"repeats": 2},
    CONVOLUTION | {"order": "columns", "repeats": 2, "out_height": 2, "stride": 2},
    {"order": "transposed", "height": 3, "width": 6, "channels": 19, "repeats": 2},
    {"order": "columns", "width": 3, "channels": 20},
    {"width": 7, "channels": 3},
    {"batch": 5, "height": 2, "channels": 16, "taps_y": 3, "step": -1, "start_y": 2},
    {"width": 33, "channels": 16, "start_x": 64, "out_width": 3},
    {"order": "transposed", "width": 3, "channels": 3},
]


def check():
    from sparseloom.sim.pysim import PySimulator

    rng, works, wants = np.random.default_rng(1), [], []
    for shape in JOBS:
        job = BUILD.job(**shape)
        operands = draw_operands(BUILD, job, rng)
        works.append(Work(job, pack(BUILD, job, operands)))
        wants.append(results(BUILD, job, operands))
    usual = works[-1]
    refused = [Work(usual.job, Image({}, usual.image.buffers), values=values, beats={"w": 0})
               for values in BUILD.illegal_values()]
    for mode, options in MODES.items():
        receipts = PySimulator(BUILD).run([*works, *(refused if mode == "back_to_back" else ())], seed=1, **options)
        for index, (work, want, receipt) in enumerate(zip(works, wants, receipts[: len(works)], strict=True)):
            done = receipt.done
            got = collect(BUILD, work.job, receipt.outputs)
            assert np.array_equal(got["w"], want["w"]), (mode, work.job)
            stalls = [done[f"stall_{cause}"] for cause in "ixo"]
            assert done["status"] == Status.OK and done["cycles"] == done["busy"] + sum(stalls) and stalls[0] == 0
            if mode == "refusing":
                outside = work.job.start_x == 64
                assert (stalls[1] == 0) == outside and stalls[2] > 0, (work.job, stalls)
                assert done["busy"] <= BUILD.cycles(work.job), work.job
            else:
                late = index > 0
                assert done["cycles"] == BUILD.cycles(work.job) and sum(stalls) == 0, (mode, work.job)
                assert receipt.cycles == (BUILD.cycles_back_to_back if late else BUILD.cycles)(work.job), (mode, work.job)
        if mode == "refusing":
            # What one copy has accepted does not wait for the other to accept in the same cycle: 3.7 cycles a read, not 5.
            slow, reads = (sum(row) for row in zip(*((receipt.done["cycles"], plan(BUILD, work.job).beats)
                                                     for work, receipt in zip(works, receipts, strict=True)), strict=True))
            assert slow < 4.3 * reads, (slow, reads)
        assert [receipt.done["status"] for receipt in receipts[len(works) :]] == [Status.ILLEGAL] * (len(receipts) - len(works))


FAULTS = {
    "load_issue": [
        ("the last tile is as long as the others", "*slot.load(Mux(tiles.left == 2, job.last_slots, job.slots))",
         "*slot.load(job.slots)"),
        ("a tile's later rounds are as long as the last tile's", "*slot.load(Mux(tiles.last, job.last_slots, job.slots)), place",
         "*slot.load(job.last_slots), place"),
        ("one pass", "passes.load(job.passes), *tiles.advance()", "passes.load(1), *tiles.advance()"),
        ("the next tile has the places of this one", "*tiles.advance(), fresh.eq(1)", "*tiles.advance(), fresh.eq(0)"),
        ("every round is a tile's first", "place.eq(0), fresh.eq(0)", "place.eq(0)"),
        ("places go on from round to round", "place.eq(0), fresh.eq(0), *rounds", "fresh.eq(0), *rounds"),
        ("the inner walk never begins anew", "step.inner_end.eq(slot.last & tiles.last)", "step.inner_end.eq(0)"),
        ("the inner walk begins anew with each tile", "step.inner_end.eq(slot.last & tiles.last)",
         "step.inner_end.eq(slot.last)"),
        ("the outer walk never begins anew", "step.outer_end.eq(rounds.last)", "step.outer_end.eq(0)"),
        ("the outer walk goes on with each beat", "step.outer_move.eq(slot.last)", "step.outer_move.eq(1)"),
        ("no room is given back", "after.eq(free + self.back - go)", "after.eq(free + (self.back >> 1) - go)"),
        ("beats leave without room", "go.eq(running & room)", "go.eq(running)"),
        ("a transposition ends with its reads", "running.eq(job.turn), flushing.eq(1)", "running.eq(0), flushing.eq(1)"),
        ("what was in the transposer is a result", "primed & mine, mine", "mine, mine"),
        ("a tile's rows are always a block's first", "(place % blocks) // rows == before", "(place % blocks) // rows == 0"),
        ("a block leaves with the next tile's rows", "m.d.sync += before.eq(part)", "m.d.comb += before.eq(part)"),
        ("parts go on from repeat to repeat", "part.eq(Mux(tile_ends[1], 0, part + 1))", "part.eq(part + 1)"),
    ],
    "load_walk": [
        ("no carry into the middle digit", '"middle", lane, low, moves', '"middle", lane, 0, moves'),
        ("a carry comes too soon", 'carries = Cat(delay(m, low, 1, f"low_carry_{lane}"), middle)', "carries = Cat(low, middle)"),
        ("a digit reaches its limit", "over.eq(carried >= room)", "over.eq(carried > room)"),
        ("a digit keeps what is over", "Mux(over, carried - room, carried + step)", "Mux(over, 0, carried + step)"),
        ("words walk one behind the other", "return value[lane] if self.lanes > 1 else value",
         "return value[0] if self.lanes > 1 else value"),
        ("coordinates never return", "with m.If(self.start | moves[2] & agains[2])", "with m.If(self.start)"),
    ],
    "load_places": [
        ("later rounds have the places of the first beat", "read.addr.eq(place)", "read.addr.eq(0)"),
        ("places of a later beat are stored", "write.en.eq(fresh)", "write.en.eq(1)"),
        ("the map has no lower edge", "(y < job.height)", "(y <= job.height)"),
        ("the map has no upper edge", "inside[lane] = (y >= 0) & ", "inside[lane] = "),
        ("the map has no left edge", "& (x >= 0) ", ""),
        ("the map has no right edge", "& (x < job.width)", ""),
        ("words behind the walk's end are read", 'need.eq(Cat(inside) & alive)', "need.eq(Cat(inside))"),
        ("words end with a beat", "(left.left[:3] > lane)", "1"),
        ("the end comes a beat early", "~gone & (~left.last", "~gone & ~left.last & (~left.last"),
        ("words end once", "[*left.load(job.count), gone.eq(0)]", "[*left.load(job.count)]"),
    ],
    "load_fetch": [
        ("what was accepted is asked again", "done.eq(Mux(step, 0, done | asked))", "done.eq(0)"),
        ("what was accepted is never asked again", "done.eq(Mux(step, 0, done | asked))", "done.eq(done | asked)"),
        ("a beat does not wait for its words", "(~now.need | done | self.x_ready).all()",
         "(~now.need | done | self.x_ready).any()"),
        ("padding is what was read before", "Mux(need[lane], word, 0)", "word"),
        ("words do not wait for others of their beat",
         'delay(m, asked[lane], build.read_latency, f"come_{lane}", reset_less=False)', "1"),
        ("one copy's refusals are not counted", "(self.x_valid & ~self.x_ready).any()", "(self.x_valid & ~self.x_ready)[0]"),
        ("padding is asked for", "Mux(have, now.need & ~done, 0)", "Mux(have, ~done, 0)"),
    ],
    "load_turn": [
        ("blocks enter as rows alone", "columns.eq(~columns)", "columns.eq(columns)"),
        ("blocks leave as they came", "Mux(columns, cells[place][lane], cells[lane][place])",
         "Mux(columns, cells[lane][place], cells[place][lane])"),
        ("words of a beat change places", "value(row + words - WORD, column)", "value(WORD - 1 - row, column)"),
        ("a job begins where the one before left", "[*beats.load(WORD // words), columns.eq(0)]",
         "[*beats.load(1), columns.eq(0)]"),
    ],
    "load": [
        ("dropped beats are results", "results.i.valid.eq(fetch.valid & fetch.keep)", "results.i.valid.eq(fetch.valid)"),
        ("refused results are not counted", "shell.stall_o.eq(out.valid & ~out.ready)", "shell.stall_o.eq(0)"),
        ("refused reads are not counted", "shell.stall_x.eq(fetch.stall)", "shell.stall_x.eq(0)"),
        ("a job ends when its last beat is offered", "gone & results.o.payload.last", "out.valid & results.o.payload.last"),
        ("rounds of any length", "((job.slots <= build.places) & ", "("),
        ("no limit of y", "& (job.height <= build.map_words)", ""),
        ("no repeats", "& (job.repeats != 0)", ""),
        ("the last tile longer than the others", "& (job.last_slots <= job.slots)", ""),
    ],
}
"""By file: what is wrong, the text that says it right, the text in its place."""
MUTANTS = [Mutant(name, f"hdl.nm_train.{file}", old, new) for file, faults in FAULTS.items() for name, old, new in faults]
SLOW = [pytest.param(mutant, marks=pytest.mark.slow if index % 3 else ()) for index, mutant in enumerate(MUTANTS)]
"""A third of them is enough for every day."""


def test_unchanged_gates_pass():
    same = "m.submodules.shell = shell = JobShell(build)"
    assert verdict(Mutant("none", "hdl.nm_train.load", same, same), check) is None


@pytest.mark.parametrize("mutant", SLOW, ids=lambda mutant: mutant.name)
def test_mutant_is_killed(mutant):
    assert verdict(mutant, check) is not None
