"""Networks that can be trained: a list of layers without biases, as a dict or JSON file tells it, checked once."""

import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, fields
from math import prod
from pathlib import Path

import numpy as np

from ...models.spec.errors import InputError
from ...models.spec.nm_load_window import forward_window, gradient_phases

__all__ = ["BUILT_IN", "CHANNEL_WORD", "Network", "Weighted", "load_network"]

CHANNEL_WORD = 16
"""Channels of a word of a feature map: what a convolution reads has a multiple of it."""
LARGEST, MOST_LAYERS = 1 << 16, 256


@dataclass(frozen=True, kw_only=True)
class Conv:
    """A convolution of ``channels`` outputs, weights [channels, kernel, kernel, inputs]."""

    name: str
    channels: int
    kernel: int
    stride: int = 1
    pad: int = 0


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A matrix of weights [outputs, inputs]."""

    name: str
    outputs: int


@dataclass(frozen=True, kw_only=True)
class Relu:
    """max(x, 0); no gradient where x is not above 0."""


@dataclass(frozen=True, kw_only=True)
class Flatten:
    """Maps as vectors, channels innermost."""


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Squares of ``size`` x ``size`` pixels as one pixel of size * size times the channels; only as the first layer."""

    size: int


KINDS = {"conv": Conv, "linear": Linear, "relu": Relu, "flatten": Flatten, "patches": Patches}


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """A layer with weights as the array sees it: a convolution on maps of ``height`` x ``width`` x ``inputs``.

    A linear layer is a convolution of kernel 1 whose map has the batch as its width. ``first``: no gradient of its input is
    wanted. ``last``: its results are the logits.
    """

    name: str
    height: int
    width: int
    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    pad: int = 0
    linear: bool = False
    first: bool = False
    last: bool = False

    @property
    def shape(self):
        """Of the weights [outputs, kernel, kernel, inputs]."""
        return self.outputs, self.kernel, self.kernel, self.inputs

    def map_shape(self, batch):
        """[batch, height, width, inputs] of the layer's input."""
        return (1, 1, batch, self.inputs) if self.linear else (batch, self.height, self.width, self.inputs)

    def window(self, batch):
        return forward_window(*self.map_shape(batch)[1:3], self.kernel, self.stride, self.pad)

    def phases(self, batch):
        return gradient_phases(*self.map_shape(batch)[1:3], self.kernel, self.stride, self.pad)

    def out_shape(self, batch):
        window = self.window(batch)
        return self.map_shape(batch)[0], window.out_height, window.out_width, self.outputs


