"""A component that nobody added as a submodule fails its test: Amaranth alone would only warn, and the gates would read zeros."""

import shutil
import subprocess
import sys

FORGETFUL = """
from amaranth.hdl import Fragment, Module
from amaranth.lib.memory import Memory

def test_forgetful():
    m = Module()
    memory = Memory(shape=8, depth=4, init=[])
    {line}
    Fragment.get(m, None).prepare()
"""


def outcome(root, tmp_path, line):
    shutil.copy(root / "tests" / "conftest.py", tmp_path)
    file = tmp_path / "test_planted.py"
    file.write_text(FORGETFUL.format(line=line))
    options = ["-q", "-n", "1", "-p", "no:cacheprovider", "-c", root / "pyproject.toml", "--rootdir", tmp_path]
    return subprocess.run([sys.executable, "-m", "pytest", *options, file], cwd=tmp_path, capture_output=True, text=True)


def test_a_forgotten_submodule_fails(root, tmp_path):
    run = outcome(root, tmp_path, "pass")
    assert run.returncode == 1 and "UnusedElaboratable" in run.stdout, run.stdout


def test_an_added_submodule_passes(root, tmp_path):
    run = outcome(root, tmp_path, "m.submodules.memory = memory")
    assert run.returncode == 0, run.stdout
