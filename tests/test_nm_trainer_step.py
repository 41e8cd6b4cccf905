"""A training step against backpropagation written anew in float64: direct sums over taps, masks by sorting, no im2col."""

import importlib
import sys
import types
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest

from sparseloom.host.train.data import load_data
from sparseloom.host.train.device import GoldenDevice, Machine
from sparseloom.host.train.loss import cross_entropy, exp
from sparseloom.host.train.network import Network, load_network
from sparseloom.host.train.schedule import SCHEMES, schedule
from sparseloom.host.train.step import Step, patches
from sparseloom.host.train.trainer import Recipe, Trainer
from sparseloom.models.formats.bf16 import BF16, from_bf16, to_bf16
from sparseloom.models.spec.errors import InputError

NETWORKS = {
    "strided": {"name": "strided", "input": [7, 6, 16], "classes": 3, "layers": [
        {"kind": "conv", "name": "a", "channels": 16, "kernel": 3, "pad": 1}, {"kind": "relu"},
        {"kind": "conv", "name": "b", "channels": 32, "kernel": 3, "stride": 2, "pad": 1}, {"kind": "relu"},
        {"kind": "conv", "name": "c", "channels": 16, "kernel": 2, "stride": 3}, {"kind": "relu"}, {"kind": "flatten"},
        {"kind": "linear", "name": "d", "outputs": 16}, {"kind": "relu"}, {"kind": "linear", "name": "e", "outputs": 3}]},
    "pointwise": {"name": "pointwise", "input": [4, 4, 1], "classes": 2, "layers": [
        {"kind": "patches", "size": 4}, {"kind": "conv", "name": "a", "channels": 48, "kernel": 1}, {"kind": "relu"},
        {"kind": "conv", "name": "b", "channels": 16, "kernel": 1}, {"kind": "flatten"},
        {"kind": "linear", "name": "e", "outputs": 2}]},
}
MACHINE = Machine.of(rows=4, cols=4, slots=4, words=1)
PARTS = {"schedule": schedule, "Step": Step, "cross_entropy": cross_entropy}
EPSILON = 2.0**-8
"""Of bfloat16: half the distance of neighbours at 1."""


def kept(row, nnz, group):
    """bool: the ``nnz`` largest of each ``group`` of a row, the earlier first."""
    mask = np.zeros(len(row), bool)
    for start in range(0, len(row), group):
        part = sorted(range(start, min(start + group, len(row))), key=lambda at: (-abs(row[at]), at))
        mask[part[:nnz]] = True
    return mask


def masks(w, scheme, nnz, group, first):
    """(forward, backward) masks of weights [outputs, kernel, kernel, inputs]."""
    front, back = np.ones(w.shape, bool), np.ones(w.shape, bool)
    places = np.ndindex(*w.shape[1:3])
    for y, x in places:
        if scheme in ("forward", "bdwp") and not first and w.shape[3] % group == 0:
            for o in range(w.shape[0]):
                front[o, y, x] = kept(w[o, y, x], nnz, group)
        if scheme in ("backward", "bdwp") and not first and w.shape[0] % group == 0:
            for i in range(w.shape[3]):
                back[:, y, x, i] = kept(w[:, y, x, i], nnz, group)
    return front, back


