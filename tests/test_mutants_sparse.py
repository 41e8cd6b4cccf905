"""Deliberate faults in every block of the sparse chain; a handful of jobs in pysim must show each."""

from dataclasses import replace

import numpy as np
import pytest

from sparseloom.models.formats.engines import Image, collect, pack
from sparseloom.models.golden.engines import draw_operands, results
from sparseloom.models.golden.sparse_chain import matmul
from sparseloom.models.spec.engine import Status
from sparseloom.models.spec.sparse_chain import SparseChain
from sparseloom.sim.mutants import Mutant, verdict
from sparseloom.sim.runner import Work

pytestmark = pytest.mark.rtl

FORMATS = SparseChain(chains=2, window=32, max_bits=4, codebook=True, group_dsps=4, max_k=128, max_n=5, max_m=3)
WIDE = SparseChain(chains=1, window=64, max_bits=2, group_dsps=8, max_k=256, max_n=4, max_m=3)
QUEUES = SparseChain(chains=1, window=8, max_bits=1, group_dsps=2, max_k=128, max_n=100, max_m=8)

TIES, CLAMPS = 1, 2
"""Shifts whose operands are small and odd, or large."""

FREE = {"free": {}}
JOBS = {
    "formats": (FORMATS, FREE | {"idle": {"idle": 0.4}}, [
        {"k": 65, "n": 3, "m": 3, "header": "affine"},
        {"k": 128, "n": 4, "m": 2, "header": "zero"},
        {"k": 128, "n": 3, "m": 2, "bits": 2, "header": "levels", "nnz": 2, "group": 4},
        {"k": 100, "n": 3, "m": 3, "nnz": 1, "group": 4},
        {"k": 128, "n": 2, "m": 1, "nnz": 4, "group": 16, "scale_group": 128, "x_group": 0},
        {"k": 40, "n": 3, "m": 2, "codebook": True},
        {"k": 128, "n": 4, "m": 2, "bits": 1, "block": 32, "nnz": 2, "group": 4,
         "blocks": (((0, 4), (2, 1), (3, 2)), ((1, 2),))},
        {"k": 65, "n": 3, "bits": 3, "scale_group": 0},
        {"k": 16, "n": 5, "m": 2, "bits": 2, "shift": CLAMPS},
    ]),
    "wide": (WIDE, FREE, [
        {"k": 256, "n": 2, "m": 3, "bits": 2, "header": "levels", "scale_group": 64},
        {"k": 256, "n": 2, "m": 2, "bits": 2, "nnz": 1, "group": 8, "scale_group": 64, "x_group": 64},
        {"k": 130, "n": 3, "m": 1, "bits": 1, "header": "affine"},
        {"k": 8, "n": 4, "m": 3, "bits": 1, "shift": TIES},
    ]),
    # A result a token and tile, or a tile in many passes: full queues of results, a full ring of quads.
    "queues": (QUEUES, FREE | {"refusing": {"stall": 0.5, "back_to_back": True}}, [
        {"k": 8, "n": 100, "m": 8, "bits": 1},
        {"k": 128, "n": 8, "m": 8, "bits": 1},
    ]),
}


def draw(build, shape, rng):
    """A job and its results: shifted so far that they fill 24 bits, or by one of the two above."""
    job = build.job(**shape)
    operands = draw_operands(build, job, rng)
    operands["x"] = rng.integers(-128, 128, operands["x"].shape, dtype=np.int8)
    operands["codes"] = rng.integers(0, 1 << job.bits, operands["codes"].shape, dtype=np.uint8)
    for name, least in (("scale", 0 if job.header == "levels" else -256), ("x_scale", 0)):
        operands[name] = rng.integers(least, 256, operands[name].shape)
    for name in ("scale", "x_scale"):
        if job.shift == TIES:
            operands[name] = operands[name] % 4 * 2 + 1
        if job.shift == CLAMPS:
            operands[name] *= 100
    if not job.shift:
        largest = int(np.abs(matmul(job, operands)).max())
        job = replace(job, shift=max(0, largest.bit_length() - 24))
    return Work(job, pack(build, job, operands)), results(build, job, operands)


def hostile(build, work):
    """(works, status) that end in another way: a code of zero of 129, a block outside the matrix, more rows than there may be."""
    job = build.job(k=32, n=1, bits=1, header="zero")
    zero = pack(build, job, draw_operands(build, job, np.random.default_rng(0)))
    zero.streams["w"][0, 2] = 129
    blocks = build.job(k=64, n=1, bits=1, block=32)
    block = pack(build, blocks, draw_operands(build, blocks, np.random.default_rng(0)))
    block.streams["w"][0, 0] = 200
    nothing = Image({"w": work.image.streams["w"][:0]}, work.image.buffers)
    return ([Work(job, zero), Work(blocks, block), Work(work.job, nothing, values={"n": build.max_n + 1}, beats={"y": 0})],
            [Status.OVERFLOW, Status.OVERFLOW, Status.ILLEGAL])