class Network:
    """``input`` shape [height, width, channels], ``classes``, ``layers``; ``weighted`` by name in the order of execution.

    Built by :meth:`of` from a dict {"name", "input", "classes", "layers": [{"kind": ..., ...}]}; InputError for another.
    """

    def __init__(self, name, shape, classes, layers, weighted):
        self.name, self.input, self.classes, self.layers, self.weighted = name, shape, classes, layers, weighted

    @classmethod
    def of(cls, about, where="network"):
        def refuse(field, rule, value):
            raise InputError(where, field, rule, value)

        if not isinstance(about, dict):
            refuse("description", "be an object", about)
        unknown = sorted(set(about) - {"name", "input", "classes", "layers"}, key=str)
        if unknown:
            refuse("keys", "be name, input, classes, layers", unknown)
        name, shape, layers = (about.get(key) for key in ("name", "input", "layers"))
        if not isinstance(name, str) or not name:
            refuse("name", "be a text", name)
        if not isinstance(shape, list | tuple) or len(shape) != 3:
            refuse("input", "be [height, width, channels]", shape)
        shape = tuple(_whole(where, "input", side, 1) for side in shape)
        classes = _whole(where, "classes", about.get("classes"), 2)
        if not isinstance(layers, list | tuple) or not 1 <= len(layers) <= MOST_LAYERS:
            refuse("layers", f"be a list of 1 to {MOST_LAYERS}", layers)
        layers = tuple(_layer(where, f"layers[{place}]", layer) for place, layer in enumerate(layers))
        weighted, out = _placed(where, shape, layers)
        if not isinstance(layers[-1], Linear) or out != (classes,):
            refuse("layers", f"end in a linear layer of {classes} outputs, one a class", str(layers[-1]))
        return cls(name, shape, classes, layers, weighted)

    def describe(self):
        """The dict that :meth:`of` takes."""
        kinds = {kind: name for name, kind in KINDS.items()}
        return {"name": self.name, "input": list(self.input), "classes": self.classes,
                "layers": [{"kind": kinds[type(layer)], **asdict(layer)} for layer in self.layers]}

    @property
    def digest(self):
        """SHA-256 of the description, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()

    @property
    def size(self):
        """Weights of all layers."""
        return sum(prod(layer.shape) for layer in self.weighted.values())

    def initial_weights(self, seed):
        """{name: float32 of the layer's shape}: normal of variance 2 / fan-in (He), 1 / fan-in before the logits."""
        rng, weights = np.random.default_rng([seed, 0]), {}
        for name, layer in self.weighted.items():
            spread = np.sqrt((1 if layer.last else 2) / prod(layer.shape[1:]))
            weights[name] = (rng.standard_normal(layer.shape) * spread).astype(np.float32)
        return weights


def _whole(where, field, value, low, high=LARGEST):
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InputError(where, field, f"be an integer from {low} to {high}", value)
    return value


def _layer(where, field, about):
    """A layer of its dict."""
    kind = about.get("kind") if isinstance(about, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(where, f"{field}.kind", f"be one of {', '.join(KINDS)}", kind)
    known = {item.name: item for item in fields(KINDS[kind])}
    values = {key: value for key, value in about.items() if key != "kind"}
    if not set(values) <= set(known):
        raise InputError(where, field, f"have the keys kind, {', '.join(known)}" if known else "have no key but kind",
                         sorted(set(values) - set(known), key=str))
    for key, item in known.items():
        if key not in values and item.default is not MISSING:
            continue
        if item.type is str:
            name = values.get(key)
            if not isinstance(name, str) or not name.isidentifier():
                raise InputError(where, f"{field}.{key}", "be a name of letters, digits and _", name)
        else:
            _whole(where, f"{field}.{key}", values.get(key), 0 if key == "pad" else 1)
    return KINDS[kind](**values)


def _placed(where, shape, layers):
    """({name: Weighted}, the last layer's output shape) of layers on an input."""
    weighted, last = {}, [layer for layer in layers if isinstance(layer, Conv | Linear)][-1:]
    for place, layer in enumerate(layers):
        field = f"layers[{place}]"
        if isinstance(layer, Patches):
            if place:
                raise InputError(where, field, "be the first layer if it makes patches", place)
            if shape[0] % layer.size or shape[1] % layer.size:
                raise InputError(where, f"{field}.size", f"divide {shape[0]} and {shape[1]}", layer.size)
            shape = shape[0] // layer.size, shape[1] // layer.size, shape[2] * layer.size**2
        elif isinstance(layer, Flatten):
            shape = (prod(shape),)
        elif isinstance(layer, Conv | Linear):
            if layer.name in weighted:
                raise InputError(where, f"{field}.name", "be another than those before", layer.name)
            common = {"name": layer.name, "first": not weighted, "last": layer is last[0], "inputs": shape[-1]}
            if isinstance(layer, Linear):
                if len(shape) != 1:
                    raise InputError(where, field, "come behind flatten if it is linear", list(shape))
                weighted[layer.name] = Weighted(height=1, width=1, outputs=layer.outputs, linear=True, **common)
                shape = (layer.outputs,)
            else:
                weighted[layer.name], shape = _conv(where, field, shape, layer, common)
    return weighted, shape


def _conv(where, field, shape, layer, common):
    if len(shape) != 3 or shape[2] % CHANNEL_WORD:
        raise InputError(where, field, f"read a map of a multiple of {CHANNEL_WORD} channels (patches make one of an image)",
                         list(shape))
    found = Weighted(height=shape[0], width=shape[1], outputs=layer.channels, kernel=layer.kernel, stride=layer.stride,
                     pad=layer.pad, **common)
    try:
        return found, found.out_shape(1)[1:]
    except ValueError as error:
        rule = str(error).removeprefix("kernel must ").split(", got")[0]
        raise InputError(where, f"{field}.kernel", rule, layer.kernel) from None


def load_network(name):
    """The network of a built-in name or of a JSON file (``.json``); InputError for another."""
    if name in BUILT_IN:
        return Network.of(BUILT_IN[name], name)
    path = Path(name)
    if path.suffix != ".json":
        raise InputError("network", "name", f"be one of {', '.join(BUILT_IN)}, or a .json file", name)
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(path, "file", "be readable JSON", str(error)) from None
    return Network.of(about, path)


_PATCHES, _RELU, _FLATTEN = {"kind": "patches", "size": 4}, {"kind": "relu"}, {"kind": "flatten"}
BUILT_IN = {
    "digits": {"name": "digits", "input": [28, 28, 1], "classes": 10, "layers": [
        _PATCHES, {"kind": "conv", "name": "conv1", "channels": 32, "kernel": 3, "pad": 1}, _RELU,
        {"kind": "conv", "name": "conv2", "channels": 64, "kernel": 3, "stride": 2, "pad": 1}, _RELU, _FLATTEN,
        {"kind": "linear", "name": "fc1", "outputs": 128}, _RELU, {"kind": "linear", "name": "fc2", "outputs": 10}]},
    "digits-small": {"name": "digits-small", "input": [28, 28, 1], "classes": 10, "layers": [
        _PATCHES, {"kind": "conv", "name": "conv1", "channels": 16, "kernel": 3, "stride": 2, "pad": 1}, _RELU,
        {"kind": "conv", "name": "conv2", "channels": 16, "kernel": 3, "stride": 2, "pad": 1}, _RELU, _FLATTEN,
        {"kind": "linear", "name": "fc1", "outputs": 32}, _RELU, {"kind": "linear", "name": "fc2", "outputs": 10}]},
}
"""``digits`` for 5,000 handwritten digits; ``digits-small`` for simulated gates."""