def taps(place, height, width):
    """(ky, kx, slices of the output, slices of the padded input) of every tap."""
    out = [(size + 2 * place.pad - place.kernel) // place.stride + 1 for size in (height, width)]
    for y in range(place.kernel):
        for x in range(place.kernel):
            yield y, x, (slice(y, y + place.stride * out[0], place.stride), slice(x, x + place.stride * out[1], place.stride))


def reference(network, weights, images, labels, scheme, nnz, group, rounded):
    """(loss, {name: gradient}) in float64; ``rounded``: bfloat16 wherever training has it, sums still in float64."""
    def bf16(x):
        return from_bf16(to_bf16(x.astype(np.float32))).astype(np.float64) if rounded else x

    def padded(x, pad):
        return np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))

    x, trace = from_bf16(images).astype(np.float64), []
    for layer in network.layers:
        kind = type(layer).__name__
        if kind == "Patches":
            size = layer.size
            places = np.ndindex(size, size, x.shape[3])
            x = np.stack([x[:, i::size, j::size, c] for i, j, c in places], axis=-1)
            trace.append((kind, None, x))
        elif kind == "Relu":
            trace.append((kind, None, x))
            x = np.maximum(x, 0)
        elif kind == "Flatten":
            trace.append((kind, None, x))
            x = x.reshape(len(x), -1)
        else:
            place = network.weighted[layer.name]
            wide = x if x.ndim == 4 else x[:, None, None, :]
            w = weights[layer.name].astype(np.float64)
            front, back = masks(w, scheme, nnz, group, place.first)
            used, y = bf16(w * front), 0
            for i, j, at in taps(place, *wide.shape[1:3]):
                y = y + np.einsum("bhwc,oc->bhwo", padded(wide, place.pad)[:, at[0], at[1]], used[:, i, j])
            trace.append((place, bf16(w * back), x))
            x = y if x.ndim == 4 else y[:, 0, 0]
            x = x if place.last else bf16(x)
    z = x - x.max(axis=1, keepdims=True)
    chance = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    loss = -np.log(chance[range(len(labels)), labels]).mean()
    dy = bf16((chance - np.eye(network.classes)[labels]) / len(labels))
    found = {}
    for place, w, x in reversed(trace):
        if place == "Relu":
            dy = dy * (x > 0)
        elif w is None:
            dy = dy.reshape(x.shape)
        else:
            wide, high = (x, dy) if x.ndim == 4 else (x[:, None, None, :], dy[:, None, None, :])
            found[place.name], room = np.zeros(place.shape), padded(np.zeros(wide.shape), place.pad)
            for i, j, at in taps(place, *wide.shape[1:3]):
                found[place.name][:, i, j] = np.einsum("bhwo,bhwc->oc", high, padded(wide, place.pad)[:, at[0], at[1]])
                room[:, at[0], at[1]] += np.einsum("bhwo,oc->bhwc", high, w[:, i, j])
            inner = room[:, place.pad : place.pad + wide.shape[1], place.pad : place.pad + wide.shape[2]]
            if place.first:
                break
            dy = bf16(inner.reshape(x.shape))
    return loss, found


def drawn(name, batch, seed=3):
    network, rng = Network.of(NETWORKS[name]), np.random.default_rng(seed)
    images = to_bf16(rng.standard_normal((batch, *network.input)).astype(np.float32))
    return network, network.initial_weights(seed), images, rng.integers(0, network.classes, batch)


def computed(network, weights, images, labels, scheme, nnz, group, parts=PARTS):
    plan = parts["schedule"](network, MACHINE, batch=len(labels), scheme=scheme, nnz=nnz, group=group)
    step = parts["Step"](network, plan, GoldenDevice(MACHINE))
    packed = step.pack(weights)
    logits, inputs = step.forward(packed, images)
    loss, gradient, _ = parts["cross_entropy"](logits, labels)
    return loss, step.gradients(packed, inputs, gradient), step


def distance(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scheme, nnz, group", [("dense", 2, 8), ("bdwp", 2, 8), ("bdwp", 2, 4), ("forward", 1, 4),
                                                ("backward", 2, 16), ("bdwp", 4, 8)])
def test_gradients_are_those_of_float64(name, scheme, nnz, group):
    check_gradients(name, scheme, nnz, group)


