"""The recipe: its command line without PyTorch, its shapes, and the choice of what ships."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from sparseloom.models.zoo import ship
from sparseloom.models.zoo.checkpoint import expected_shapes, read_model, ternary_tensors, write_checkpoint
from sparseloom.models.zoo.tokenizer import train_tokenizer
from sparseloom.models.zoo.train import inner_width, parse

CONFIG = {"vocabulary": 272, "width": 8, "inner": 4, "layers": 1}
TEXT = "".join(f"And it came to pass in the year {number}, that the word was kept.\n" for number in range(2000))


def test_help_and_missing_torch(tmp_path):
    run = subprocess.run([sys.executable, "-m", "sparseloom.models.zoo.train", "--help"], capture_output=True, text=True)
    assert run.returncode == 0 and "--dropout" in run.stdout
    code = ("import sys; sys.modules['torch'] = None\nfrom sparseloom.models.zoo.train import main\n"
            f"sys.exit(main(['--out', {str(tmp_path / 'runs')!r}]))")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.startswith("train: PyTorch must be installed (pip install torch)") and run.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name, value", [("vocabulary", 270), ("vocabulary", 252), ("width", 6), ("layers", 0)])
def test_sizes_that_make_no_file_are_refused(name, value, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(["--out", "runs", f"--{name}={value}"])
    assert f"{name} must be a multiple of" in capsys.readouterr().err


@pytest.mark.parametrize("width, inner", [(256, 768), (512, 1536), (1024, 2816), (2048, 5632), (2560, 6912)])
def test_inner_width_by_the_published_rule(width, inner):
    assert inner_width(width) == inner


def test_the_recipe_is_the_runs_that_were_made(root):
    results = json.loads((root / "models/zoo/checkpoints/kjv-matmulfree.results.json").read_text())
    made = {run["name"]: run for run in results["runs"]}
    lines = (root / "models/zoo/checkpoints/kjv-matmulfree.recipe.txt").read_text().splitlines()
    assert len(lines) == len(made) > 50
    for line in lines:
        options = parse(["--out", "runs", *line.split()])
        run = made[options.name]
        assert run["options"] == {key: getattr(options, key) for key in run["options"]} and run["weights"] == options.weights
        assert (run["config"]["width"], run["config"]["layers"]) == (options.width, options.layers)


def make_runs(folder):
    """Three ternary runs and a float one, as training writes them; ``b`` has the best validation, ``c`` the best test score."""
    train_tokenizer(TEXT, CONFIG["vocabulary"]).save(str(folder / "tokenizer.json"))
    matrices, others = expected_shapes(CONFIG)
    for name, kind, validation, test in [("a", "ternary", 9.0, 9.0), ("b", "ternary", 7.0, 8.0), ("c", "ternary", 8.0, 6.0),
                                         ("d", "float", 5.0, 5.0)]:
        run = {"name": name, "weights": kind, "config": CONFIG, "options": {"seed": ord(name)}, "curve": [{"step": 1}],
               "seconds": 1.0, "validation": {"perplexity": validation}, "test": {"perplexity": test}, "torch": "0",
               "device": "cpu"}
        (folder / f"{name}.json").write_text(json.dumps(run))
        draw = np.random.default_rng(ord(name))
        values = {key: draw.normal(size=shape).astype(np.float32) for key, shape in (matrices | others).items()}
        if kind == "ternary":
            write_checkpoint(folder / f"{name}.safetensors", ternary_tensors(values), {"config": CONFIG})


def test_ship_chooses_by_validation_and_measures_again(tmp_path, capsys):
    make_runs(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    target = tmp_path / "new" / "m.safetensors"
    assert ship.main([str(tmp_path), "--text", str(tmp_path / "text.txt"), "--to", str(target)]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert (scores["ternary"]["run"], scores["float"]["run"]) == ("b", "d")
    weights, _, metadata = read_model(target)
    expected, _, _ = read_model(tmp_path / "b.safetensors")
    assert all(np.array_equal(weights[name].trits, expected[name].trits) for name in expected) and len(expected) == 7
    results = json.loads(target.with_suffix(".results.json").read_text())
    assert metadata["perplexity"] == results["scores"] == scores
    assert [run["name"] for run in results["runs"]] == ["d", "b", "c", "a"]
    assert sorted(results["sha256"]) == ["m.heldout.txt", "m.safetensors", "m.tokenizer.json"]
    for name, digest in results["sha256"].items():
        assert hashlib.sha256((target.parent / name).read_bytes()).hexdigest() == digest
    # A random model over 272 tokens: far from the claim of its run file, so it was measured here.
    assert scores["ternary"]["test"]["perplexity"] > 100 > scores["bigram"]["test"]["perplexity"] > 1


def test_ship_refuses_in_one_line(tmp_path, capsys):
    make_runs(tmp_path)
    (tmp_path / "d.json").unlink()
    (tmp_path / "text.txt").write_text(TEXT)
    assert ship.main([str(tmp_path), "--text", str(tmp_path / "text.txt"), "--to", str(tmp_path / "m.safetensors")]) == 2
    error = capsys.readouterr().err
    assert "float run must be among the results" in error and error.count("\n") == 1
    assert ship.main([str(tmp_path), "--text", str(tmp_path / "nothing")]) == 2
    assert not (tmp_path / "m.safetensors").exists()
