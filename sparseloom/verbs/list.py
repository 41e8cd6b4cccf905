"""``sparseloom list``: everything that has a name on the command line, as the rooms register it."""

import dataclasses
import importlib
from typing import Annotated

import typer

import sparseloom

from .common import JsonOption, emit
from .tiers import command_for_module

__all__ = ["list_"]

# Section -> the room's module and its registry: a dict from name to a dataclass (type or instance) or anything with a docstring.
# A field whose value has a `basis` is a figure: `value`, `basis` and `source`.
_REGISTRIES = {
    "engines": ("models.spec.engines", "ENGINES"),
    "boards": ("models.spec.boards", "BOARDS"),
    "presets": ("models.spec.presets", "PRESETS"),
    "models": ("models.zoo.registry", "MODELS"),
}


def list_(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every field and its default or value.")] = False,
    json: JsonOption = False,
):
    """List the engines, boards, presets, models, devices and verbs.

    \b
    Example:
      sparseloom list -v
    """
    from sparseloom.cli import verb_function, verb_names

    result = {}
    for section, (module, registry) in _REGISTRIES.items():
        found = getattr(importlib.import_module(f"sparseloom.{module}"), registry)
        result[section] = {name: _entry(thing) for name, thing in found.items()}
    result["devices"] = {name: _device(*where) for name, where in sparseloom.DEVICES.items()}
    result["verbs"] = {name: _entry(verb_function(name)) for name in verb_names()}
    emit(result, json, lambda: _report(result, verbose))


def _device(module, name):
    """A device's class may need a tier that is not installed: then how to add it."""
    try:
        return _entry(getattr(importlib.import_module(f"sparseloom.{module}"), name))
    except ModuleNotFoundError as error:
        command = command_for_module(error.name)
        if command is None:
            raise
        return {"about": f"not installed: {command}"}


def _entry(thing):
    """``about``, and the ``fields`` of a dataclass: defaults of a type, values of an instance, figures with basis and source."""
    if not dataclasses.is_dataclass(thing):
        return {"about": _first_line(thing)}
    fields = {field.name: field for field in dataclasses.fields(thing) if field.init and field.name not in ("name", "about")}
    if isinstance(thing, type):
        shown = {name: {"value": _default(field)} for name, field in fields.items()}
        return {"about": _first_line(thing), "fields": shown}
    values = {name: getattr(thing, name) for name in fields}
    shown = {name: vars(value) if hasattr(value, "basis") else {"value": value} for name, value in values.items()}
    words = [value for value in values.values() if isinstance(value, str)]
    return {"about": getattr(thing, "about", None) or ", ".join(words), "fields": shown}


def _first_line(thing):
    return (thing.__doc__ or "").strip().partition("\n")[0]


def _default(field):
    return "required" if field.default is dataclasses.MISSING else field.default


def _report(result, verbose):
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts = []
    for section, entries in result.items():
        table = Table("", "", box=None, show_header=False, pad_edge=False)
        for name, entry in entries.items():
            table.add_row(Text(name, style="cyan"), Text(entry["about"]))
            for field, shown in entry.get("fields", {}).items() if verbose else ():
                origin = f" ({shown['basis']}: {shown['source']})" if "basis" in shown else ""
                table.add_row(Text(f"  {field}", style="dim"), Text(f"{shown['value']}{origin}", style="dim"))
        parts += [Text(section, style="bold"), table, Text("")]
    return Group(*parts[:-1])