def check_gradients(name, scheme, nnz, group, parts=PARTS):
    network, weights, images, labels = drawn(name, 6)
    loss, found, _ = computed(network, weights, images, labels, scheme, nnz, group, parts)
    wanted_loss, wanted = reference(network, weights, images, labels, scheme, nnz, group, rounded=True)
    # Rounded in the same places, what differs are float32 sums, and now and then a bfloat16 that they tip to its neighbour:
    # a share of an EPSILON.
    assert abs(loss - wanted_loss) < EPSILON / 4 * wanted_loss
    assert set(found) == set(wanted) == set(network.weighted)
    for layer, g in found.items():
        assert g.dtype == np.float32 and g.shape == network.weighted[layer].shape
        assert distance(g, wanted[layer]) < EPSILON / 2, layer


@pytest.mark.parametrize("name", NETWORKS)
def test_dense_gradients_without_any_rounding(name):
    network, weights, images, labels = drawn(name, 8)
    loss, found, _ = computed(network, weights, images, labels, "dense", 2, 8)
    wanted_loss, wanted = reference(network, weights, images, labels, "dense", 2, 8, rounded=False)
    # Each layer rounds its weights, its input and its gradient, an EPSILON at most each; of random signs they nearly cancel, but
    # a ReLU near 0 may open or close: two EPSILON a layer are what is seen at most, three are allowed.
    bound = 3 * EPSILON * len(network.weighted)
    assert abs(loss - wanted_loss) < bound * wanted_loss
    assert max(distance(found[layer], wanted[layer]) for layer in found) < bound


def test_the_reference_is_the_slope_of_the_loss():
    network, weights, images, labels = drawn("strided", 3)
    loss, found = reference(network, weights, images, labels, "dense", 2, 8, rounded=False)
    rng = np.random.default_rng(1)
    for layer, w in weights.items():
        side, move = rng.standard_normal(w.shape), 1e-5
        moved = [weights | {layer: w.astype(np.float64) + sign * move * side} for sign in (1, -1)]
        up, down = (reference(network, each, images, labels, "dense", 2, 8, rounded=False)[0] for each in moved)
        # The error of a central difference is of the order of the square of the move.
        assert abs((up - down) / (2 * move) - (found[layer] * side).sum()) < 1e-5


@pytest.mark.parametrize("scheme", SCHEMES)
def test_which_side_is_pruned(scheme):
    network, weights, images, labels = drawn("strided", 4)
    _, _, step = computed(network, weights, images, labels, scheme, 2, 8)
    packed, plans = step.pack(weights), step.schedule.layers
    patterns = {name: (f"{part.forward.pattern}", *{b.pattern for b in part.backward if b}) for name, part in packed.items()}
    front = "2:8" if scheme in ("forward", "bdwp") else "1:1"
    back = "2:8" if scheme in ("backward", "bdwp") else "1:1"
    # The first layer is dense and has no input gradient; e has 3 outputs, no multiple of 8.
    assert patterns == {"a": ("1:1",), "b": (front, back), "c": (front, back), "d": (front, back), "e": (front, "1:1")}
    assert all((plan.weight.nnz, plan.weight.group) == (1, 1) for plan in plans.values())
    # Kernel 2, stride 3: pixels that no tap reaches.
    assert [choice is None for choice in plans["c"].backward].count(True) == 5
    w = weights["b"]
    masked = np.zeros(w.reshape(len(w), -1).shape, np.float32)
    values, index = packed["b"].forward.values, packed["b"].forward.index
    for j, g, t in np.ndindex(*values.shape):
        masked[j, g * packed["b"].forward.group + index[j, g, t]] = values[j, g, t]
    wanted = w * masks(w, scheme, 2, 8, False)[0]
    assert np.array_equal(masked.reshape(w.shape), from_bf16(to_bf16(wanted)))


