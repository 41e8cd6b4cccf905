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

_RANGED = ("rows", "lanes", "act_bits", "max_k", "max_n", "max_m", "result_lanes", "read_latency")
_MULTIPLIER = {"xcup": (27, 18), "ecp5": (18, 18)}
"""Widths of a family's multiplier, signed. A wider product is cut into pieces."""
_BRAM = {
    "xcup": ((1, 1024, 18), (1, 2048, 9), (1, 4096, 4), (2, 2048, 18), (2, 4096, 9), (2, 8192, 4), (2, 16384, 2)),
    "ecp5": ((1, 1024, 18), (1, 2048, 9), (1, 4096, 4), (1, 8192, 2), (1, 16384, 1)),
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
    """The formula alone. LUTs, flip-flops and carry places are linear in what the gates are made of (bits of adders, of memories,
    of registers), with coefficients fitted to the measured rows by least relative error; multipliers and block memories are
    counted exactly. :func:`held_out_error` says how far off it is on builds that it has not seen.

    Raises UnknownCost for another kind of build, a family without rows, and a parameter outside the range that was measured.
    """
    _check(build, family, part)
    rows = measured(family, build.datapath)
    for name in _RANGED:
        values = [getattr(row["spec"], name) for row in rows]
        if not min(values) <= getattr(build, name) <= max(values):
            raise UnknownCost(f"no cost is known for {name} = {getattr(build, name)}: on {family}, {build.datapath} was measured "
                              f"from {min(values)} to {max(values)}")
    terms = np.array(_terms(build, part), float)
    linear = ("lut", "lut_memory", "lut_route", "ff", "carry")
    counts = {name: max(0, ceil(terms @ _fit(family, build.datapath, part, name))) for name in linear}
    return Resources(**counts, dsp=_multipliers(build, family, part), bram=_block_memories(build, family), uram=0, basis="model")


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
def _fit(family, datapath, part, name):
    rows = [row for row in measured(family, datapath) if not row["held_out"]]
    terms = np.array([_terms(row["spec"], part) for row in rows], float)
    counts = np.array([row[part][name] for row in rows], float)
    weights = 1 / np.maximum(counts, 1)
    return np.linalg.lstsq(terms * weights[:, None], counts * weights, rcond=None)[0]


def _terms(build, part):
    """What the counts of ``part`` are linear in."""
    rows, fives, acc, act = build.rows, build.lanes // TRITS_PER_BYTE, build.acc_width, build.act_bits
    if build.datapath == "tree":
        terms = [rows * _adder_bits(build.lanes, act), rows * fives, rows * build.lanes * act,
                 rows * acc, rows * acc * (build.max_m > 1), rows, 1]
    else:
        # A byte reads a sum of three activations and one of two from tables that _LUTRAM_READERS rows share.
        word, (copies, rest) = 2 * act + 3, divmod(rows, _LUTRAM_READERS)
        terms = [rows * (fives * (act + 3) + _adder_bits(fives, act + 3)), rows * fives,
                 fives * word * copies, fives * word * rest, fives * act, rows * acc, rows, 1]
    if part == "dot":
        return terms
    lanes = build.result_lanes
    return terms + [
        build.max_n.bit_length(), build.max_k_blocks.bit_length(), build.max_m.bit_length(),
        lanes * acc, rows * acc * (rows > lanes),
        build.requantise * lanes, build.requantise * lanes * acc,
        build.statistics * lanes, build.statistics * lanes * acc, build.statistics * build.square_width,
    ]


def _adder_bits(operands, width):
    """Bits of all adders of a tree, a bit wider each level."""
    bits = 0
    while operands > 1:
        width += 1
        bits += operands // 2 * width
        operands -= operands // 2
    return bits


def _multipliers(build, family, part):
    if part == "dot":
        return 0
    acc = build.acc_width
    multiplier = next(field.width for field in build.job_record.fields if field.name == "multiplier") + 1  # a sign bit
    return build.result_lanes * (
        build.requantise * _pieces(acc, multiplier, family) + build.statistics * _pieces(acc, acc, family))


def _pieces(a, b, family):
    wide, narrow = _MULTIPLIER[family]
    return ceil((max(a, b) - 1) / (wide - 1)) * ceil((min(a, b) - 1) / (narrow - 1))


def _block_memories(build, family):
    """Sums of the table datapath lie in one memory as wide as all rows."""
    if build.datapath == "tree":
        return 0
    width = build.rows * build.acc_width
    return min(units * ceil(width / bits) * ceil(build.max_groups / words) for units, words, bits in _BRAM[family])
