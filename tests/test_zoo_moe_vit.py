"""The vision transformer with experts in floats: against loops over single numbers, its file, its data and its recipe."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo.moe_vit import MoeVit, expected_shapes, patches, top_experts
from sparseloom.models.zoo.train_moe_vit import parse, read, split

CONFIG = {"side": 6, "patch": 2, "width": 8, "heads": 2, "depth": 3, "hidden": 12, "experts": 4, "expert_hidden": 6, "top_k": 2,
          "tasks": {"digit": 3, "parity": 2}}


def tensors(seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) * (0.5 if len(shape) > 1 else 0.3)
            for name, shape in expected_shapes(CONFIG).items()}


def write(path, config=CONFIG, **changed):
    values = {name: value for name, value in (tensors() | changed).items() if value is not None}
    save_file(values, path, {"config": json.dumps(config)})
    return path


def slow_forward(image, task, t):
    """Logits of one image, number by number, in Python's floats."""

    def linear(x, weight, bias):
        return [sum(float(w) * v for w, v in zip(row, x, strict=True)) + float(b) for row, b in zip(weight, bias, strict=True)]

    def norm(x, name):
        mean = sum(x) / len(x)
        scale = (sum((v - mean) ** 2 for v in x) / len(x) + 1e-6) ** -0.5
        return [(v - mean) * scale * float(g) + float(b)
                for v, g, b in zip(x, t[f"{name}.weight"], t[f"{name}.bias"], strict=True)]

    def gelu(x):
        return [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x]

    def exponentials(x):
        most = max(x)
        e = [math.exp(v - most) for v in x]
        return [v / sum(e) for v in e]

    def plus(a, b):
        return [v + w for v, w in zip(a, b, strict=True)]

    rows = [[float(v) for v in t["class_token"]]]
    for y in range(0, 6, 2):
        for x in range(0, 6, 2):
            pixels = [image[y + dy, x + dx] / 255 for dy in range(2) for dx in range(2)]
            rows.append(linear(pixels, t["patch.weight"], t["patch.bias"]))
    rows = [plus(row, map(float, place)) for row, place in zip(rows, t["positions"], strict=True)]
    for number in range(3):
        name = f"blocks.{number}"
        parts = [linear(norm(row, f"{name}.norm1"), t[f"{name}.qkv.weight"], t[f"{name}.qkv.bias"]) for row in rows]
        for i, row in enumerate(rows):
            seen = []
            for head in range(2):
                q = parts[i][head * 4 : head * 4 + 4]
                p = exponentials([sum(a * b for a, b in zip(q, part[8 + head * 4 :], strict=False)) / 2 for part in parts])
                seen += [sum(w * part[16 + head * 4 + d] for w, part in zip(p, parts, strict=True)) for d in range(4)]
            rows[i] = plus(row, linear(seen, t[f"{name}.proj.weight"], t[f"{name}.proj.bias"]))
        for i, row in enumerate(rows):
            z = norm(row, f"{name}.norm2")
            if number == 1:
                logits = linear(z, t[f"{name}.experts.gates.{task}"], [0] * 4)
                scores = exponentials(logits)
                for e in sorted(range(4), key=[-v for v in logits].__getitem__)[:2]:
                    w1, b1, w2, b2 = (t[f"{name}.experts.fc{part}"][e] for part in ("1.weight", "1.bias", "2.weight", "2.bias"))
                    rows[i] = plus(rows[i], [scores[e] * v for v in linear(gelu(linear(z, w1, b1)), w2, b2)])
            else:
                h = gelu(linear(z, t[f"{name}.fc1.weight"], t[f"{name}.fc1.bias"]))
                rows[i] = plus(row, linear(h, t[f"{name}.fc2.weight"], t[f"{name}.fc2.bias"]))
    return linear(norm(rows[0], "norm"), t[f"heads.{task}.weight"], t[f"heads.{task}.bias"])