def test_a_turned_product_is_the_same_gradient():
    network, weights, images, labels = drawn("pointwise", 40)
    plan = schedule(network, MACHINE, batch=40, scheme="dense")
    _, found, _ = computed(network, weights, images, labels, "dense", 2, 8)
    other = {}
    for name, part in plan.layers.items():
        choice = part.weight
        if network.weighted[name].linear:
            choice = replace(choice, turned=not choice.turned, m=choice.n, n=choice.m)
        other[name] = replace(part, weight=choice)
    step = Step(network, replace(plan, layers=other), GoldenDevice(MACHINE))
    packed = step.pack(weights)
    logits, inputs = step.forward(packed, images)
    again = step.gradients(packed, inputs, cross_entropy(logits, labels)[1])
    assert all(np.array_equal(again[name].view(np.uint32), found[name].view(np.uint32)) for name in found)


def test_the_schedule_takes_the_fastest():
    network = load_network("digits")
    for scheme in SCHEMES:
        plan = schedule(network, MACHINE, batch=8, scheme=scheme)
        for part in plan.layers.values():
            for choice in part.choices:
                shape = {name: getattr(choice, name) for name in ("m", "n", "k", "nnz", "group")}
                each = [MACHINE.array.cycles(MACHINE.array.job(**shape, dataflow=flow)) for flow in ("os", "ws")]
                assert choice.cycles == min(each)
        assert plan.cycles == sum(row["cycles"] for row in plan.rows())
    assert {choice.dataflow for part in plan.layers.values() for choice in part.choices} == {"os", "ws"}


def test_what_is_booked_is_what_was_scheduled():
    data = load_data("shipped")
    trainer = Trainer(load_network("digits-small"), data, GoldenDevice(MACHINE), Recipe(batch=4))
    list(trainer.run(trainer.start(), 3, evaluate=False))
    array, weights = trainer.device.ledger.total("nm_train"), trainer.network.size
    assert array.cycles == array.predicted == 3 * trainer.schedule.cycles and array.wrong == array.off == 0
    assert trainer.device.ledger.total("nm_update").jobs == 3 * len(trainer.network.weighted)
    assert array.jobs == 3 * sum(len(plan.choices) for plan in trainer.schedule.layers.values())
    # Pruned before the first step and after each.
    pruned = [row for row in trainer.device.ledger.rows() if row["engine"] == "nm_prune"]
    assert {row["jobs"] for row in pruned if row["pass"] == "forward"} == {4} and weights > 0


def test_the_step_prunes_right_after_its_update():
    network, weights, images, labels = drawn("strided", 4)
    _, _, step = computed(network, weights, images, labels, "bdwp", 2, 8)
    momentum = {name: np.zeros_like(w) for name, w in weights.items()}
    rule = {"rule": "sgd", "lr": 0.5, "momentum": 0.9}
    out = step(weights, momentum, step.pack(weights), images, labels, rule)
    fresh = step.pack(out.weights)
    for name, part in out.packed.items():
        for mine, wanted in zip((part.forward, *part.backward), (fresh[name].forward, *fresh[name].backward), strict=True):
            assert (mine is None) == (wanted is None)
            if mine is not None:
                assert np.array_equal(mine.index, wanted.index) and np.array_equal(
                    mine.values.view(np.uint16), wanted.values.view(np.uint16))
    assert any(not np.array_equal(weights[name], out.weights[name]) for name in weights)
    assert all((m == 0).all() for m in momentum.values())  # what went in is as it was


@pytest.mark.parametrize("rule", [{"rule": "sgd", "lr": 0.5, "momentum": 0.9, "pruned_decay": 0.25},
                                  {"rule": "lion", "lr": 0.01, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.125}])
