"""The command line's frame: exit codes, one line for each error, one JSON object, help with an example, a quick start."""

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import typer

from sparseloom import cli
from sparseloom.models.spec.errors import InputError, MissingTool, check_int
from sparseloom.verbs import common

SPARSELOOM = Path(sys.executable).with_name("sparseloom")
HELP_SECONDS = 0.5


def command(*words, **options):
    return subprocess.run([SPARSELOOM, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)


@pytest.fixture
def verb(monkeypatch):
    """Make one function the only verb, ``probe``."""

    def plant(function):
        monkeypatch.setattr(cli, "verb_names", lambda: ["probe", "other"])
        monkeypatch.setattr(cli, "verb_function", lambda name: function if name == "probe" else lambda: None)

    return plant


@pytest.mark.parametrize("error, code, line", [
    (InputError("model.gguf", "magic", "be GGUF", b"GGML"), 2, "error: model.gguf: magic must be GGUF, got b'GGML'"),
    (MissingTool("make", "compile", "sudo apt-get install make"), 2,
     "error: make is missing, needed to compile; run: sudo apt-get install make"),
    (common.CheckFailed("3 results differ"), 1, "error: 3 results differ"),
    (typer.BadParameter("rows must be 1..64, got 99", param_hint="--set"), 2,
     "error: Invalid value for --set: rows must be 1..64, got 99 (see sparseloom probe --help)"),
    (FileNotFoundError(2, "No such file or directory", "x.gguf"), 2, "error: x.gguf: No such file or directory"),
    (ModuleNotFoundError("No module named 'amaranth'", name="amaranth.hdl"), 2,
     "error: amaranth.hdl is not installed; run: pip install 'sparseloom[hdl]'"),
    (KeyboardInterrupt(), 130, ""),
    (ZeroDivisionError("1/0\nand more"), 70, "error: internal: ZeroDivisionError: 1/0 and more (SPARSELOOM_DEBUG=1 shows where)"),
    (ModuleNotFoundError("No module named 'nonsense'", name="nonsense"), 70,
     "error: internal: ModuleNotFoundError: No module named 'nonsense' (SPARSELOOM_DEBUG=1 shows where)"),
])
def test_an_error_is_one_line_and_a_code(verb, capsys, monkeypatch, error, code, line):
    def probe():
        raise error

    monkeypatch.delenv("SPARSELOOM_DEBUG", raising=False)
    verb(probe)
    assert cli.main(["probe"]) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", line and line + "\n")


def test_debug_lets_the_traceback_through(verb, monkeypatch):
    def probe():
        raise ZeroDivisionError

    verb(probe)
    monkeypatch.setenv("SPARSELOOM_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main(["probe"])


SLEEPY = """
import sys, time
from sparseloom import cli

def probe():
    print("up", flush=True)
    time.sleep(60)

cli.verb_names, cli.verb_function = lambda: ["probe", "other"], lambda name: probe
sys.exit(cli.main(["probe"]))
"""


def test_an_interrupt_ends_clean():
    process = subprocess.Popen([sys.executable, "-c", SLEEPY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize("words", [["nonsense"], ["list", "--nonsense"], ["list", "surplus"], ["--nonsense"]])
def test_bad_usage(words):
    done = command(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "--help" in done.stderr


def test_bare_call_prints_help():
    assert command().stdout == command("--help").stdout != ""


def test_version(root):
    assert command("--version").stdout == "sparseloom 0.1.0\n"


def test_a_reader_that_leaves_early_is_no_error():
    done = subprocess.run(f"'{SPARSELOOM}' list -v --json | head -c 1", shell=True, capture_output=True, text=True)
    assert done.stdout == "{" and done.stderr == ""


@pytest.mark.parametrize("name", cli.verb_names())
def test_every_verb_has_help_with_an_example(name):
    done = command(name, "--help")
    assert done.returncode == 0
    assert "Example:" in done.stdout and f"\n    sparseloom {name}" in done.stdout
    assert "--json" in done.stdout


def test_help_is_quick():
    """In CPU seconds, the best of three, so that a busy machine does not count."""
    best = min(_cpu_seconds("--help") for _ in range(3))
    assert best < HELP_SECONDS


def _cpu_seconds(*words):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command(*words, check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Path2(Enum):
    TREE = "tree"
    TABLE = "table"


@dataclass(frozen=True, kw_only=True)
class Build:
    rows: int
    clock: float = 1.0
    fast: bool = False
    path: Path2 = Path2.TREE
    depth: int | None = None
    name: str = ""

    def __post_init__(self):
        check_int("rows", self.rows, 1, 64)


def test_pairs_become_a_typed_spec():
    pairs = common.parse_pairs(["rows=0x10", "clock=2.5,fast=true", "path=table", "depth=none", "name=a"], "--set")
    build = common.construct(Build, pairs, "--set")
    assert build == Build(rows=16, clock=2.5, fast=True, path=Path2.TABLE, depth=None, name="a")
    assert common.construct(Build, {"depth": "3"}, "--set", rows=2) == Build(rows=2, depth=3)
    assert common.construct(Build, {"rows": "2"}, "--shape", make=lambda **values: values) == {"rows": 2}


@pytest.mark.parametrize("texts, message", [
    (["rows"], "must be KEY=VALUE, got 'rows'"),
    (["rows=1,"], "must be KEY=VALUE, got ''"),
    (["=1"], "must be KEY=VALUE, got '=1'"),
    (["rows=1", "rows=1"], "rows is given twice"),
    (["rwos=1"], "unknown key 'rwos', legal keys are rows, clock, fast, path, depth, name"),
    (["rows=four"], "rows must be an integer, got 'four'"),
    (["rows=4.0"], "rows must be an integer, got '4.0'"),
    (["rows=99"], "rows must be 1..64, got 99"),
    (["rows=1", "clock=x"], "clock must be a number, got 'x'"),
    (["rows=1", "fast=maybe"], "fast must be true or false, got 'maybe'"),
    (["rows=1", "path=lut"], "path must be one of tree, table, got 'lut'"),
    (["clock=1"], "Build.__init__() missing 1 required keyword-only argument: 'rows'"),
])
def test_bad_pairs_name_the_rule_and_the_value(texts, message):
    with pytest.raises(typer.BadParameter) as caught:
        common.construct(Build, common.parse_pairs(texts, "--set"), "--set")
    assert caught.value.format_message() == f"Invalid value for --set: {message}"


def test_emit_prints_one_json_object(capsys):
    result = {
        "cycles": np.int64(7), "useful_fraction": np.float64(0.5), "bit_exact": np.bool_(True), "list": np.arange(2),
        "file": Path("a"), "path": Path2.TREE, "basis": {"cycles": "rtl", "useful_fraction": "rtl"}, "build": {"rows": 3},
    }
    common.emit(result, True)
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1
    assert json.loads(out) == {
        "cycles": 7, "useful_fraction": 0.5, "bit_exact": True, "list": [0, 1], "file": "a",
        "path": "tree", "basis": {"cycles": "rtl", "useful_fraction": "rtl"}, "build": {"rows": 3},
    }


def test_emit_prints_a_table_with_bases(capsys):
    common.emit({"cycles": 12345, "bit_exact": True, "basis": {"cycles": "rtl"}, "build": {"rows": 3}}, False)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [["cycles", "12,345", "rtl"], ["bit", "exact", "yes"]]


@pytest.mark.parametrize("result", [{"cycles": 1}, {"cycles": np.int64(1)}, {"cycles": 1.5, "basis": {"cycles": "guess"}}])
def test_a_figure_without_a_basis_is_refused(result):
    with pytest.raises(KeyError, match="'cycles' has no basis"):
        common.emit(result, True)


@pytest.mark.parametrize("value", [float("nan"), object()])
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        common.emit({"part": {"x": value}}, True)


def test_progress_is_silent_when_short_and_on_stderr_when_long(capsys, monkeypatch):
    now = iter([0.0, 1.0, 3.0, 3.0, 4.0, 14.0, 14.0])
    monkeypatch.setattr(common.time, "monotonic", lambda: next(now))
    with common.progress("products", 4) as step:
        for _ in range(4):
            step()
    out, err = capsys.readouterr()
    assert (out, err) == ("", "products: 2/4\nproducts: 4/4\n")
