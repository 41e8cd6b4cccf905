"""Verilator's lint, all warnings on, over an exported design."""

import subprocess
import tempfile
from pathlib import Path

from .. import hdl
from .tools import tool_environment, verilator_root
from .twins import twins

__all__ = ["WAIVERS", "lint"]

WAIVERS = Path(hdl.__file__).with_name("lint.vlt")
"""The waiver file: what the lint may say, each with its reason."""


def lint(design, waivers=WAIVERS):
    """Warnings and errors, one text each, that ``waivers`` (a file, or None for no waiver) leaves; an empty list is clean."""
    files = {f"{design.name}.v": design.verilog} | twins(design)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            Path(folder, name).write_text(text)
        words = [verilator_root() / "bin" / "verilator_bin", "--lint-only", "-Wall", "--top-module", design.name]
        words += ([waivers] if waivers else []) + list(files)
        run = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=tool_environment())
    found = [line for line in run.stderr.splitlines() if line.startswith(("%Warning", "%Error")) and "Exiting due to" not in line]
    return found or ([run.stderr.strip()] if run.returncode else [])
