"""The verbs that run gates, simulate and demo, on the build that the tests of the host share."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sparseloom import cli
from sparseloom.host import golden
from sparseloom.host.container import load_plan
from sparseloom.models.golden import engines
from sparseloom.models.spec.ternary import TernaryEngine
from sparseloom.models.zoo.checkpoint import expected_shapes, ternary_tensors, write_checkpoint
from sparseloom.models.zoo.matmulfree import MatmulFreeLM
from sparseloom.models.zoo.tokenizer import train_tokenizer

pytestmark = pytest.mark.rtl

SETTINGS = "rows=4,lanes=10,max_k=60,max_n=22,max_m=3"
BUILD = TernaryEngine(rows=4, lanes=10, max_k=60, max_n=22, max_m=3)
SIMULATE = ["simulate", "ternary_engine", "--set", SETTINGS, "--shape", "k=55,n=21,m=3"]
SPARSELOOM = Path(sys.executable).with_name("sparseloom")


def run(capsys, *words):
    """``(exit code, JSON object, stderr)`` of a command line."""
    code = cli.main([*words, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


def test_simulate_agrees_with_estimate(capsys):
    code, found, _ = run(capsys, *SIMULATE, "--seed", "3")
    _, told, _ = run(capsys, "estimate", *SIMULATE[1:])
    assert code == 0 and found["bit_exact"] is True
    assert found["compared"] == 21 * 3 + 1  # the results, and how many were clamped
    assert found["cycles"] == found["predicted_cycles"] == told["cycles"]
    assert found["useful_fraction"] == told["useful_fraction"] and found["build"] == told["build"]
    assert found["stalls"] == {"i": 0, "x": 0, "o": 0}
    assert found["basis"]["cycles"] == "rtl" and found["basis"]["predicted_cycles"] == "exact"


def test_simulate_under_stalls_is_late_and_exact(capsys):
    code, found, _ = run(capsys, *SIMULATE, "--stall", "0.3", "--idle", "0.3")
    assert code == 0 and found["bit_exact"] and found["cycles"] > found["predicted_cycles"] and sum(found["stalls"].values()) > 0


def test_a_wrong_result_exits_with_1(capsys, monkeypatch):
    right = engines.results

    def wrong(build, job, operands):
        found = right(build, job, operands)
        found["y"][0, :2] += 1
        return found

    monkeypatch.setattr(engines, "results", wrong)
    code, found, err = run(capsys, *SIMULATE)
    assert (code, found["bit_exact"]) == (1, False)
    assert err == "error: 2 of 64 results differ from the golden model\n"


def test_wrong_cycles_exit_with_1_but_for_stalls(capsys, monkeypatch):
    right = TernaryEngine.cycles
    monkeypatch.setattr(TernaryEngine, "cycles", lambda build, job: right(build, job) + 1)
    code, found, err = run(capsys, *SIMULATE)
    assert code == 1 and found["bit_exact"] and found["predicted_cycles"] == found["cycles"] + 1
    assert err == f"error: the gates took {found['cycles']} cycles, the closed form says {found['predicted_cycles']}\n"
    assert run(capsys, *SIMULATE, "--stall", "0.3")[0] == 0


def test_simulate_writes_a_waveform(capsys, tmp_path):
    code, found, _ = run(capsys, *SIMULATE, "--waves", str(tmp_path / "job.vcd"))
    assert code == 0 and found["waves"] == str(tmp_path / "job.vcd")
    text = (tmp_path / "job.vcd").read_text()
    assert "$enddefinitions" in text and "i_w_payload" in text and len(list(tmp_path.iterdir())) == 1


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A random MatMul-free model with a tokenizer of its own; some of its matrices need tiles along every axis."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    tokenizer = train_tokenizer("in the beginning was the word and the word was with god " * 9, 280)
    config = {"vocabulary": tokenizer.get_vocab_size(), "width": 24, "inner": 64, "layers": 2}
    draw = np.random.default_rng(0)
    matrices, others = expected_shapes(config)
    parameters = {name: draw.normal(size=shape) for name, shape in matrices.items()}
    parameters |= {name: draw.uniform(0.5, 1.5, shape) for name, shape in others.items()}
    tokenizer.save(str(path.with_suffix(".tokenizer.json")))
    write_checkpoint(path, ternary_tensors(parameters), {"config": config})
    return path


class Page(HTMLParser):
    """Collects what a page refers to, and which tags stay open."""

    VOID = {"meta", "link", "br", "img", "input", "hr"}

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.seen = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.add(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def demo(checkpoint, output, *words):
    return ["demo", "--model", str(checkpoint), "--set", SETTINGS, "--prompt", "the word", "-o", str(output),
            *(words or ("--tokens", "4"))]


def test_demo(capsys, tmp_path, checkpoint):
    code, found, _ = run(capsys, *demo(checkpoint, tmp_path / "out"))
    model = MatmulFreeLM.load(checkpoint)
    ids = model.encode("the word")
    assert code == 0 and found["bit_exact"] is True
    assert found["text"] == model.decode(list(model.generate(ids, 4, temperature=0.7, seed=1)))
    assert found["products"] == 4 * 13
    assert found["compared"] == (len(ids) + 3) * sum(layer.trits.shape[0] for layer in model.layers.values())
    assert found["cycles"] == found["predicted_cycles"] > 3 * found["cycles_per_token"]
    assert 0 < found["useful_weights_per_cycle"] < found["peak_weights_per_cycle"] == 40
    for board in found["boards"].values():
        assert board["tokens_per_second"] == min(board["tokens_per_second_by_memory"], board["tokens_per_second_by_engine"])
        assert board["tokens_per_second_by_engine"] == board["clock"]["value"] / found["cycles_per_token"]
        assert board["tokens_per_second_by_memory"] == board["bandwidth"]["value"] / found["stream_bytes_per_token"]
        assert board["clock"]["basis"] == board["basis"]["tokens_per_second"] == "assumed"
    folder = tmp_path / "out"
    assert {path.name for path in folder.iterdir()} == set(found["files"].values()) and len(list(tmp_path.iterdir())) == 1
    assert "module ternary_engine" in (folder / "ternary_engine.v").read_text()
    assert "$enddefinitions" in (folder / "product.vcd").read_text()
    assert load_plan(folder / "plan.safetensors").build == BUILD
    calls = json.loads((folder / "result.json").read_text())["calls"]
    assert sum(call["cycles"] for call in calls) == found["cycles"] and {call["round"] for call in calls} == {0, 1, 2, 3}
    page = Page((folder / "report.html").read_text())
    assert page.open == [] and "svg" in page.seen and "script" not in page.seen
    assert {link for link in page.links if not link.startswith("#")} == set(found["files"].values())


def test_demo_prints_the_text_as_it_comes(capsys, tmp_path, checkpoint):
    assert cli.main(demo(checkpoint, tmp_path / "out")) == 0
    out, _ = capsys.readouterr()
    text = json.loads((tmp_path / "out" / "result.json").read_text())["text"]
    assert out.startswith(f"\nthe word{text}") and "every result equal to golden" in out and "report.html" in out


def test_demo_exits_with_1_where_the_gates_are_wrong(capsys, tmp_path, checkpoint, monkeypatch):
    """A broken golden device in the place of the gates: the comparison notices, and the report is written all the same."""

    class Broken(golden.GoldenDevice):
        def __init__(self, build, waves=None):
            super().__init__(build)
            if waves:
                waves.write_text("")

        def _execute(self, steps):
            for result, receipt in super()._execute(steps):
                yield result + 1, replace(receipt, cycles=receipt.cycles + 1)

    monkeypatch.setattr("sparseloom.sim.device.SimDevice", Broken)
    code, found, err = run(capsys, *demo(checkpoint, tmp_path / "out"))
    assert code == 1 and not found["bit_exact"] and found["cycles"] > found["predicted_cycles"]
    assert err == f"error: {found['compared']} of {found['compared']} results differ from the golden model\n"
    assert "NOT EXACT" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("words, line", [
    (["--model", "nowhere.safetensors"], "nowhere.safetensors"),
    (["--set", "rows=0"], "--set: rows must be 1..128, got 0"),
    (["--datapath", "lut"], "--set: datapath must be one of tree, table, got 'lut'"),
    (["--tokens", "1"], "--tokens"),
    (["--temperature", "-1"], "--temperature"),
    (["-o", "file"], "--output: must be a folder, got 'file'"),
])
def test_demo_refuses_bad_input_before_it_writes(capsys, tmp_path, monkeypatch, words, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    code, _, err = run(capsys, "demo", *words)
    assert code == 2 and line in err and err.startswith("error: ") and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("words, line", [
    (["--waves", "job.txt"], "--waves: must end in .vcd or .fst, got 'job.txt'"),
    (["--waves", "nowhere/job.vcd"], "--waves: must lie in a folder that exists, got 'nowhere/job.vcd'"),
    (["--stall", "1"], "--stall"),
    (["--seed", "-1"], "--seed"),
])
def test_simulate_refuses_bad_input(capsys, tmp_path, monkeypatch, words, line):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *SIMULATE, *words)
    assert code == 2 and line in err and err.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_without_a_compiler_there_is_one_line(tmp_path, checkpoint):
    environment = {**os.environ, "CXX": "no-such-compiler", "SPARSELOOM_CACHE": str(tmp_path / "cache")}
    for words in (SIMULATE, demo(checkpoint, tmp_path / "out")):
        done = subprocess.run([SPARSELOOM, *words, "--json"], env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(r"error: a C\+\+ compiler .* is missing, .*; run: .*\n", done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_an_interrupt_leaves_nothing(tmp_path, checkpoint):
    words = demo(checkpoint, tmp_path / "out", "--tokens", "100000", "--temperature", "1")
    run_ = subprocess.Popen([SPARSELOOM, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert run_.stdout.read(len("\nthe word and")) != ""  # it is in the middle of the text
    time.sleep(0.2)
    run_.send_signal(signal.SIGINT)
    run_.communicate(timeout=60)
    assert run_.returncode == 130 and list(tmp_path.iterdir()) == []
