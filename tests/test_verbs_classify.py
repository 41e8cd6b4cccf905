"""``classify``: held-out images on golden models and on gates, and what it refuses."""

import json

import pytest

from sparseloom import cli


@pytest.fixture
def run(capsys):
    def words(*arguments):
        code = cli.main(["classify", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return words


def test_images_on_golden_models(run):
    code, out, _ = run("--images", "3", "--json")
    found = json.loads(out)
    assert code == 0 and (found["answers"], found["right"], found["engines"]) == (6, 6, {})
    assert [row["label"] for row in found["images"]] == [0, 3, 6]
    assert all(row["digit"] == row["label"] and row["parity"] == row["label"] % 2 for row in found["images"])
    # Of a task: the patches; in each of 4 blocks 2 norms, 3 dense products or 2, attention; gates; the end.
    dense, experts = 2 + 2 + 1 + 2, 2 + 2 + 1 + 1 + 1 + 2
    assert found["jobs"] == 6 * (1 + 2 * dense + 2 * experts + 2)


def test_the_table_shows_the_images(run):
    code, out, _ = run("--images", "1", "--task", "parity")
    assert code == 0 and "label 0: parity 0" in out and out.count("#") + out.count("*") > 20 and "measured" in out


@pytest.mark.rtl
def test_one_image_on_gates(run):
    code, out, _ = run("--images", "1", "--task", "digit", "--device", "sim", "--json")
    found = json.loads(out)
    assert code == 0 and found["right"] == 1 and found["wrong"] == found["jobs_off"] == 0
    assert found["cycles"] == found["predicted_cycles"] > 10_000 and found["compared"] > 50_000
    assert set(found["engines"]) == {"moe_linear", "attention", "vector", "moe_gate"}
    assert found["basis"]["cycles"] == "rtl" and found["basis"]["predicted_cycles"] == "exact"


@pytest.mark.parametrize("words, line", [
    (["smollm2"], "MODEL: must be one of mnist-moe-vit, got 'smollm2'"),
    (["--task", "colour"], "--task: must be one of digit, parity"),
    (["--device", "board"], "--device: must be one of golden, sim, got 'board'"), (["--images", "0"], "--images"),
])
def test_bad_input_is_one_line(run, words, line):
    code, out, err = run(*words)
    assert (code, out) == (2, "") and line in err and err.startswith("error: ") and err.count("\n") == 1


def test_check_tells_the_jobs_of_an_image(capsys):
    assert cli.main(["check", "mnist-moe-vit", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["jobs"] == 2 * 35 and found["cycles"] == sum(row["cycles"] for row in found["engines"]) > 100_000
    assert {row["engine"] for row in found["engines"]} == {"moe_linear", "attention", "vector", "moe_gate"}
    assert cli.main(["check", "mnist-moe-vit", "--engine", "ternary_engine"]) == 2
    assert "--engine: must not come with mnist-moe-vit" in capsys.readouterr().err
