"""Checkpoints of trainings: resumed to the same bits, and one clear error for whatever is wrong with them."""

import errno
import gzip
import json
import os
import resource
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from sparseloom.host.train import checkpoint
from sparseloom.host.train.checkpoint import load_checkpoint, read_about, save_checkpoint
from sparseloom.host.train.data import load_data
from sparseloom.host.train.device import GoldenDevice, Machine
from sparseloom.host.train.network import BUILT_IN, Network, load_network
from sparseloom.host.train.trainer import Recipe, Trainer
from sparseloom.models.formats.bf16 import to_bf16
from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo import digits

RECIPE = Recipe(batch=16, lr=0.02)
STEPS = 7


@pytest.fixture(scope="module")
def data():
    return load_data("shipped")


def make(data, recipe=RECIPE, network="digits-small"):
    return Trainer(load_network(network) if isinstance(network, str) else network, data,
                   GoldenDevice(Machine.of(rows=4, cols=4, slots=4, words=1)), recipe)


def last(trainer, state, steps):
    return list(trainer.run(state, steps))[-1] if state.step < steps else state


def same(one, other):
    return (one.step, one.losses, one.held) == (other.step, other.losses, other.held) and all(
        np.array_equal(getattr(one, part)[name].view(np.uint32), getattr(other, part)[name].view(np.uint32))
        for part in ("weights", "momentum") for name in one.weights)


@pytest.fixture(scope="module")
def whole(data):
    trainer = make(data)
    return last(trainer, trainer.start(), STEPS)


@pytest.fixture
def saved(data, tmp_path):
    trainer, path = make(data), tmp_path / "t.safetensors"
    save_checkpoint(path, trainer, last(trainer, trainer.start(), 3))
    return path


@pytest.mark.parametrize("recipe", [RECIPE, Recipe(batch=16, rule="lion", lr=0.001, pruned_decay=0.01, scheme="forward", seed=9)])
def test_resumed_at_any_step_it_ends_in_the_same_bits(data, tmp_path, recipe):
    straight = make(data, recipe)
    wanted, path = last(straight, straight.start(), STEPS), tmp_path / "t.safetensors"
    for stop in (0, 1, 4, STEPS):
        first = make(data, recipe)
        state = last(first, first.start(), stop)
        # An evaluation at a stop that the straight run had not is no part of it.
        save_checkpoint(path, first, replace(state, held=() if stop < STEPS else state.held))
        second = make(data, recipe)
        assert same(last(second, load_checkpoint(path, second), STEPS), wanted), stop
    assert len(set(wanted.losses)) == STEPS and os.listdir(tmp_path) == [path.name]


def test_epochs_are_shuffled_anew_and_each_image_comes_once(data):
    trainer = make(data)
    trainer.data = replace(data, images=np.arange(800), labels=np.arange(800))
    first, second = ([int(x) for step in range(epoch * 50, epoch * 50 + 50) for x in trainer.batch(step)[0]] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(800)) and first != second != sorted(second)


def test_it_tells_what_it_is(saved):
    network, recipe = read_about(saved)
    assert network.describe() == Network.of(BUILT_IN["digits-small"]).describe() and recipe == RECIPE


def rewritten(path, change, seal=True):
    """The file with ``change(about, tensors)`` applied; with a checksum that fits, or the old one."""
    about, tensors = checkpoint._read(path)
    old = json.loads(_metadata(path))["checksum"]
    change(about, tensors)
    about["checksum"] = checkpoint._checksum(about, tensors) if seal else old
    save_file(tensors, path, {checkpoint._KEY: json.dumps(about, sort_keys=True)})


def _metadata(path):
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as file:
        return file.metadata()[checkpoint._KEY]


def put(name, value):
    return lambda about, tensors: tensors.update({name: value})


SHAPE = (16, 3, 3, 16)


