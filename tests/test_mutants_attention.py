"""Deliberate faults in every block of the attention engine; a handful of jobs in pysim must show each."""

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component, connect, flipped

from sparseloom.models.formats.engines import Image, collect, pack
from sparseloom.models.golden.engines import draw_operands, results
from sparseloom.models.spec.attention import Attention
from sparseloom.models.spec.engine import Status
from sparseloom.sim.mutants import Mutant, verdict
from sparseloom.sim.runner import Work

pytestmark = pytest.mark.rtl

TINY = {"p": 2, "d_lanes": 4, "max_queries": 6, "max_keys": 40, "max_d": 8, "max_heads": 2}
BUILDS = {
    "online": Attention(**TINY, block_sparse=True),
    "two_pass": Attention(**TINY, score="two_pass"),
    "sigmoid": Attention(**TINY, score="sigmoid"),
    "shiftmax": Attention(**TINY, score="shiftmax"),
    # A result a step: full queues.
    "queues": Attention(p=2, d_lanes=4, max_queries=160, max_keys=2, max_d=4, max_heads=1),
}
TIES, HALVES, WEIGHTS, FAR, NEAR, CLAMPS = "ties", "halves", "weights", "far", "near", "clamps"
"""Operands made for one thing: ties of scores, results, weights; a maximum that rises by 31 or 40 octaves; clamped scores."""
CAUSAL = [
    {"queries": 5, "keys": 6, "d": 8, "heads": 2, "kv_heads": 1, "causal": True},
    {"queries": 6, "keys": 5, "d": 4, "causal": True, "window": 2, "fraction": 12},
    {"queries": 3, "keys": 1, "d": 5, "heads": 2},
]
JOBS = {
    "online": [
        *CAUSAL,
        {"queries": 3, "keys": 33, "d": 4, "heads": 2, "block": 16, "blocks": ((0, 2), (1,))},
        {"queries": 1, "keys": 1, "d": 4, "fraction": 0, "draw": HALVES},
        {"queries": 1, "keys": 1, "d": 4, "fraction": 12, "draw": WEIGHTS},
        {"queries": 1, "keys": 2, "d": 4, "fraction": 12, "shift": 17, "draw": TIES},
        {"queries": 1, "keys": 2, "d": 4, "fraction": 12, "shift": 17, "draw": FAR},
        {"queries": 1, "keys": 2, "d": 4, "fraction": 12, "shift": 17, "draw": NEAR},
        {"queries": 2, "keys": 3, "d": 8, "shift": 17, "draw": CLAMPS},
    ],
    "two_pass": [*CAUSAL, {"queries": 5, "keys": 9, "d": 8, "fraction": 12}],
    "sigmoid": [{"queries": 5, "keys": 6, "d": 8, "heads": 2, "causal": True, "bias": -3000}],
    "shiftmax": [
        {**shape, "unit": unit, "shift": 38, "out_shift": 45} for shape, unit in zip(CAUSAL, (16, 3, 100), strict=True)
    ] + [{"queries": 4, "keys": 9, "d": 8, "unit": 40, "shift": 40, "out_shift": 45}],
    "queues": [{"queries": 160, "keys": 1, "d": 4}, {"queries": 7, "keys": 2, "d": 4}],
}
DAM = 300


class Dammed(Component):
    """An engine whose results are held back for the first ``DAM`` cycles."""

    def __init__(self, engine):
        self.engine = engine
        super().__init__(engine.signature)

    def elaborate(self, platform):
        m = Module()
        m.submodules.engine = engine = self.engine
        count, is_open = Signal(range(DAM + 1)), Signal()
        m.d.comb += is_open.eq(count == DAM)
        m.d.sync += count.eq(count + ~is_open)
        for name in self.signature.members:
            if name != "o_y":
                connect(m, getattr(engine, name), flipped(getattr(self, name)))
        m.d.comb += [self.o_y.payload.eq(engine.o_y.payload), self.o_y.valid.eq(engine.o_y.valid & is_open),
                     engine.o_y.ready.eq(self.o_y.ready & is_open)]
        return m



