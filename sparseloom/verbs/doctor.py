"""``sparseloom doctor``: what is installed, what is missing, and the command that adds it."""

import platform
import shutil

from sparseloom.models.spec.errors import MissingTool

from .common import CheckFailed, JsonOption, emit
from .tiers import install_command, requirements

__all__ = ["doctor"]

# Tools outside Python: what they are for, and the Debian package that brings them.
_TOOLS = {
    "c++": ("compiling the simulator", "g++"),
    "make": ("compiling the simulator", "make"),
    "perl": ("running Verilator", "perl"),
    "lz4.h": ("FST waveforms", "liblz4-dev"),
    "zlib.h": ("FST waveforms", "zlib1g-dev"),
}

# What one can do, with the tiers and the tools it takes.
_CAPABILITIES = {
    "estimate": (("base",), ()),
    "generate": (("base", "hdl"), ()),
    "simulate": (("base", "hdl", "sim"), ("c++", "make", "perl")),
    "simulate with FST waveforms": (("base", "hdl", "sim"), ("c++", "make", "perl", "lz4.h", "zlib.h")),
    "synth": (("base", "hdl", "synth"), ()),
    "reports with plots": (("base", "report"), ()),
    "faster golden kernels": (("base", "fast"), ()),
    "reading ONNX": (("base", "onnx"), ()),
}


def doctor(json: JsonOption = False):
    """Tell what is installed, what works, and the command that adds what is missing.

    Exits with 0 if the base tier is complete: the rest is optional.

    \b
    Example:
      sparseloom doctor
    """
    packages = requirements()
    tools = {name: _found(name) for name in _TOOLS}
    result = {
        "python": platform.python_version(),
        "packages": {
            tier: {item.name: item.installed if item.fine else None for item in packages if item.tier == tier}
            for tier in dict.fromkeys(item.tier for item in packages)
        },
        "tools": tools,
        "capabilities": {},
        "add": {},
    }
    for name, (tiers, names) in _CAPABILITIES.items():
        lacking = [item.name for item in packages if item.tier in tiers and not item.fine]
        lacking += [tool for tool in names if not tools[tool]]
        result["capabilities"][name] = {"works": not lacking, "missing": lacking}
    for item in packages:
        if not item.fine:
            result["add"][f"{item.name}{item.wanted}"] = install_command(item.tier)
    for name, (_purpose, package) in _TOOLS.items():
        if not tools[name]:
            result["add"][name] = f"sudo apt-get install -y {package}"
    emit(result, json, lambda: _report(result))
    if not all(item.fine for item in packages if item.tier == "base"):
        raise CheckFailed("the base tier is incomplete")


def _found(name):
    """Where a tool is, ``"found"`` for a header that the compiler finds, or None."""
    from sparseloom.sim.tools import compiler, has_headers

    try:
        if name.endswith(".h"):
            return "found" if has_headers(name) else None
        return compiler()[0] if name == "c++" else shutil.which(name)
    except MissingTool:
        return None


def _report(result):
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def rows(title, entries):
        table = Table("", "", box=None, show_header=False, pad_edge=False, title=title, title_justify="left", title_style="bold")
        for name, (fine, text) in entries.items():
            table.add_row(name, Text(text, style="green" if fine else "yellow"))
        return table

    add = result["add"]
    parts = [Text(f"Python {result['python']}", style="bold")]
    for tier, versions in result["packages"].items():
        parts.append(rows(f"\nTier {tier}", {name: (version, version or "missing") for name, version in versions.items()}))
    tools = result["tools"].items()
    parts.append(rows("\nTools", {name: (where, where or f"missing ({_TOOLS[name][0]})") for name, where in tools}))
    parts.append(rows("\nWhat works", {
        name: (state["works"], "yes" if state["works"] else "no, missing " + ", ".join(state["missing"]))
        for name, state in result["capabilities"].items()
    }))
    if add:
        parts.append(rows("\nTo add what is missing", {command: (False, "") for command in dict.fromkeys(add.values())}))
    return Group(*parts)