@pytest.mark.parametrize("change, seal, line", [
    (lambda about, tensors: tensors["weights.conv1"].fill(2), False, "checksum must be [0-9a-f]{64} .*damaged"),
    (lambda about, tensors: about.update(step=4), False, "checksum must be"),
    (put("weights.conv1", np.full(SHAPE, np.nan, np.float32)), True, "weights.conv1 must be finite, got 'NaN or infinity'"),
    (put("momentum.conv1", np.full(SHAPE, np.inf, np.float32)), True, "momentum.conv1 must be finite"),
    (put("weights.conv1", np.zeros(SHAPE)), True, r"weights.conv1 must be float32 \[16, 3, 3, 16\], got 'float64"),
    (put("weights.conv1", np.zeros((16, 9, 16), np.float32)), True, r"weights.conv1 must .*got 'float32 \[16, 9, 16\]"),
    (lambda about, tensors: tensors.pop("momentum.fc1"), True, "momentum.fc1 must be float32 .*got None"),
    (lambda about, tensors: tensors.pop("losses"), True, "losses must be float64 of 3 steps, got None"),
    (put("held", np.zeros(3, np.int64)), True, "held must be int64"),
    (lambda about, tensors: about.update(step=5), True, r"losses must be float64 of 5 steps, got \[3\]"),
    (lambda about, tensors: about.update(format=2), True, "format must be 1, got 2"),
    (lambda about, tensors: about.update(data_digest="no"), True, "data must be shipped .*got 'no'"),
    (lambda about, tensors: about.pop("recipe"), True, "scheme must be bdwp, as the training to go on with has it, got None"),
])
def test_a_changed_file_is_refused(data, saved, change, seal, line):
    rewritten(saved, change, seal)
    with pytest.raises(InputError, match=line):
        load_checkpoint(saved, make(data))


@pytest.mark.parametrize("size", [0, 5, 100, 5000, -1])
def test_a_cut_file_is_refused(data, saved, size):
    whole = saved.read_bytes()
    saved.write_bytes(whole[:size])
    with pytest.raises(InputError, match="file must be a readable checkpoint"):
        load_checkpoint(saved, make(data))