def test_an_update_in_plain_float64(rule):
    network, weights, images, labels = drawn("strided", 4)
    _, found, step = computed(network, weights, images, labels, "bdwp", 2, 8)
    rng = np.random.default_rng(5)
    momentum = {name: (0.01 * rng.standard_normal(w.shape)).astype(np.float32) for name, w in weights.items()}
    out = step(weights, momentum, step.pack(weights), images, labels, rule)
    for name, w in weights.items():
        w, g, m = (x.astype(np.float64) for x in (w, found[name], momentum[name]))
        if rule["rule"] == "sgd":
            pruned = ~masks(w, "bdwp", 2, 8, network.weighted[name].first)[0]
            moved = rule["momentum"] * m + g + pruned * rule["pruned_decay"] * w
            new = w - rule["lr"] * moved
        else:
            moved = rule["beta2"] * m + (1 - rule["beta2"]) * g
            new = w - rule["lr"] * (np.sign(rule["beta1"] * m + (1 - rule["beta1"]) * g) + rule["weight_decay"] * w)
        # Half a dozen roundings of float32 each.
        assert distance(out.momentum[name], moved) < 1e-6 and distance(out.weights[name], new) < 1e-6


def test_weights_that_leave_the_numbers_stop_the_step():
    network, weights, images, labels = drawn("strided", 4)
    _, _, step = computed(network, weights, images, labels, "dense", 2, 8)
    weights["d"][0, 0, 0, 0] = np.inf
    momentum = {name: np.zeros_like(w) for name, w in weights.items()}
    with pytest.raises(InputError, match=r"training: loss must stay finite \(take a lower learning rate\), got nan"):
        step(weights, momentum, step.pack(weights), images, labels, {"rule": "sgd", "lr": 0.5})


def test_exp_and_loss():
    x = -np.concatenate([np.linspace(0, 40, 20001), np.linspace(40, 699, 5000), [0.0, 1e-300]])
    assert (np.abs(exp(x) - np.exp(x)) <= 1e-15 * np.exp(x)).all() and (exp(np.array([-701.0, -np.inf])) == 0).all()
    logits = np.array([[1.0, 2.0, -1000.0], [0.0, 0.0, 0.0]], np.float32)
    loss, gradient, right = cross_entropy(logits, np.array([1, 2]))
    assert abs(loss - (np.log1p(np.exp(-1)) + np.log(3)) / 2) < 1e-15 and right == 1 and gradient.dtype == BF16
    assert np.array_equal(gradient[1], np.array([1 / 6, 1 / 6, -1 / 3], np.float32).astype(BF16))


def test_patches_are_whole_squares():
    images = np.arange(2 * 4 * 6 * 2).reshape(2, 4, 6, 2)
    found = patches(images, 2)
    assert found.shape == (2, 2, 3, 8) and prod(found.shape) == images.size
    assert np.array_equal(found[1, 1, 2], images[1, 2:4, 4:6].reshape(-1))


def test_the_learning_rate_of_a_step():
    recipe = Recipe(lr=0.5, warm=4, halve=2, momentum=0.75)
    assert [recipe.update(step, 0)["lr"] for step in (0, 1, 3, 4, 99)] == [0.125, 0.25, 0.5, 0.5, 0.5]
    assert [recipe.update(99, epoch)["lr"] for epoch in (1, 2, 3, 4)] == [0.5, 0.25, 0.25, 0.125]
    rising = Recipe(pruned_decay=0.5, pruned_rise=4)
    assert [rising.update(step, 0)["pruned_decay"] for step in range(6)] == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]
    assert recipe.update(9, 0) == {"rule": "sgd", "lr": 0.5, "momentum": 0.75, "weight_decay": 0.0, "pruned_decay": 0.0}
    lion = Recipe(rule="lion", beta1=0.5, beta2=0.25).update(9, 0)
    assert (lion["beta1"], lion["beta2"]) == (0.5, 0.25) and "momentum" not in lion


def test_a_step_knows_its_epoch(monkeypatch):
    asked = []
    monkeypatch.setattr(Recipe, "update", lambda self, step, epoch: asked.append((step, epoch)) or {"rule": "sgd", "lr": 0.01})
    trainer = Trainer(load_network("digits-small"), load_data("shipped"), GoldenDevice(MACHINE), Recipe(batch=400))
    list(trainer.run(trainer.start(), 5, evaluate=False))
    assert trainer.epoch_steps == 2 and asked == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2)]


