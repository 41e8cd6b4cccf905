"""What the verbs share: options read into specs, results printed once as JSON or as a table, progress on stderr."""

import json
import sys
import time
import typing
from contextlib import contextmanager
from dataclasses import fields
from enum import Enum
from pathlib import PurePath
from typing import Annotated

import typer

__all__ = [
    "BASES", "CheckFailed", "SetOption", "ShapeOption", "JsonOption", "SeedOption",
    "parse_pairs", "construct", "emit", "progress",
]

BASES = {
    "exact": "closed form, proved equal to the RTL by a test",
    "rtl": "counted on the simulated gates",
    "model": "simulation of the program on closed forms",
    "analytic": "estimate without simulation",
    "yosys": "Yosys estimate, not a vendor's figure",
    "published": "a paper's or a data sheet's figure",
    "assumed": "chosen here, not measured",
    "measured": "measured on this computer (wall time, throughput of the simulator)",
}

SetOption = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="A build parameter; repeatable.")]
ShapeOption = Annotated[str, typer.Option("--shape", metavar="K=V,...", help="The workload, such as k=1024,n=1024,m=1.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random; the same seed gives the same run.")]


class CheckFailed(Exception):
    """The verb did its work and its own check failed (exit code 1), after the result has been printed."""


def parse_pairs(texts, option):
    """``{key: value text}`` of ``KEY=VALUE`` texts, each maybe several with commas; errors name ``option``."""
    pairs = {}
    for item in (item for text in texts for item in text.split(",")):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (key and equals and value):
            raise typer.BadParameter(f"must be KEY=VALUE, got {item!r}", param_hint=option)
        if key in pairs:
            raise typer.BadParameter(f"{key} is given twice", param_hint=option)
        pairs[key] = value
    return pairs


def _typed(key, text, kind, option):
    """``text`` as the annotated type ``kind``: int in any Python notation, float, bool, Enum by value, str or None."""
    choices = [part for part in typing.get_args(kind) if part is not type(None)]
    if choices and type(None) in typing.get_args(kind):
        if text == "none":
            return None
        kind = choices[0]
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if kind is int:
            return int(text, 0)
        if kind is float:
            return float(text)
        if isinstance(kind, type) and issubclass(kind, Enum):
            return kind(text)
    except (KeyError, ValueError):
        names = {int: "an integer", float: "a number", bool: "true or false"}
        rule = names.get(kind) or "one of " + ", ".join(str(member.value) for member in kind)
        raise typer.BadParameter(f"{key} must be {rule}, got {text!r}", param_hint=option) from None
    return text


def _has_text(kind):
    """Whether values of an annotated type can be written in an option: no containers."""
    return not {tuple, list, dict} & {kind, typing.get_origin(kind), *typing.get_args(kind)}


def construct(cls, pairs, option, make=None, **fixed):
    """The dataclass ``cls`` from option texts (``parse_pairs``) and ``fixed`` values that no option sets.

    Texts become the types that the fields of ``cls`` declare (fields of containers cannot be set); ``make`` (default: ``cls``
    itself) is called with them.
    Unknown keys, missing keys, and whatever ``make`` refuses are usage errors: one line that names the option, the rule and
    the value.
    """
    hints = typing.get_type_hints(cls)
    legal = [field.name for field in fields(cls) if field.init and field.name not in fixed and _has_text(hints[field.name])]
    for key in pairs:
        if key not in legal:
            raise typer.BadParameter(f"unknown key {key!r}, legal keys are {', '.join(legal)}", param_hint=option)
    values = {key: _typed(key, text, hints[key], option) for key, text in pairs.items()}
    try:
        return (make or cls)(**values, **fixed)
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def emit(result, as_json, table=None):
    """Print ``result``, once: as one JSON object, or through ``table()`` (a rich renderable), or as a table of its plain entries.

    Every number at the top level must have its basis in ``result["basis"]``, a dict from entry name to a key of ``BASES``;
    inputs (builds, jobs, seeds) belong into nested dicts. NumPy scalars and arrays, enums and paths are converted.
    """
    basis = result.get("basis", {})
    for name, value in result.items():
        if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
            value = value.item()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and basis.get(name) not in BASES:
            raise KeyError(f"the figure {name!r} has no basis out of {', '.join(BASES)}")
    if as_json:
        print(json.dumps(result, default=_plain, allow_nan=False))
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(table() if table else _table(result, basis))


def _plain(value):
    """What JSON takes for a NumPy scalar or array, an Enum or a path."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{value!r} has no place in a result")


def _table(result, basis):
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=bool(basis))
    table.add_column("")
    table.add_column("value", justify="right" if basis else "left", overflow="fold")
    table.add_column("basis", style="dim")
    for name, value in result.items():
        if name != "basis" and not isinstance(value, (dict, list, tuple)):
            table.add_row(name.replace("_", " "), _text(value), basis.get(name, ""))
    return table


def _text(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


_QUIET_SECONDS, _LINE_SECONDS = 2.0, 10.0


@contextmanager
def progress(label, total):
    """Report on stderr how far a loop of ``total`` steps is: yields ``step(count=1)``.

    A bar on a terminal; otherwise nothing for two seconds, then a line at most every ten: short runs are silent, logs short.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda count=1: bar.advance(task, count)
        return
    done, due = 0, time.monotonic() + _QUIET_SECONDS

    def step(count=1):
        nonlocal done, due
        done += count
        if time.monotonic() >= due:
            due = time.monotonic() + _LINE_SECONDS
            print(f"{label}: {done}/{total}", file=sys.stderr, flush=True)

    yield step
