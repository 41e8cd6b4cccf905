"""Every tracked file: short, small, clean to the linter, and without a trace of the machine it was written on."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

MAX_LINES = 500
MAX_BYTES = 8 << 20
CODE = {".py", ".cpp", ".h", ".sh", ".tcl", ".j2", ""}

# Written in pieces, so that this file does not match itself.
ABSOLUTE = "|".join(["work", "root", "home", "Users", "tmp", "mnt", "opt", "farm"])
MACHINE = re.compile(rb"(?<![\w.$*}-])/(" + ABSOLUTE.encode() + rb")/[\w.-]")
HOSTS = re.compile("|".join(["pypi" + r"\.org", "python" + "hosted", "deb" + r"\.debian\.org", "registry" + r"\.npmjs",
                             "index" + "-url", "find" + "-links", "file" + ":///"]).encode())


def traces(content):
    """Machine paths and package-index addresses in the bytes of a file."""
    return [match[0].decode() for pattern in (MACHINE, HOSTS) for match in pattern.finditer(content)]


def test_no_file_is_long(root, tracked):
    code = [path for path in tracked if path.suffix in CODE and path.name != "LICENSE"]
    assert len(code) > 20
    lengths = {str(path): len((root / path).read_bytes().splitlines()) for path in code}
    assert {name: count for name, count in lengths.items() if count > MAX_LINES} == {}


def test_no_file_is_large(root, tracked):
    assert {str(path): size for path in tracked if (size := (root / path).stat().st_size) > MAX_BYTES} == {}


def test_no_file_knows_its_machine(root, tracked):
    found = {str(path): traces((root / path).read_bytes()) for path in tracked}
    assert {name: hits for name, hits in found.items() if hits} == {}


@pytest.mark.parametrize("text", ["cd /" + "root/x", "'/" + "home/me'", "see pypi" + ".org", "--index" + "-url=x"])
def test_a_planted_trace_is_found(text):
    assert len(traces(text.encode())) == 1


def test_lint_is_clean(root):
    command = [Path(sys.executable).with_name("ruff"), "check", "--no-cache", "--output-format", "concise", "."]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_lock_pins_names_and_versions_alone(root):
    lines = [line for line in (root / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 50
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*", line)] == []
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(set(names))
