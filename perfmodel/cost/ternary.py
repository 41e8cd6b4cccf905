"""What a ternary engine takes from a chip: measured where it was, else a formula fitted to the measurements, else an error."""

import json
from functools import cache
from math import ceil
from pathlib import Path

import numpy as np

from ...models.spec.ternary import TRITS_PER_BYTE, TernaryEngine
from .resources import Resources, UnknownCost

__all__ = ["PARTS", "TABLE", "cost", "estimate", "held_out_error", "measured"]

TABLE = Path(__file__).with_name("ternary.json")
"""Measured rows, written by ``benchmarks/cost.py --write``: family, build, tool, command and the counts of both parts. Rows that
are ``held_out`` judge the formula and take no part in it."""
PARTS = ("dot", "engine")
"""``dot``: decoding, datapath (with the filling of its tables), accumulators. ``engine``: everything between its ports."""

_RANGED = ("rows", "lanes", "act_bits", "max_k", "max_n", "max_m", "max_groups", "result_lanes", "read_latency")
_MULTIPLIER = {"xcup": (27, 18, 0), "ecp5": (18, 18, 1)}
"""Widths of a family's multiplier, signed, and how many bits more Yosys multiplies in LUTs before it takes a second one."""
_BRAM_18 = ((1, 512, 36), (1, 1024, 18), (1, 2048, 9), (1, 4096, 4), (1, 8192, 2), (1, 16384, 1))
_BRAM = {
    "xcup": (*_BRAM_18, (2, 1024, 36), (2, 2048, 18), (2, 4096, 9), (2, 8192, 4), (2, 16384, 2), (2, 32768, 1)),
    "ecp5": _BRAM_18,
}
"""Shapes of a family's block memories: units of 18 kbit, words, bits."""
_LUTRAM_READERS = 7
"""Rows that share one copy of a look-up table, as in the RTL."""


def cost(build, family="xcup", part="engine"):
    """The :class:`~.resources.Resources` of ``build`` (a ``TernaryEngine`` spec) on ``family``: a measured row (basis ``yosys``)
    or :func:`estimate` (basis ``model``). Raises UnknownCost as that does."""
    _check(build, family, part)
    for row in measured(family, build.datapath):
        if row["spec"] == build:
            return Resources(**row[part], basis="yosys")
    return estimate(build, family, part)


def estimate(build, family="xcup", part="engine"):
    """The formula alone. LUTs and flip-flops are linear in what the gates are made of (bits of adders, of memories, of registers:
    ``_dot_terms``, ``_rest_terms``), with coefficients fitted to the measured rows by least relative error; multipliers and block
    memories are counted. :func:`held_out_error` says how far off it is on builds that it has not seen.

    Raises UnknownCost for another kind of build, a family without rows, and a parameter outside the range that was measured.
    """
    _check(build, family, part)
    rows = measured(family, build.datapath)
    for name in _RANGED:
        values = [getattr(row["spec"], name) for row in rows]
        if not min(values) <= getattr(build, name) <= max(values):
            raise UnknownCost(f"no cost is known for {name} = {getattr(build, name)}: on {family}, {build.datapath} was measured "
                              f"from {min(values)} to {max(values)}")
    counts = {}
    for name in ("lut", "lut_memory", "lut_route", "ff"):
        fitted = (np.dot(terms(build, family, name), _fit(family, build.datapath, piece, name))
                  for piece, terms in _TERMS.items() if piece == "dot" or part == "engine")
        counts[name] = sum(max(0, round(float(count))) for count in fitted)
    return Resources(**counts, dsp=_multipliers(build, family, part), bram=_block_memories(build, family)[0], uram=0,
                     basis="model")


def held_out_error(family="xcup", part="engine"):
    """Largest relative error of the formula, in LUTs or flip-flops, over the rows of ``family`` that it has not seen."""
    rows = [row for datapath in ("tree", "table") for row in measured(family, datapath) if row["held_out"]]
    pairs = [(getattr(estimate(row["spec"], family, part), name), row[part][name]) for row in rows for name in ("lut", "ff")]
    return max(abs(formula / count - 1) for formula, count in pairs)


@cache
def measured(family, datapath):
    """The measured rows of one family and datapath, each with its build as ``spec``."""
    rows = [row | {"spec": TernaryEngine(**row["build"])} for row in json.loads(TABLE.read_text())]
    return tuple(row for row in rows if row["family"] == family and row["spec"].datapath == datapath)