def operands_of(build, job, kind, rng):
    operands = draw_operands(build, job, rng)
    if kind == TIES:
        # The first score is half a unit, the second 0: rounded to even, both are.
        operands["q"][:], operands["k"][:, 0], operands["k"][:, 1] = -128, -128, 0
        operands["q_scale"][:] = operands["k_scale"][:] = 1
        operands["v"][:, 0], operands["v"][:, 1] = 127, -128
        operands["v_scale"][:] = 65535
    if kind == WEIGHTS:
        operands["q"][:], operands["v"][:], operands["v_scale"][:] = 0, 64, 1
    if kind == HALVES:
        operands["v"][:] = np.array([1, 3, -1, -3])
        operands["v_scale"][:] = 32768
    if kind in (FAR, NEAR):
        # The maximum rises from 0; what was summed before is lost, or just not.
        operands["q"][:], operands["k"][:, 0], operands["k"][:, 1] = 64, 0, 64
        operands["q_scale"][:], operands["k_scale"][:] = 8, (31 if kind == NEAR else 40) * 1024
        operands["v"][:, 0], operands["v_scale"][:] = -128, 65535
    if kind == CLAMPS:
        operands["q_scale"][:] = operands["k_scale"][:] = 65535
    return operands


def draw(build, shape, rng):
    job = build.job(**{name: value for name, value in shape.items() if name != "draw"})
    operands = operands_of(build, job, shape.get("draw"), rng)
    return Work(job, pack(build, job, operands)), results(build, job, operands)


def check(name):
    from sparseloom.hdl.engines import component
    from sparseloom.sim.pysim import PySimulator

    build, rng = BUILDS[name], np.random.default_rng(1)
    works, wants = zip(*(draw(build, shape, rng) for shape in JOBS[name]), strict=True)
    nothing = Image({"k": works[0].image.streams["k"][:0], "v": works[0].image.streams["v"][:0]}, works[0].image.buffers)
    others = [Work(works[0].job, nothing, values={"keys": build.max_keys + 1}, beats={"y": 0})]
    statuses = [Status.ILLEGAL]
    if build.block_sparse:
        others.append(hostile(build))
        statuses.append(Status.OVERFLOW)
    if name == "queues":
        dammed, = PySimulator(build, lambda: Dammed(component(build))).run(works[:1])
        assert (collect(build, works[0].job, dammed.outputs)["y"] == wants[0]["y"]).all()
        assert dammed.done["cycles"] > DAM
    simulator = PySimulator(build)
    for mode in ({}, {"idle": 0.4, "stall": 0.4, "back_to_back": True} if name == "queues" else {"idle": 0.4}):
        # In the key-time in which the second slot's first round ends.
        simulator.reset_mid_job(works[0], 18)
        receipts = simulator.run([*works, *others], seed=1, **mode)
        for work, want, receipt in zip(works, wants, receipts[: len(works)], strict=True):
            assert (collect(build, work.job, receipt.outputs)["y"] == want["y"]).all(), (mode, work.job)
            done = receipt.done
            stalls = [done[f"stall_{cause}"] for cause in "ixo"]
            assert (done["saturated"], done["status"]) == (want["saturated"], Status.OK), (mode, work.job)
            assert done["cycles"] == done["busy"] + sum(stalls)
            late = done["cycles"] - build.cycles(work.job)
            assert late >= 0 if mode else late == 0 == sum(stalls), (mode, late, work.job)
            if list(mode) == ["idle"]:
                assert stalls[1:] == [0, 0] and stalls[0] >= late
        assert [receipt.done["status"] for receipt in receipts[len(works) :]] == statuses


def hostile(build):
    """A list that names a block beyond the keys: it is taken for a whole one, and told."""
    job = build.job(queries=2, keys=20, d=4, block=16, blocks=((1,),))
    image = pack(build, job, draw_operands(build, job, np.random.default_rng(0)))
    streams = {name: np.resize(beats, (16, beats.shape[1])) for name, beats in image.streams.items()}
    word = build.block_record.to_bytes({"index": 2, "last": 1})
    return Work(job, Image(streams, image.buffers | {"blocks": np.frombuffer(word, np.uint8)[None]}))


