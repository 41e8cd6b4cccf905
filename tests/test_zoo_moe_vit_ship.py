"""What ships of a vision transformer is what its run left, measured again on the file; refusals take one line."""

import hashlib
import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo import digits, ship_moe_vit
from sparseloom.models.zoo.moe_vit import MoeVit, expected_shapes

CONFIG = {"side": 28, "patch": 14, "width": 8, "heads": 2, "depth": 2, "hidden": 12, "experts": 4, "expert_hidden": 6, "top_k": 2,
          "tasks": {"digit": 10, "parity": 2}}


@pytest.fixture
def runs(tmp_path):
    """A folder with one run, as training writes it."""
    rng = np.random.default_rng(6)
    tensors = {name: rng.normal(size=shape).astype(np.float32) * 0.4 for name, shape in expected_shapes(CONFIG).items()}
    save_file(tensors, tmp_path / "a.safetensors", {"config": json.dumps(CONFIG)})
    run = {"name": "a", "config": CONFIG, "options": {"seed": 1}, "training": {}, "held_out": {}, "curve": [], "seconds": 1.0,
           "torch": "0", "device": "cpu"}
    (tmp_path / "a.json").write_text(json.dumps(run))
    return tmp_path


def test_ship_writes_and_measures(runs):
    rng = np.random.default_rng(7)
    train, held = ((rng.integers(0, 256, (40, 28, 28), dtype=np.uint8), np.arange(40) % 10) for _ in range(2))
    target = runs / "new" / "m.safetensors"
    results = ship_moe_vit.ship(ship_moe_vit.read_runs(runs, "a"), runs, "a", (train, held), target)
    model = MoeVit.load(target)
    trained = MoeVit.load(runs / "a.safetensors")
    assert all(np.array_equal(model.tensors[name], value.astype(np.float16)) for name, value in trained.tensors.items())
    assert set(model.metadata["ranges"]) == {"norm"} | {f"blocks.{n}.{part}" for n in range(2) for part in (
        "norm1", "q", "k", "v", "attention", "norm2", "hidden")}
    assert {name: row["images"] for name, row in results["scores"].items()} == {"digit": 40, "parity": 40}
    assert results["sample"]["scores"]["digit"]["images"] == 2 and results["recipe"]["data"]["sha256"] == digits.MEMBER_SHA256
    float_right = int((model.forward(held[0], "parity").argmax(axis=1) == held[1] % 2).sum())
    assert results["scores"]["parity"]["float_right"] == float_right
    for name, digest in results["sha256"].items():
        assert hashlib.sha256((target.parent / name).read_bytes()).hexdigest() == digest
    assert sorted(results["sha256"]) == ["m.heldout.npz", "m.safetensors"]


def test_refusals(runs, capsys):
    words = [str(runs), "--data", str(runs / "none.npz"), "--to", str(runs / "new" / "m.safetensors")]
    assert ship_moe_vit.main([*words, "--run", "b"]) == 2
    assert "run must be one of a, got" in (error := capsys.readouterr().err) and error.count("\n") == 1
    assert ship_moe_vit.main([*words, "--run", "a"]) == 2
    assert "file must hold the digits" in capsys.readouterr().err and not (runs / "new").exists()
    np.savez(runs / "d.npz", x=np.zeros((2, 784)), y=[0, 1])
    with pytest.raises(InputError, match="500 images of each digit"):
        digits.load(runs / "d.npz")
