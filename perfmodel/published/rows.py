"""Rows of figures that others published, each with its kind and source: what the tables of this folder hold."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["KINDS", "Published", "read"]

KINDS = ("board", "board re-run", "simulated", "projected", "derived")
"""``board``: measured by its authors; ``board re-run``: by others, with the authors' files; ``simulated``: by its authors;
``projected``: estimated by its authors, never built; ``derived``: worked out from their other figures."""

_NUMBERS = ("clock_mhz", "value")


@dataclass(frozen=True, kw_only=True)
class Published:
    """One figure: ``metric`` of ``system`` on ``device`` in ``unit``, what it ``covers``; ``clock_mhz`` None if not told.
    ``confidence``: ``primary`` if read where its authors wrote it, ``secondary`` if at second hand."""

    system: str
    device: str
    model: str
    precision: str
    clock_mhz: float | None
    metric: str
    value: float
    unit: str
    kind: str
    covers: str
    source: str
    confidence: str


@cache
def read(table, **wanted):
    """The rows of a table of this folder (``llm.csv``) whose fields are as ``wanted``, in its order."""
    with Path(__file__).with_name(table).open(newline="", encoding="utf-8") as file:
        rows = [Published(**row | {name: float(row[name]) if row[name] else None for name in _NUMBERS})
                for row in csv.DictReader(file)]
    return tuple(row for row in rows if all(getattr(row, name) == value for name, value in wanted.items()))