def test_a_trainer_may_go_back():
    trainer = Trainer(load_network("digits-small"), load_data("shipped"), GoldenDevice(MACHINE), Recipe(batch=8, warm=1))
    start = trainer.start()
    first = list(trainer.run(start, 3, evaluate=False))[-1]
    again = list(trainer.run(start, 3, evaluate=False))[-1]
    assert first.losses == again.losses
    assert all(np.array_equal(first.weights[name], again.weights[name]) for name in first.weights)


def test_nothing_is_booked_outside_of_a_place():
    device = GoldenDevice(MACHINE)
    w = np.ones((4, 8), np.float32)
    with device.within("a", "forward"):
        with device.within("b", "backward"):
            device.prune(w, 2, 4)
        device.prune(w, 2, 4)
    device.prune(w, 2, 4)
    assert list(device.ledger.entries) == [("nm_prune", "b", "backward", "2:4"), ("nm_prune", "a", "forward", "2:4")]
    assert device.ledger.total().jobs == 2


MUTANTS = [
    ("step", "np.where(x <= 0,", "np.where(x < 0,"), ("step", "np.where(x <= 0,", "np.where(x >= 0,"),
    ("step", "[:, phase.row :: phase.stride, phase.column :: phase.stride]",
     "[:, phase.column :: phase.stride, phase.row :: phase.stride]"),
    ("step", "out, device = np.zeros(", "out, device = np.ones("), ("step", "narrow=not place.last", "narrow=True"),
    ("step", "narrow=not place.last", "narrow=False"), ("step", "if place.first:", "if place.last:"),
    ("step", "left, right = (x, dy) if choice.turned else (dy, x)", "left, right = x, dy"),
    ("step", "packed[layer.name].forward, x)", "packed[layer.name].forward, inputs[0])"),
    ("step", "dy = dy.reshape(x.shape)", "dy = dy.reshape(x.shape[::-1]).T"),
    ("step", "phase_weights(w, phase)", "phase_weights(w[:, ::-1], phase)"),
    ("step", "phase_weights(w, phase)", "phase_weights(w[:, :, ::-1], phase)"),
    ("step", "*plan.backward_pattern", "*plan.forward_pattern"), ("step", "*plan.forward_pattern)", "1, 1)"),
    ("step", "transpose(0, 1, 3, 2, 4, 5)", "transpose(0, 1, 3, 4, 2, 5)"),
    ("schedule", "layer.inputs % group == 0", "layer.outputs % group == 0"), ("schedule", "layer.outputs % group == 0", "True"),
    ("schedule", "sparse = not layer.first", "sparse = True"), ("schedule", 'in ("forward", "bdwp")', 'in ("backward", "bdwp")'),
    ("schedule", 'in ("backward", "bdwp")', 'in ("forward", "bdwp")'),
    ("loss", "gradient[rows, labels] -= 1", "gradient[rows, labels] -= 0.99"), ("loss", "gradient / batch", "gradient"),
    ("loss", "np.log(total) - z[rows, labels]", "np.log(total)"),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant[0]}: {mutant[2]}")
def test_a_fault_is_found(mutant):
    part, old, new = mutant
    module = importlib.import_module(f"sparseloom.host.train.{part}")
    source = Path(module.__file__).read_text(encoding="utf-8")
    assert old in source
    names = {"__name__": module.__name__, "__package__": module.__package__}
    planted = types.ModuleType(module.__name__)
    planted.__dict__.update(names)
    sys.modules[module.__name__] = planted  # dataclasses look there
    try:
        exec(compile(source.replace(old, new), module.__file__, "exec"), planted.__dict__)
    finally:
        sys.modules[module.__name__] = module
    parts = {name: getattr(planted, name, part) for name, part in PARTS.items()}
    with pytest.raises((AssertionError, ValueError, TypeError)):
        for name in NETWORKS:
            for scheme in SCHEMES:
                check_gradients(name, scheme, 2, 8, parts)
