"""What the engines of N:M training take from a chip: measured rows; for arrays of other sizes, a formula fitted to them."""

import json
from functools import cache
from pathlib import Path

import numpy as np

from ...models.spec.engines import ENGINES
from ...models.spec.nm_load import NmLoad
from ...models.spec.nm_prune import NmPrune
from ...models.spec.nm_train import NmTrain
from ...models.spec.nm_update import NmUpdate
from .resources import Resources, UnknownCost

__all__ = ["FAMILY", "HELD_OUT", "PARTS", "TABLE", "builds_to_measure", "cost", "estimate", "held_out_error", "measured"]

FAMILY = "xcup"
TABLE = Path(__file__).with_name("nm_train.json")
"""Measured rows, written by ``benchmarks/nm_train.py cost --write``: engine, build, family, tool, command, counts; arrays of
``PARTS`` too."""
PARTS = ("pe", "adder", "product", "row")
"""Parts of an array that are measured by themselves: a PE, its float32 adder, its product, a row's way of A."""
HELD_OUT = 4, 4
"""Rows and columns of the array whose parts are measured, and whose whole judges the formula and takes no part in it."""

_SIZES = ((2, 2), (2, 4), (4, 2), HELD_OUT)
_SUMMED = ("lut", "lut_memory", "lut_route", "ff", "bram")


def _arrays():
    """The arrays to measure: those of the presets, with fewer PEs."""
    return [NmTrain(rows=rows, cols=cols, slots=16, words=2, ws_rows=512, max_m=2**24 - 2, max_n=2**17 - 2, max_k=2**24 - 2)
            for rows, cols in _SIZES]


def builds_to_measure():
    """The builds that rows of the table are of: arrays, and what else a machine needs."""
    return [*_arrays(), *(NmPrune(lanes=4, values=values, slots=16, max_n=2**17 - 2, max_k=2**15 - 1) for values in (1, 4)),
            NmUpdate(lanes=2, lion=False, pruned=False, max_n=2**32 - 2), NmLoad(words=2, rows=32, slots=16, map_words=2**16)]


def cost(build, family=FAMILY):
    """The :class:`~.resources.Resources` of ``build`` on ``family``: a measured row (basis ``yosys``), or of an array
    :func:`estimate` (basis ``model``). UnknownCost as that raises it, and for other engines that were not measured."""
    for row in measured(family):
        if row["spec"] == build:
            return Resources(**row["counts"], basis="yosys")
    return estimate(build, family)


def estimate(build, family=FAMILY):
    """The formula alone: a measured PE for each, and for rows, columns and 1 what fits the measured arrays but the one held out;
    DSP slices are one a PE. UnknownCost for other engines, families, slots, words, ``ws_rows`` or maxima."""
    rows = [row for row in measured(family) if row["engine"] == NmTrain.name]
    if not isinstance(build, NmTrain) or not any(_but_size(row["spec"]) == _but_size(build) for row in rows):
        raise UnknownCost(f"no cost is known for {build!r} on family {family!r}")
    factors = _factors(family)
    counts = {name: max(0, round(float(_terms(build) @ factors[name]))) for name in _SUMMED}
    return Resources(**counts, dsp=build.rows * build.cols, uram=0, basis="model")


def held_out_error(name, family=FAMILY):
    """How far the formula is off on the array that it has not seen, as a fraction of the measured count."""
    (row,) = (row for row in measured(family) if _size(row) == HELD_OUT)
    return getattr(estimate(row["spec"], family), name) / row["counts"][name] - 1


@cache
def measured(family=FAMILY):
    """The measured rows of one family, each with its build as ``spec``."""
    rows = [row | {"spec": ENGINES[row["engine"]](**row["build"])} for row in json.loads(TABLE.read_text())]
    return tuple(row for row in rows if row["family"] == family)


@cache
def _factors(family):
    rows = [row for row in measured(family) if row["engine"] == NmTrain.name]
    (parts,) = (row["parts"] for row in rows if _size(row) == HELD_OUT)
    terms = np.array([_terms(row["spec"]) for row in rows if _size(row) != HELD_OUT])
    found = {}
    for name in _SUMMED:
        counts = np.array([row["counts"][name] for row in rows if _size(row) != HELD_OUT], float)
        rest = counts - terms[:, 0] * parts["pe"][name]
        found[name] = np.array([parts["pe"][name], *np.linalg.lstsq(terms[:, 1:], rest, rcond=None)[0]])
    return found


def _terms(build):
    return np.array([build.rows * build.cols, build.rows, build.cols, 1.0])


def _size(row):
    return row["build"].get("rows"), row["build"].get("cols")


def _but_size(build):
    return [getattr(build, name) for name in ("slots", "words", "ws_rows", "max_m", "max_n", "max_k")]