def check(name):
    from sparseloom.sim.pysim import PySimulator

    build, modes, shapes = JOBS[name]
    rng = np.random.default_rng(1)
    works, wants = zip(*(draw(build, shape, rng) for shape in shapes), strict=True)
    simulator = PySimulator(build)
    others, statuses = hostile(build, works[0])
    for mode, options in modes.items():
        receipts = simulator.run([*works, *others], seed=1, **options)
        for work, want, receipt in zip(works, wants, receipts[: len(works)], strict=True):
            assert (collect(build, work.job, receipt.outputs)["y"] == want["y"]).all(), (mode, work.job)
            done = receipt.done
            stalls = [done[f"stall_{cause}"] for cause in "ixo"]
            assert (done["saturated"], done["status"]) == (want["saturated"], Status.OK), (mode, work.job)
            assert done["cycles"] == done["busy"] + sum(stalls)
            late = done["cycles"] - build.cycles(work.job)
            assert late == 0 if mode == "free" else late >= 0, (mode, late, work.job)
            if mode == "idle":
                assert stalls[1:] == [0, 0] and stalls[0] >= late
        assert [receipt.done["status"] for receipt in receipts[len(works) :]] == statuses


FAULTS = {
    ("queues", "fetch"): [
        ("no room asked for in the ring", "room.eq(after != QUADS)", "room.eq(1)"),
    ],
    ("formats", "fetch"): [
        ("every span ends its tile", "span.last.eq(self.word[LAST_AT])", "span.last.eq(1)"),
        ("planes of indices upside down", "(left + plane + 1 == job.index_bits)", "(left == plane)"),
        ("a lone header of a pair is missed", "count.eq((within + 1) >> 1)", "count.eq(within >> 1)"),
        ("headers a quad late", "((1 << self.every) >> 2) - 1", "((1 << self.every) >> 2)"),
        ("a wrong block is not told", "self.bad.eq(self.bad | bad)", "self.bad.eq(0)"),
        ("late operands are not counted", "self.stall.eq(wanted & ~self.valid)", "self.stall.eq(0)"),
        ("the last beat of a span is dropped",
         "span_end.eq(quad_end & (rest <= LANE_STEPS))",
         "span_end.eq(quad_end & (rest <= LANE_STEPS + 1))"),
        ("a codebook's words in the wrong order", "self.place.eq(CODEBOOK_WORDS - 1 - left)", "self.place.eq(left)"),
    ],
    ("queues", "issue"): [
        ("no credit asked for", "(self.credit | ~(ends & last_step))", "1"),
    ],
    ("formats", "issue"): [
        ("no pause behind two tokens", "& ~(pause & last_step) &", "&"),
        ("steps before their quad has come", "have & (held >= need)", "have"),
        ("a span begins in the old quad", "Mux(last_segment, (after + LANE_STEPS - 1) & ~(LANE_STEPS - 1), after)", "after"),
        ("half a header for all", "group_end & paired & ~what.half", "0"),
        ("headers that fill a word have halves", "group_end & paired & ~what.half", "group_end & ~what.half"),
        ("passes a word apart", "offset.eq(offset + job.x_words)", "offset.eq(offset + 1)"),
        ("tiles run into each other", "with m.If(ends):", "with m.If(0):"),
        ("an odd token has a neighbour", "(passes.left >= 2)", "(passes.left >= 1)"),
    ],
    ("formats", "store"): [
        ("unused planes are read",
         "Mux(used, get.data.word_select(at[:2], chains), 0)",
         "get.data.word_select(at[:2], chains)"),
        ("a plane too many", "self.bits > p", "self.bits >= p"),
        ("positions and steps exchanged", "chain * lane + step * POSITIONS + j", "chain * lane + j * LANE_STEPS + step"),
        ("a step's neighbour is read", "get.data.word_select(at[:2], chains)", "get.data.word_select(at[:2] ^ 1, chains)"),
    ],
    ("formats", "lanes"): [
        ("zeros without skew", "delay(m, self.zero.as_value(), skew,", "delay(m, self.zero.as_value(), 0,"),
        ("columns without skew", 'delay(m, part, 1 + skew, f"block', 'delay(m, part, 1, f"block'),
        ("indices do not matter", "index[:4] | Mux(index[4], 0, own)", "index[:4]"),
        ("weights of the other sign", "(code - zero.word_select(chain, 8))", "(zero.word_select(chain, 8) - code)"),
        ("the codebook is closed", "Mux(self.codebook, ", "Mux(0, "),
        ("1 of 4 from one block", "block.eq((place >> 1) | j >> 2)", "block.eq(place >> 1)"),
        ("offsets times the first columns",
         "word[token].word_select(place, POSITIONS * 8)",
         "word[token].word_select(0, POSITIONS * 8)"),
        ("the second cascade begins like the first", "group.w[j].eq(weights[at + j])", "group.w[j].eq(weights[j])"),
    ],
    ("wide", "lanes"): [
        ("1 of 8 from two blocks", "block.eq((place >> 1) | j >> 1)", "block.eq((place >> 1) | j >> 2)"),
    ],
    ("formats", "scale"): [
        ("the lower half of a product is subtracted", "(high << _LOW) + low", "(high << _LOW) - low"),
        ("segments run into each other", "Mux(self.first, 0, acc)", "Mux(0, 0, acc)"),
        ("tokens run into each other", "Mux(opens, 0, get.data[chain])", "get.data[chain]"),
        ("both tokens have the first's scale", "chosen.eq(chosen + 1), factor.eq(waiting)", "chosen.eq(chosen + 1)"),
        ("both tokens are the first", "chosen.eq(chosen + 1), factor.eq(waiting)", "factor.eq(waiting)"),
        ("scales in the place of offsets", "register(x_sum * offset, ", "register(x_sum * scale, "),
    ],
    ("wide", "results"): [
        ("ties round up", "guard & (sticky | quotient[0])", "guard"),
        ("what lies below a half is forgotten", "sticky.eq((total & below).any())", "sticky.eq(0)"),
    ],
    ("formats", "results"): [
        ("clamps to the other end", "Mux(rounded < low, low, rounded)", "Mux(rounded < low, high, rounded)"),
        ("clamped results are not counted", "self.saturated + sum(clamped)", "self.saturated"),
        ("tiles a row apart", "row.eq(row + build.chains)", "row.eq(row + 1)"),
        ("finished a token too soon", "taken & rows.last & tokens.last", "taken & rows.last"),
    ],
    ("queues", "results"): [
        ("credit for all", "self.credit.eq(after >= 4)", "self.credit.eq(1)"),
        ("credit is not given back", "after.eq(free + taken - self.issued)", "after.eq(free - self.issued)"),
    ],
    ("formats", "engine"): [
        ("illegal jobs are run", "return (value != 0) & (value <= most)", "return value != 0"),
        ("levels of the first half", "part.eq(word.word_select(half, 16)[:8])", "part.eq(word[:8])"),
        ("zeros of the first half", "zero.eq(word.word_select(half, 16)[8:])", "zero.eq(word[8:16])"),
        ("headers a step early", "delay(m, what.header, whole + 1,", "delay(m, what.header, whole,"),
        ("the other half is an offset", 'Mux(job.header == HEADERS.index("affine"), word[16:], 0)', "word[16:]"),
        ("a code of zero of 129 passes", "zero > MAX_ZERO", "zero > MAX_ZERO + 1"),
    ],
    ("queues", "engine"): [
        ("places of the ring are free too soon", "delay(m, issue.release, whole,", "delay(m, issue.release, 0,"),
        ("second token without credit", "Mux(closing, 1 + issue.what.two, 0)", "Mux(closing, 1, 0)"),
    ],
    ("wide", "engine"): [
        ("one activation scale a word", "own.word_select(place >> 2, 16)", "own.word_select(0, 16)"),
    ],
    ("formats", "dsp_portable"): [
        ("sums start anew at each position", "sums[token] + product", "product"),
        ("weights a cycle early", "delay(m, weight, 2,", "delay(m, weight, 1,"),
    ],
}
"""By jobs and file: what is wrong, the text that says it right, the text in its place."""
MUTANTS = [(jobs, Mutant(name, f"hdl.sparse_chain.{file}", old, new))
           for (jobs, file), faults in FAULTS.items() for name, old, new in faults]


@pytest.mark.parametrize("name", JOBS)
def test_unchanged_gates_pass(name):
    same = "headers = self._headers(m, fetch, beat)"
    none = Mutant("none", "hdl.sparse_chain.engine", same, same)
    assert verdict(none, lambda: check(name)) is None


@pytest.mark.parametrize("name, mutant", MUTANTS, ids=lambda value: value.name if isinstance(value, Mutant) else value)
def test_mutant_is_killed(name, mutant):
    assert verdict(mutant, lambda: check(name)) is not None
