"""Descriptions of networks: what they come to, and one clear error for each that is none."""

import copy
import json

import numpy as np
import pytest

from sparseloom.host.train.network import BUILT_IN, Network, load_network
from sparseloom.models.spec.errors import InputError

SMALL = BUILT_IN["digits-small"]


@pytest.mark.parametrize("name, size", [
    ("digits", 32 * 9 * 16 + 64 * 9 * 32 + 128 * 4 * 4 * 64 + 1280), ("digits-small", 2 * 16 * 9 * 16 + 32 * 64 + 320)])
def test_built_in_networks(name, size):
    network = load_network(name)
    assert network.size == size and Network.of(network.describe()).digest == network.digest
    first, *_, last = network.weighted.values()
    assert first.first and last.last and [layer.first for layer in network.weighted.values()].count(True) == 1
    assert sum(not layer.linear for layer in network.weighted.values()) >= 1
    assert sum(layer.linear for layer in network.weighted.values()) == 2
    assert all(layer.inputs % 16 == 0 for layer in network.weighted.values())


def test_shapes_follow_from_the_layers():
    layer = load_network("digits").weighted["conv2"]
    assert layer.shape == (64, 3, 3, 32) and layer.map_shape(5) == (5, 7, 7, 32) and layer.out_shape(5) == (5, 4, 4, 64)
    assert len(layer.phases(5)) == 4
    linear = load_network("digits").weighted["fc1"]
    assert linear.shape == (128, 1, 1, 1024) and linear.map_shape(5) == (1, 1, 5, 1024) and linear.out_shape(5) == (1, 1, 5, 128)


def test_first_weights_are_the_seeds():
    network = load_network("digits")
    one, again, other = (network.initial_weights(seed) for seed in (1, 1, 2))
    for name, w in one.items():
        fan = np.prod(w.shape[1:])
        assert w.dtype == np.float32 and np.array_equal(w, again[name]) and not np.array_equal(w, other[name])
        # 1,280 weights or more: the spread is known to a few hundredths.
        assert abs(w.std() * np.sqrt(fan / (1 if name == "fc2" else 2)) - 1) < 0.08


def test_a_file_describes_one(tmp_path):
    path = tmp_path / "n.json"
    path.write_text(json.dumps(SMALL))
    assert load_network(path).digest == load_network("digits-small").digest
    for text in ("{", "[1]", "nul", "[" * 100000):
        path.write_text(text)
        with pytest.raises(InputError):
            load_network(path)
    with pytest.raises(InputError, match="none.json: file must be readable JSON"):
        load_network(tmp_path / "none.json")
    with pytest.raises(InputError, match="network: name must be one of digits, digits-small, or a .json file, got 'letters'"):
        load_network("letters")


def layer(place, **changes):
    return lambda about: about["layers"][place].update(changes)


def put(**changes):
    return lambda about: about.update(changes)


def without(place, key):
    return lambda about: about["layers"][place].pop(key)


@pytest.mark.parametrize("change, line", [
    (put(name=""), "name must be a text"), (put(input=[28, 28]), r"input must be \[height, width, channels\]"),
    (put(input=[28, 0, 1]), "input must be an integer from 1"), (put(classes=1), "classes must be an integer from 2"),
    (put(classes=True), "classes must be an integer"), (put(layers=[]), "layers must be a list of 1 to 256"),
    (put(bias=True), r"keys must be name, input, classes, layers, got \['bias'\]"),
    (put(classes=11), "layers must end in a linear layer of 11 outputs"),
    (lambda about: about["layers"].append({"kind": "relu"}), "layers must end in a linear layer of 10 outputs"),
    (lambda about: about["layers"].insert(2, 7), r"layers\[2\].kind must be one of conv, linear, .*, got None"),
    (layer(1, kind="pool"), r"layers\[1\].kind must be one of .* got 'pool'"), (layer(1, kind=[]), r"layers\[1\].kind must be"),
    (layer(2, slope=0.1), r"layers\[2\] must have no key but kind, got \['slope'\]"),
    (layer(1, dilation=2), r"layers\[1\] must have the keys kind, name, channels, kernel, stride, pad, got \['dilation'\]"),
    (without(1, "kernel"), r"layers\[1\].kernel must be an integer from 1 to 65536, got None"),
    (without(1, "name"), r"layers\[1\].name must be a name of letters, digits and _, got None"),
    (layer(1, name="a.b"), r"layers\[1\].name must be a name"), (layer(1, name="conv2"), r"layers\[3\].name must be another"),
    (layer(1, stride=0), r"layers\[1\].stride must be an integer from 1"), (layer(1, pad=-1), "pad must be an integer from 0"),
    (layer(1, channels=2.0), r"layers\[1\].channels must be an integer"),
    (layer(1, kernel=10), r"layers\[1\].kernel must fit the padded map \(7 x 7, pad 1\)"),
    (layer(0, size=3), r"layers\[0\].size must divide 28 and 28, got 3"),
    (lambda about: about["layers"].insert(2, {"kind": "patches", "size": 2}), r"layers\[2\] must be the first layer"),
    (lambda about: about["layers"].pop(0), r"layers\[0\] must read a map of a multiple of 16 channels .*got \[28, 28, 1\]"),
    (layer(1, channels=24), r"layers\[3\] must read a map of a multiple of 16 channels"),
    (lambda about: about["layers"].pop(5), r"layers\[5\] must come behind flatten if it is linear, got \[2, 2, 16\]"),
    (lambda about: about["layers"].insert(3, {"kind": "flatten"}), r"layers\[4\] must read a map"),
])
def test_what_is_no_network(change, line):
    about = copy.deepcopy(SMALL)
    change(about)
    with pytest.raises(InputError, match=line):
        Network.of(about)


@pytest.mark.parametrize("about", [None, 3, [], "digits", {}, {"name": "x"}, {1: 2, "a": 3}])
def test_what_is_no_description(about):
    with pytest.raises(InputError, match="network: "):
        Network.of(about)


def test_no_description_raises_anything_else():
    """Values of a description exchanged for others, one to three of them."""
    rng = np.random.default_rng(4)
    others = [None, True, -1, 0, 1, 2, 3, 7, 16, 2**40, 1.5, "", "x", "conv", [], {}, [1], float("nan"), float("inf")]
    refused = 0
    for _ in range(2000):
        about = copy.deepcopy(BUILT_IN[rng.choice(list(BUILT_IN))])
        for _ in range(int(rng.integers(1, 4))):
            layers = about["layers"] if isinstance(about["layers"], list) else []
            holder = layers[int(rng.integers(len(layers)))] if layers and rng.random() < 0.7 else about
            if isinstance(holder, dict):
                holder[str(rng.choice(list(holder)))] = copy.deepcopy(others[int(rng.integers(len(others)))])
        try:
            network = Network.of(about)
        except InputError:
            refused += 1
        else:
            assert Network.of(network.describe()).digest == network.digest
    assert 500 < refused < 2000
