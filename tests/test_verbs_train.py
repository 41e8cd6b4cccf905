"""``sparseloom train`` on golden models: results, checkpoints, Ctrl-C, plots, refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from sparseloom import cli
from sparseloom.verbs.train_plot import smoothed

SPARSELOOM = Path(sys.executable).with_name("sparseloom")
SMALL = ("digits-small", "--batch", "16", "--lr", "0.02")


@pytest.fixture
def run(capsys):
    def words(*arguments):
        code = cli.main(["train", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return words


def test_a_training(run):
    code, out, _ = run(*SMALL, "--epochs", 2, "--json")
    found = json.loads(out)
    assert code == 0 and found["steps"] == len(found["losses"]) == 100 and found["recipe"]["scheme"] == "bdwp"
    assert found["losses"][-1] == found["loss"] and np.mean(found["losses"][-10:]) < 0.8 * np.mean(found["losses"][:10])
    assert found["held_out"] == [[50, found["held_out"][0][1]], [100, found["held_out_right"]]] and found["held_out_right"] > 50
    assert found["array_cycles"] == 100 * found["step_cycles"] and found["cycles"] == found["predicted_cycles"]
    assert found["step_cycles"] == sum(row["cycles"] for row in found["schedule"]) < found["dense_step_cycles"]
    assert found["step_speedup"] == found["dense_step_cycles"] / found["step_cycles"] < 2
    assert {row["engine"] for row in found["engines"]} == {"nm_train", "nm_prune", "nm_update", "nm_load"}
    assert found["basis"]["array_cycles"] == found["basis"]["step_speedup"] == "exact" and "wrong" not in found


def test_the_table(run):
    code, out, err = run(*SMALL, "--steps", 2)
    assert code == 0 and err == "" and "conv2  backward" in out and "2:8" in out and "step speedup" in out


def test_schemes_and_seeds_differ(run):
    losses = {}
    for words in (("--scheme", "dense"), ("--scheme", "forward"), ("--scheme", "backward"), ("--scheme", "bdwp"), ("--seed", 2),
                  ("--nnz", 1, "--group", 4), ("--rule", "lion"), ("--weight-decay", 0.1), ("--pruned-decay", 0.5),
                  ("--lr", 0.01)):
        code, out, _ = run("digits-small", "--batch", 16, "--steps", 3, *words, "--json")
        assert code == 0
        losses[words] = tuple(json.loads(out)["losses"])
    assert len(set(losses.values())) == len(losses)


def test_resumed(run, tmp_path):
    path, straight = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    code, out, _ = run(*SMALL, "--steps", 60, "--checkpoint", straight, "--json")
    wanted = json.loads(out)
    assert run(*SMALL, "--steps", 13, "--checkpoint", path)[0] == 0
    code, out, _ = run("--resume", "--checkpoint", path, "--steps", 60, "--json")
    found = json.loads(out)
    assert code == 0 and found["losses"] == wanted["losses"] and (found["steps"], found["steps_now"]) == (60, 47)
    assert found["recipe"] == wanted["recipe"] and found["held_out_right"] == wanted["held_out_right"]
    one, other = load_file(path), load_file(straight)
    assert all(np.array_equal(one[name].view(np.uint8), other[name].view(np.uint8)) for name in other if name != "held")
    # Nothing left to do is no error.
    code, out, _ = run("--resume", "--checkpoint", path, "--steps", 60, "--json")
    assert code == 0 and json.loads(out)["steps_now"] == 0


def test_interrupted_it_leaves_a_checkpoint_to_go_on_with(run, tmp_path):
    path = tmp_path / "t.safetensors"
    words = [SPARSELOOM, "train", *SMALL, "--epochs", "1000", "--checkpoint", path]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        before = None
        while time.monotonic() < until:  # the first file is of step 0, the second of the first epoch
            stamp = path.stat().st_mtime_ns if path.exists() else None
            if before is not None and stamp is not None and stamp != before:
                break
            before = stamp if before is None else before
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == "" and "stopped after step" in err and "Traceback" not in err
    done = int(err.split("stopped after step ")[1].split(";")[0])
    assert done >= 50 and f"go on with --checkpoint {path} --resume" in err and os.listdir(tmp_path) == [path.name]
    code, out, _ = run("--resume", "--checkpoint", path, "--steps", done + 2, "--json")
    straight = json.loads(run(*SMALL, "--steps", done + 2, "--json")[1])
    assert code == 0 and json.loads(out)["steps_now"] == 2 and json.loads(out)["losses"] == straight["losses"]


def test_a_divergence_is_one_line_and_keeps_what_was(run, tmp_path):
    path = tmp_path / "t.safetensors"
    code, out, err = run("digits-small", "--batch", 16, "--lr", 1e6, "--steps", 50, "--checkpoint", path)
    assert (code, out) == (2, "") and err.startswith("error: training: ") and "must stay finite" in err and err.count("\n") == 1
    tensors = load_file(path)
    assert len(tensors["losses"]) > 0 and all(np.isfinite(tensor).all() for tensor in tensors.values())


@pytest.mark.parametrize("form, start", [("png", b"\x89PNG"), ("svg", b"<?xml"), ("html", b"<!doctype html>")])
def test_plots(run, tmp_path, form, start):
    first, second = tmp_path / f"a.{form}", tmp_path / f"b.{form}"
    for path in (first, second):
        assert run(*SMALL, "--steps", 30, "--plot", path)[0] == 0
    data = first.read_bytes()
    assert data.startswith(start) and data == second.read_bytes() and sorted(os.listdir(tmp_path)) == [first.name, second.name]
    if form == "html":
        text = data.decode()
        assert "bdwp 2:8" in text and "<script src=" not in text and "<link" not in text


def test_the_mean_that_is_drawn():
    losses = [4.0, 2.0, 6.0, 8.0]
    assert smoothed(losses, 2) == [4, 3, 4, 7] and smoothed([], 3) == [] and smoothed(losses, 9) == [4, 3, 4, 5]


@pytest.mark.parametrize("words, line", [
    (["letters"], "network: name must be one of digits, digits-small"),
    (["--device", "board"], "--device: must be one of golden, sim"),
    (["--scheme", "both"], "recipe: scheme must be one of dense"), (["--nnz", "3"], "recipe: nnz:group must be one of 1:1, 2:4"),
    (["--steps", "0"], "--steps"), (["--steps", "1", "--epochs", "1"], "--steps: must not come with --epochs"),
    (["--resume"], "--resume: needs --checkpoint FILE"),
    (["--plot", "x.gif"], "--plot: must end in .png or .svg or .pdf or .html"),
    (["--plot", "no/x.png"], "--plot: must lie in a folder that exists"), (["--lr", "-1"], "recipe: lr must be above 0"),
    (["digits-small", "--data", "none.npz"], "none.npz: file must hold"),
    (["digits-small", "--batch", "801"], "batch must be at most 800"),
    (["digits-small", "--checkpoint", "no/t.st"], "no/t.st: checkpoint must be writable"),
    (["--resume", "--checkpoint", "no.st"], "no.st: file must be a readable checkpoint"),
    (["digits-small", "--batch", "4000"], "batch must be at most 800"),
])
def test_bad_input_is_one_line(run, words, line):
    code, out, err = run(*words)
    assert (code, out) == (2, "") and line in err and err.startswith("error: ") and err.count("\n") == 1


def test_a_checkpoint_is_not_overwritten(run, tmp_path):
    path = tmp_path / "t.safetensors"
    assert run(*SMALL, "--steps", 1, "--checkpoint", path)[0] == 0
    before = path.read_bytes()
    for words, line in [((*SMALL, "--checkpoint", path), "checkpoint must not exist yet, or come with --resume"),
                        (("--resume", "--checkpoint", path, "--seed", 2), "seed must be 2, as the training to go on with has it"),
                        (("digits", "--data", "shipped", "--resume", "--checkpoint", path), "network must be digits (")]:
        code, _, err = run(*words)
        assert code == 2 and line in err and err.count("\n") == 1 and path.read_bytes() == before
    path.write_bytes(before[: len(before) // 2])
    code, _, err = run("--resume", "--checkpoint", path)
    assert code == 2 and "file must be a readable checkpoint" in err and err.count("\n") == 1


def test_a_network_of_a_file_names_its_data(run, tmp_path):
    from sparseloom.host.train.network import BUILT_IN

    path = tmp_path / "mine.json"
    path.write_text(json.dumps(BUILT_IN["digits-small"] | {"name": "mine"}))
    code, _, err = run(path, "--steps", 1)
    assert code == 2 and "--data: must be given for mine: shipped, mnist-5k, or a file" in err
    assert run(path, "--steps", 1, "--data", "shipped")[0] == 0
