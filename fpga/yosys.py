"""Yosys as a child process: memory freed, crashes and time limits turned into one clear line."""

import subprocess
import sys
import tempfile
from importlib import metadata, util
from pathlib import Path

from ..models.spec.errors import MissingTool

__all__ = ["SynthesisFailed", "run_yosys", "yosys_version"]

# The child must not import this package: nothing but pyosys runs in it. Commands come one a line on its standard input.
_CHILD = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for command in sys.stdin.read().splitlines():
    design.run_pass(command)
"""


class SynthesisFailed(RuntimeError):
    """A tool refused the design, crashed or ran past its time; the message is the one line that says so."""


def yosys_version():
    """Version of the Yosys that :func:`run_yosys` runs."""
    if util.find_spec("pyosys") is None:
        raise MissingTool("Yosys (pyosys)", "synthesise", "pip install 'sparseloom[synth]'")
    return metadata.version("pyosys")


def run_yosys(verilog, commands, *, results, seconds=900):
    """Read ``verilog`` (text), run ``commands`` in an empty folder, return ``{name: text}`` of the files called ``results``.

    Raises :class:`SynthesisFailed` with Yosys' own error line, or if it takes more than ``seconds``; MissingTool without Yosys.
    """
    yosys_version()
    with tempfile.TemporaryDirectory(prefix="sparseloom-yosys-") as folder:
        (Path(folder) / "design.v").write_text(verilog)
        script = "\n".join(["read_verilog design.v", *commands])
        with open(Path(folder) / "log", "w+") as log:
            try:
                done = subprocess.run([sys.executable, "-I", "-c", _CHILD], input=script, text=True, cwd=folder, stdout=log,
                                      stderr=subprocess.STDOUT, timeout=seconds, check=False)
            except subprocess.TimeoutExpired:
                raise SynthesisFailed(f"Yosys took more than {seconds} s") from None
            if done.returncode:
                log.seek(0)
                raise SynthesisFailed(f"Yosys failed: {_complaint(log.read(), done.returncode)}")
        return {name: (Path(folder) / name).read_text() for name in results}


def _complaint(log, code):
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    wrong = [line for line in lines if "ERROR" in line or "Error" in line]
    return (wrong or lines or [f"exit {code}"])[-1]
