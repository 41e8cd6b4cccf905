"""What others published of language models on FPGAs, row by row with its kind and source."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["KINDS", "Published", "published"]

TABLE = Path(__file__).with_name("llm.csv")
KINDS = ("board", "board re-run", "simulated")
"""``board``: measured by its authors; ``board re-run``: by others, with the authors' files; ``simulated``: by its authors."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """One figure: ``metric`` of ``system`` on ``device`` in ``unit``, what it ``covers``. ``confidence``: ``primary`` if read
    where its authors wrote it, ``secondary`` if at second hand."""

    system: str
    device: str
    model: str
    precision: str
    clock_mhz: float
    metric: str
    value: float
    unit: str
    kind: str
    covers: str
    source: str
    confidence: str


@cache
def published(**wanted):
    """The rows whose fields are as ``wanted``, in the table's order."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = [Published(**row | {name: float(row[name]) for name in ("clock_mhz", "value")}) for row in csv.DictReader(file)]
    return tuple(row for row in rows if all(getattr(row, name) == value for name, value in wanted.items()))