@pytest.mark.parametrize("task", CONFIG["tasks"])
def test_against_loops(tmp_path, task):
    model = MoeVit.load(write(tmp_path / "m.safetensors"))
    images = np.random.default_rng(1).integers(0, 256, (3, 6, 6), dtype=np.uint8)
    have = model.forward(images, task)
    want = np.array([slow_forward(image, task, model.tensors) for image in images])
    assert have.shape == (3, CONFIG["tasks"][task]) and np.abs(have - want).max() < 1e-4 < np.ptp(want)
    assert model.forward(images[:0], task).shape == (0, CONFIG["tasks"][task])


def test_the_tasks_differ_only_where_a_gate_or_a_head_does(tmp_path):
    model = MoeVit.load(write(tmp_path / "m.safetensors"))
    images = np.random.default_rng(2).integers(0, 256, (4, 6, 6), dtype=np.uint8)
    seen = {}
    for task in model.tasks:
        model.forward(images, task, lambda name, value, task=task: seen.setdefault((task, name), value.copy()))
    same = {name for task, name in seen if task == "digit" and np.array_equal(seen["digit", name], seen["parity", name])}
    assert {"blocks.0.norm1", "blocks.0.sum", "blocks.1.attention", "blocks.1.norm2"} <= same
    assert not {"blocks.1.sum", "blocks.2.norm1", "norm"} & same


def test_patches_and_ties():
    image = np.arange(16).reshape(1, 4, 4)
    assert patches(image, 2).tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]]
    assert top_experts(np.array([[1.0, 3, 3, 3], [0, 0, 0, 0], [2, 1, 2, 1]]), 2).tolist() == [[1, 2], [0, 1], [0, 2]]


@pytest.mark.parametrize("key, value, rule", [
    ("side", 0, "be an integer from 1"), ("side", 7, "be a multiple of patch"), ("heads", 3, "be a multiple of heads"),
    ("depth", True, "be an integer from 1"), ("hidden", "12", "be an integer from 1"), ("top_k", 5, "be at most experts"),
    ("tasks", {}, "map names to numbers"), ("tasks", {"digit": 1}, "be an integer from 2"),
])
def test_a_bad_config_is_refused(tmp_path, key, value, rule):
    with pytest.raises(InputError, match=rule):
        MoeVit.load(write(tmp_path / "m.safetensors", CONFIG | {key: value}))


@pytest.mark.parametrize("name, value, rule", [
    ("norm.weight", None, "have the shape"), ("norm.weight", np.ones(9, np.float32), "have the shape"),
    ("norm.weight", np.ones(8, np.int8), "hold finite"), ("norm.weight", np.full(8, np.nan, np.float32), "hold finite"),
])
def test_a_bad_tensor_is_refused(tmp_path, name, value, rule):
    with pytest.raises(InputError, match=rule):
        MoeVit.load(write(tmp_path / "m.safetensors", **{name: value}))


def test_a_damaged_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="be readable safetensors"):
        MoeVit.load(tmp_path / "none")
    path = write(tmp_path / "m.safetensors")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="be readable safetensors"):
        MoeVit.load(path)


def test_data_is_split_by_position(tmp_path):
    labels = np.repeat(np.arange(10), 500)
    np.savez(tmp_path / "d.npz", x=np.zeros((5000, 784), np.uint8), y=labels)
    images, y = read(tmp_path / "d.npz")
    assert images.shape == (5000, 28, 28) and images.dtype == np.uint8
    train, held = split()
    assert len(train) == 4000 and len(held) == 1000 and not set(train) & set(held)
    assert (np.bincount(y[held]) == 100).all() and held[:3].tolist() == [400, 401, 402]
    np.savez(tmp_path / "d.npz", x=np.zeros((5000, 784), np.uint8), y=labels[::-1])
    with pytest.raises(ValueError, match="500 images of each digit, class by class"):
        read(tmp_path / "d.npz")


def test_training_without_torch_says_so(tmp_path):
    assert parse(["data.npz", "--out", "runs"]).epochs == 600
    code = ("import sys; sys.modules['torch'] = None\nfrom sparseloom.models.zoo.train_moe_vit import main\n"
            f"sys.exit(main(['d.npz', '--out', {str(tmp_path / 'runs')!r}]))")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 2 and run.stdout == "" and not (tmp_path / "runs").exists()
    assert run.stderr.startswith("train_moe_vit: PyTorch must be installed (pip install torch)") and run.stderr.count("\n") == 1
