"""What the engines of N:M training take from a chip: measured rows, and for arrays of other sizes a formula by the PE."""

import json
from functools import cache
from pathlib import Path

from ...models.spec.engines import ENGINES
from ...models.spec.nm_train import NmTrain
from .resources import Resources, UnknownCost

__all__ = ["FAMILY", "TABLE", "builds_to_measure", "cost", "measured"]

FAMILY = "xcup"
TABLE = Path(__file__).with_name("nm_train.json")
"""Measured rows, written by ``benchmarks/nm_train.py cost --write``: engine, build, family, tool, command, counts."""
_SIZES = ((2, 2), (4, 2), (4, 4), (8, 4), (8, 8))


def builds_to_measure():
    """The builds that rows of the table are of."""
    return [NmTrain(rows=rows, cols=cols, slots=16, words=min(2, rows), max_m=2**20, max_n=2**14, max_k=2**22)
            for rows, cols in _SIZES]


def cost(build, family=FAMILY):
    """The :class:`~.resources.Resources` of a build that was measured on ``family``, basis ``yosys``. UnknownCost for others."""
    for row in measured(family):
        if row["spec"] == build:
            return Resources(**row["counts"], basis="yosys")
    raise UnknownCost(f"no cost is known for {build!r} on family {family!r}")


@cache
def measured(family=FAMILY):
    """The measured rows of one family, each with its build as ``spec``."""
    if not TABLE.exists():
        return ()
    rows = [row | {"spec": ENGINES[row["engine"]](**row["build"])} for row in json.loads(TABLE.read_text())]
    return tuple(row for row in rows if row["family"] == family)