FAULTS = {
    ("online", "plan"): [
        ("windows a key late", "low.eq(offset - job.window + 1)", "low.eq(offset - job.window + 2)"),
        ("groups see a key too few", "m.d.comb += high.eq(behind)", "m.d.comb += high.eq(behind - 1)"),
        ("the first head only", "m.d.sync += [*restart, *heads.advance()]", "m.d.sync += heads.advance()"),
        ("blocks are rounds", "ends.eq(listing.blocks.payload.last)", "ends.eq(1)"),
    ],
    ("two_pass", "plan"): [
        ("values of this round's keys", "before.eq(lists[-1]), slots", "before.eq(count + 1), slots"),
        ("queries leave as they come", "slots.eq(leave[-1])", "slots.eq(1)"),
    ],
    ("online", "sequence"): [
        ("rounds shorter than their queries are many", "*pad.load(least)", "*pad.load(1)"),
        ("no drain behind two queries", "closes & (go > 1)", "closes & (go > 2)"),
        ("queries see a key too few", "ahead >= -slot", "ahead > -slot"),
        ("windows a key too wide", "inside >= slot", "inside >= slot - 1"),
        ("a block ends the round", "what.last.eq(~draining & ~more & pad", "what.last.eq(~draining & pad"),
    ],
    ("queues", "sequence"): [
        ("credit for the first slot only", "(what.last & (go != 0)) | leaving.some", "what.last & (go != 0)"),
        ("steps made without room", "room.eq(queue.level < _AHEAD)", "room.eq(1)"),
    ],
    ("online", "issue"): [
        ("late operands are not counted", "self.stall_i.eq(have & ~(k_there & v_there))", "self.stall_i.eq(0)"),
        ("keys without their values", "self.k_ready.eq(possible & keys & v_there & q_there)",
         "self.k_ready.eq(possible & keys & q_there)"),
    ],
    ("queues", "issue"): [
        ("no credit asked for", "possible.eq(have & (self.credit | ~what.reserves))", "possible.eq(have)"),
        ("queries unasked", "~what.loads | self.q_ready", "1"),
    ],
    ("online", "listing"): [
        ("the last block is whole", "Mux((left > size) | (left <= 0), size, left)", "Mux((left >= -99), size, left)"),
        ("lists of one head", "self.addr.eq(0), *words.load(job.listed), *heads.advance()",
         "*words.load(job.listed), *heads.advance()"),
        ("a block beyond the keys is not told", "m.d.sync += self.bad.eq(1)", "m.d.sync += self.bad.eq(0)"),
    ],
    ("online", "score"): [
        ("keys run into each other", "Mux(opens, 0, dot)", "dot"),
        ("scales of the key before", "delay(m, factor, 1 + levels,", "delay(m, factor, 3 + levels,"),
        ("the query before", "Mux(self.load, self.word.as_value(), query.o)", "query.o"),
    ],
    ("online", "dyadic"): [
        ("ties round up", "guard & (below | quotient[0])", "guard"),
        ("what lies below a half is forgotten", "lost.eq(sticky | Cat(parts).any())", "lost.eq(0)"),
        ("clamps to the other end", "Mux(under, self.low, rounded)", "Mux(under, self.high, rounded)"),
    ],
    ("online", "online"): [
        ("rounded down to a power of two", "+ self.t[:EXP_FRACTION].any()", "+ 0"),
        ("sums do not follow the maximum", "Mux(risen & ~far, step[:5], 0)", "0"),
        ("far is not far", "far.eq(risen & (step > MAX_RAISE))", "far.eq(0)"),
        ("empty after what is not seen", "empty.eq(fresh & ~seen)", "empty.eq(0)"),
        ("what is not seen counts", 'Mux(delay(m, seen, 2 + EXP2_LATENCY, "seen_late"), exp2.o, 0)', "exp2.o"),
    ],
    ("online", "weights"): [
        ("weights' ties round up", "guard & (sticky | odd)", "guard"),
        ("queries run into each other", "Mux(empties, 0, total >> raised)", "(total >> raised)"),
        ("scale of the value behind", "delay(m, self.v_scale, self.latency - 2,", "delay(m, self.v_scale, self.latency - 5,"),
    ],
    ("online", "values"): [
        ("values do not follow the maximum", "old[lane] >> raised if", "old[lane] if"),
        ("chunks exchanged", "get.addr.eq(ahead)", "get.addr.eq(ahead ^ 1)"),
        ("one chunk a key reads too soon", "Mux(single, self.acc, held)", "held"),
        ("values run into each other", "Mux(empties, 0, kept)", "kept"),
    ],
    ("online", "results"): [
        ("fraction bits the wrong way", "reciprocal.o_shift - job.fraction", "reciprocal.o_shift"),
        ("the inverse of the query before", "1 + RECIPROCAL_LATENCY,", "3 + RECIPROCAL_LATENCY,"),
        ("finished a chunk too soon", "heads.last & queries.last & chunks.last", "heads.last & queries.last"),
    ],
    ("queues", "results"): [
        ("credit for all", "self.credit.eq(after != 0)", "self.credit.eq(1)"),
        ("credit is not given back", "after.eq(free + taken - self.issued)", "after.eq(free - self.issued)"),
    ],
    ("online", "engine"): [
        ("slots without a query count", "now.mask[slot] & (now.load > slot)", "now.mask[slot]"),
        ("clamped scores are not counted", "counted.append(event & weights.seen & score.clamped)", "counted.append(0)"),
        ("a reset leaves the slots as they were", 'name=f"control_{slot + 1}")', 'name=f"control_{slot + 1}", reset_less=True)'),
        ("illegal jobs are run", "return (value != 0) & (value <= most)", "return value != 0"),
        ("values a beat early", "put.eq(put + 1)", "put.eq(put + 2)"),
    ],
    ("two_pass", "two_pass"): [
        ("the smallest score", "weights.t > most", "weights.t < most"),
        ("the maximum of this round", "get.data[width], before", "get.data[width], most"),
        ("places run on", "at.eq(Mux(weights.first, 0, following))", "at.eq(following)"),
    ],
    ("sigmoid", "sigmoid"): [("no bias", "self.t + self.job.bias", "self.t")],
    ("sigmoid", "results"): [("a weight of 1 is 2**14", "_ONE = 16, 31", "_ONE = 16, 30")],
    ("shiftmax", "shiftmax"): [
        ("halves rounded to 0", "((distance + 1) >> 1)", "(distance >> 1)"),
        ("no least power", "Mux(stretched > most_units, most_units, stretched)", "stretched"),
        ("r is not halved", "base.eq((unit << 1) - rest)", "base.eq((unit - rest) << 1)"),
        ("the sum of this round", "whole.eq(total)", "whole.eq(e)"),
        ("the inverse of the query before", "m.d.sync += inverse.eq(self.inverse)", "m.d.sync += inverse.eq(self.inverse >> 1)"),
        ("places of exponentials run on", "at.eq(Mux(first, 0, following))", "at.eq(following)"),
    ],
    ("shiftmax", "divide"): [("a bit of the quotient inverted", "fits = ~difference[-1]", "fits = difference[-1]")],
}
"""By jobs and file: what is wrong, the text that says it right, the text in its place."""
MUTANTS = [(jobs, Mutant(name, f"hdl.attention.{file}", old, new))
           for (jobs, file), faults in FAULTS.items() for name, old, new in faults]


@pytest.mark.parametrize("name", JOBS)
def test_unchanged_gates_pass(name):
    same = "m.submodules.plan = plan = Plan(build)"
    assert verdict(Mutant("none", "hdl.attention.engine", same, same), lambda: check(name)) is None


@pytest.mark.parametrize("name, mutant", MUTANTS, ids=lambda value: value.name if isinstance(value, Mutant) else value)
def test_mutant_is_killed(name, mutant):
    assert verdict(mutant, lambda: check(name)) is not None
