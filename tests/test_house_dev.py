"""``./dev`` on a machine that lacks things: it installs them as root, and tells the one command to anybody else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMON = ("bash", "dirname", "readlink", "tr", "cat", "mktemp", "tail", "rm", "env", "python3")


@pytest.fixture
def machine(root, tmp_path):
    """Run ``./dev`` with a PATH that holds little; ``tools`` are shell scripts by name."""

    def run(*words, tools):
        programs = tmp_path / "bin"
        programs.mkdir()
        shutil.copy(root / "dev", tmp_path)
        for name in set(COMMON) - set(tools):
            (programs / name).symlink_to(sys.executable if name == "python3" else shutil.which(name))
        for name, text in tools.items():
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        return subprocess.run([tmp_path / "dev", *words], env={"PATH": str(programs)}, capture_output=True, text=True)

    return run


HEADERS = [package for header, package in (("lz4.h", "liblz4-dev"), ("zlib.h", "zlib1g-dev"))
           if not Path("/usr/include", header).exists()]


def test_a_user_is_told_the_one_command(machine):
    done = machine("test", tools={"id": "echo 1000", "make": ""})
    packages = " ".join(["g++", "perl", *HEADERS])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: system packages are missing; run: sudo apt-get update && sudo apt-get install -y {packages}\n")


def test_root_gets_them_installed(machine, tmp_path):
    done = machine("setup", tools={"id": "echo 0", "apt-get": f"echo \"$@\" >>{tmp_path}/calls; [ $1 = update ]"})
    packages = " ".join(["g++", "make", "perl", *HEADERS])
    assert (tmp_path / "calls").read_text() == f"update\ninstall -y --no-install-recommends {packages}\n"
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"system packages: {packages}", f"error: apt-get could not install: {packages}"]


def test_without_a_fitting_python_debian_s_is_asked_for(machine):
    tools = {"id": "echo 1000", "c++": "", "make": "", "perl": "", "python3": "exit 1"}
    done = machine("setup", tools=tools)
    assert done.returncode == 2
    assert done.stderr.endswith("install -y " + " ".join([*HEADERS, "python3.11-venv"]) + "\n")


@pytest.mark.parametrize("words, code", [((), 0), (("help",), 0), (("--help",), 0), (("nonsense",), 2)])
def test_usage(machine, words, code):
    done = machine(*words, tools={})
    assert done.returncode == code
    text = done.stderr if code else done.stdout
    assert all(f"\n  {verb} " in text for verb in ("setup", "demo", "test", "lint", "bench", "notebook", "lock"))
    assert ("error: unknown verb 'nonsense'\n" in done.stderr) == bool(code)