def test_every_flipped_bit_is_found(data, saved):
    whole, rng = saved.read_bytes(), np.random.default_rng(0)
    for place in (*rng.integers(0, len(whole), 60), *range(8, 40)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        saved.write_bytes(damaged)
        with pytest.raises(InputError):
            load_checkpoint(saved, make(data))


def test_no_checkpoint_at_all(data, tmp_path, saved):
    save_file({"x": np.zeros(3)}, tmp_path / "other.safetensors")
    for name, line in (("none", "be a readable checkpoint"), ("other.safetensors", "metadata must hold sparseloom_training")):
        with pytest.raises(InputError, match=line):
            load_checkpoint(tmp_path / name, make(data))
    with pytest.raises(InputError, match="be a readable checkpoint"):
        load_checkpoint(tmp_path, make(data))


def test_another_networks_file_is_refused(data, saved):
    about = json.loads(json.dumps(BUILT_IN["digits-small"]))
    about["layers"][-3]["outputs"] = 48
    with pytest.raises(InputError, match=r"network must be digits-small \([0-9a-f]{12}\), got 'digits-small \([0-9a-f]{12}\)'"):
        load_checkpoint(saved, make(data, network=Network.of(about)))
    with pytest.raises(InputError, match=r"network must be digits \([0-9a-f]{12}\), got 'digits-small"):
        load_checkpoint(saved, make(data, network="digits"))


@pytest.mark.parametrize("name, value", [("scheme", "dense"), ("seed", 2), ("lr", 0.5), ("batch", 8), ("nnz", 1)])
def test_another_recipes_file_is_refused(data, saved, name, value):
    other = replace(RECIPE, **({name: value} | ({"group": 4} if name == "nnz" else {})))
    with pytest.raises(InputError, match=f"{name} must be {value}, as the training to go on with has it, got"):
        load_checkpoint(saved, make(data, other))


def test_a_full_disk_loses_nothing(data, saved):
    before, trainer = saved.read_bytes(), make(data)
    state = last(trainer, trainer.start(), 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(InputError, match="checkpoint must be writable, got 'File too large'"):
            save_checkpoint(saved, trainer, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert saved.read_bytes() == before and os.listdir(saved.parent) == [saved.name]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_loses_nothing(data, saved, monkeypatch, call):
    before, trainer = saved.read_bytes(), make(data)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint.os, call, full)
    with pytest.raises(InputError, match="checkpoint must be writable, got 'No space left on device'"):
        save_checkpoint(saved, trainer, trainer.start())
    assert saved.read_bytes() == before and os.listdir(saved.parent) == [saved.name]


def test_what_is_not_finite_is_not_saved(data, saved):
    before, trainer = saved.read_bytes(), make(data)
    state = trainer.start()
    state.weights["fc1"][0] = np.nan
    with pytest.raises(InputError, match="weights.fc1 must be finite to be saved"):
        save_checkpoint(saved, trainer, state)
    assert saved.read_bytes() == before
    with pytest.raises(InputError, match="be writable"):
        save_checkpoint(saved.parent / "none" / "t", trainer, trainer.start())


def test_data_are_held_to_the_network(data, tmp_path):
    images = data.images.copy()
    images[3, 2, 2, 0] = np.nan
    infinite = to_bf16(np.full(data.held_images.shape, np.inf, np.float32))
    for change, line in [({"images": images}, "training images must be finite"),
                         ({"held_images": infinite}, "held-out images must be finite"),
                         ({"images": data.images[:, :27]}, r"training images must be \[28, 28, 1\] as digits-small takes"),
                         ({"labels": data.labels + 1}, "labels of training images must be 0..9"),
                         ({"labels": data.labels[1:]}, "labels of training images must be 0..9, one an image"),
                         ({"held_labels": data.held_labels - 1}, "labels of held-out images must be")]:
        with pytest.raises(InputError, match=line):
            make(replace(data, **change))
    with pytest.raises(InputError, match="batch must be at most 800, the images for training, got 1000"):
        make(data, replace(RECIPE, batch=1000))


def test_data_of_a_file(data, tmp_path):
    path = tmp_path / "d.npz"
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (30, 28, 28), np.uint8), rng.integers(0, 10, 30)
    np.savez(path, images=pixels, labels=labels, held_images=pixels[:5] / 7, held_labels=labels[:5])
    found = load_data(str(path))
    assert found.images.shape == (30, 28, 28, 1) and np.array_equal(found.images[..., 0].astype(np.float32), pixels / 128)
    for broken in ({"images": pixels}, {"images": pixels, "labels": labels / 2, "held_images": pixels, "held_labels": labels},
                   {"images": labels, "labels": labels, "held_images": pixels, "held_labels": labels}, {"x": pixels}):
        np.savez(path, **broken)
        with pytest.raises(InputError):
            load_data(str(path))
    path.write_bytes(b"PK no")
    for name in (path, tmp_path / "none.npz", tmp_path / "d.txt", "mnist"):
        with pytest.raises(InputError):
            load_data(str(name))
    assert (len(data.labels), len(data.held_labels)) == (800, 200) and np.bincount(data.held_labels).tolist() == [20] * 10


def test_digits_are_fetched_once(monkeypatch, tmp_path):
    line, calls = ",".join(["7"] * 784), []
    rows = [f"{line},{label}" for label in range(10) for _ in range(500)]
    monkeypatch.setenv("SPARSELOOM_CACHE", str(tmp_path))
    monkeypatch.setattr(digits, "fetch", lambda: calls.append(1) or gzip.compress("\n".join(rows).encode(), 1))
    for _ in range(2):
        found = load_data("mnist-5k")
        assert found.images.shape == (4000, 28, 28, 1) and np.bincount(found.held_labels).tolist() == [100] * 10
    assert calls == [1] and float(found.images[0, 0, 0, 0]) == 7 / 128


def test_a_training_that_diverges_keeps_its_last_state(data, whole):
    trainer = make(data, replace(RECIPE, lr=1e6, warm=1))
    state = trainer.start()
    with pytest.raises(InputError, match="stay finite"):
        for after in trainer.run(state, 50):
            state = after
    assert all(np.isfinite(w).all() for w in state.weights.values()) and whole.step == STEPS


@pytest.mark.parametrize("field, value, kind, line", [
    ("scheme", "both", ValueError, "scheme must be one of dense, forward, backward, bdwp"),
    ("nnz", 3, ValueError, "nnz:group must be"),
    ("batch", 0, ValueError, "batch must be 1..4096, got 0"), ("batch", 1.5, TypeError, "batch must be an integer"),
    ("seed", -1, ValueError, "seed must be 0"), ("rule", "adam", ValueError, "rule must be one of sgd, lion, got 'adam'"),
    ("lr", 0, ValueError, "lr must be above 0 to 1e\\+06, got 0"), ("lr", float("nan"), ValueError, "lr must be"),
    ("momentum", 1.5, ValueError, "momentum must be 0 to 1, got 1.5"),
    ("weight_decay", "x", TypeError, "weight_decay must be a num"),
    ("beta1", -0.5, ValueError, "beta1 must be 0 to 1"), ("pruned_decay", True, TypeError, "pruned_decay must be a number"),
])
def test_recipes_that_are_none(field, value, kind, line):
    with pytest.raises(kind, match=line):
        Recipe(**{field: value})
