"""``sparseloom list``: everything that has a name on the command line."""

import dataclasses
import importlib
from typing import Annotated

import typer

from .common import JsonOption, emit

__all__ = ["list_"]


def list_(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every field and its default or value.")] = False,
    json: JsonOption = False,
):
    """List the engines, boards, models, devices and verbs.

    \b
    Example:
      sparseloom list -v
    """
    result = {name: find() for name, find in _SECTIONS.items()}
    emit(result, json, lambda: _report(result, verbose))


def _about(thing):
    """The first line of a docstring."""
    return (thing.__doc__ or "").strip().partition("\n")[0]


def _room(module, name):
    try:
        return getattr(importlib.import_module(f"sparseloom.{module}"), name)
    except ModuleNotFoundError:
        return {}


def _engines():
    engines = _room("models.spec.engines", "ENGINES")
    return {name: {"about": _about(cls), "fields": _defaults(cls)} for name, cls in engines.items()}


def _defaults(cls):
    return {
        field.name: None if field.default is dataclasses.MISSING else field.default
        for field in dataclasses.fields(cls) if field.init
    }


def _verbs():
    from sparseloom.cli import verb_function, verb_names

    return {name: {"about": _about(verb_function(name))} for name in verb_names()}


_SECTIONS = {"engines": _engines, "verbs": _verbs}


def _report(result, verbose):
    from rich.console import Group
    from rich.table import Table

    parts = []
    for section, entries in result.items():
        table = Table("", "", box=None, show_header=False, pad_edge=False, title=section, title_justify="left")
        for name, entry in entries.items():
            table.add_row(name, entry["about"])
            for field, value in entry.get("fields", {}).items() if verbose else ():
                table.add_row(f"  {field}", "required" if value is None else str(value), style="dim")
        parts += [table, ""]
    return Group(*parts[:-1])