def _check(build, family, part):
    if not isinstance(build, TernaryEngine):
        raise UnknownCost(f"no cost is known for a {type(build).__name__}")
    if part not in PARTS:
        raise UnknownCost(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    if not measured(family, build.datapath):
        raise UnknownCost(f"no cost is known for family {family!r}")


@cache
def _fit(family, datapath, piece, name):
    """Coefficients of ``_TERMS[piece]``; the rest of the engine is what it has beyond the dot product."""
    rows = [row for row in measured(family, datapath) if not row["held_out"]]
    terms = np.array([_TERMS[piece](row["spec"], family, name) for row in rows], float)
    counts = np.array([row["dot"][name] if piece == "dot" else row["engine"][name] - row["dot"][name] for row in rows], float)
    weights = 1 / np.maximum(np.abs(counts), 1)
    return np.linalg.lstsq(terms * weights[:, None], counts * weights, rcond=None)[0]


def _dot_terms(build, family, name):
    rows, fives, act, acc = build.rows, build.lanes // TRITS_PER_BYTE, build.act_bits, build.acc_width
    if build.datapath == "tree":
        # Two pairs of a byte's five lanes add at once, the fifth lanes pair by pair; one without a partner waits.
        pairs, alone = 2 * fives + fives // 2, fives % 2
        tree = _Tree([act + 1] * pairs + [act] * alone)
        adders, waits = tree.adder_bits + pairs * (act + 1), tree.wait_bits + alone * act
        held, own = build.lanes * act, [rows * fives, rows * acc * (build.max_m > 1)]
    else:
        # A byte looks up a sum of three activations and one of two.
        tree, words = _Tree([act + 3] * fives), (act + 2, act + 1)
        adders, waits, held = tree.adder_bits + fives * (act + 3), tree.wait_bits, fives * sum(words)
        luts = fives * sum(_table_luts(rows, word, family) for word in words) if name != "ff" else 0
        own = [rows * fives, luts, fives * act, rows * acc * (_block_memories(build, family)[1] - 1)]
    bits = adders + waits + held if name == "ff" else adders
    return [rows * bits, rows * tree.shift_bits, *own, rows * acc, rows, 1]


def _table_luts(rows, word, family):
    """LUTs of the copies of one table of 32 words of ``word`` bits, a read port for each of ``rows``."""
    if family == "ecp5":  # memories of 16 words of 4 bits and one read port, six LUTs each
        return rows * 2 * ceil(word / 4) * 6
    copies, rest = divmod(rows, _LUTRAM_READERS)
    # Eight LUTs make 2 bits for seven readers or 14 bits for one.
    shared, single = 8 * ceil(word / 2), 8 * ceil(word / 14)
    return copies * shared + min(rest * single, shared)


def _rest_terms(build, family, name):
    """Control, results, counters; the same for every family and count."""
    rows, lanes, acc = build.rows, build.result_lanes, build.acc_width
    counters = build.max_n.bit_length() + build.max_k_blocks.bit_length() + build.max_m.bit_length()
    return [
        1, counters, rows * acc, rows * acc * (rows > lanes), lanes * acc, 8 * build.beat_bytes,
        build.requantise * lanes * acc, build.requantise * lanes,
        build.statistics * lanes * acc, build.statistics * build.square_width,
        build.lanes * build.act_bits * (build.datapath == "table"),
    ]


_TERMS = {"dot": _dot_terms, "rest": _rest_terms}


class _Tree:
    """Bits of an adder tree over operands of the given widths: ``adder_bits``; ``wait_bits`` of the flip-flops in which an odd
    one waits a level; ``shift_bits`` of those that wait longer: with the adder's own register a chain of three or more, which
    synthesis makes a shift register."""

    def __init__(self, widths):
        self.adder_bits = self.wait_bits = self.shift_bits = 0
        waited = 0
        while len(widths) > 1:
            sums = [max(pair) + 1 for pair in zip(widths[::2], widths[1::2], strict=False)]
            self.adder_bits += sum(sums)
            if len(widths) % 2:
                waited += 1
                sums.append(widths[-1])
            elif waited:
                self._count(widths[-1] + 1, waited)  # its sign has waited too
                waited = 0
            widths = sums

    def _count(self, bits, levels):
        if levels > 1:
            self.shift_bits += bits
        else:
            self.wait_bits += bits


def _multipliers(build, family, part):
    if part == "dot":
        return 0
    acc = build.acc_width
    multiplier = next(field.width for field in build.job_record.fields if field.name == "multiplier") + 1  # a sign bit
    return build.result_lanes * (
        build.requantise * _pieces(acc, multiplier, family) + build.statistics * _pieces(acc, acc, family))


def _pieces(a, b, family):
    wide, narrow, spare = _MULTIPLIER[family]
    return ceil((max(a, b) - 1 - spare) / (wide - 1)) * ceil((min(a, b) - 1 - spare) / (narrow - 1))


def _block_memories(build, family):
    """(units of 18 kbit, blocks on top of each other) of the table datapath's sums: one memory as wide as all rows."""
    if build.datapath == "tree":
        return 0, 1
    width = build.rows * build.acc_width
    stacks = ((units, ceil(width / bits), ceil(build.max_groups / words)) for units, words, bits in _BRAM[family])
    return min((units * wide * deep, deep) for units, wide, deep in stacks)
