"""A small vision transformer with experts in NumPy floats: one backbone, and for each task its gates and its head.

The network is pre-norm (LayerNorm, eps 1e-6, erf GELU). Blocks of even number have a dense MLP, those of odd number ``experts``
MLPs, of which each token takes the ``top_k`` that its task's gate likes best; their outputs are weighted by the softmax over all
experts, as in M3ViT; the lower index wins a tie. An image runs once for each task. The file is safetensors; its metadata
holds ``config`` as JSON.
"""

import json
from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError, safe_open

from sparseloom.models.golden.onnx_math import erf
from sparseloom.models.spec.errors import InputError, check_choice

__all__ = ["MoeVit", "check_config", "expected_shapes", "patches", "softmax", "top_experts"]

EPS = 1e-6
LARGEST = 1 << 14
SIZES = ("side", "patch", "width", "heads", "depth", "hidden", "experts", "expert_hidden", "top_k")
CHUNK = 100  # images at a time


def check_config(config, where):
    """``config`` if it describes a network; InputError otherwise."""
    for key in SIZES:
        value = config.get(key) if isinstance(config, dict) else None
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST:
            raise InputError(where, f"config.{key}", f"be an integer from 1 to {LARGEST}", value)
    for key, divisor in (("side", "patch"), ("width", "heads")):
        if config[key] % config[divisor]:
            raise InputError(where, f"config.{key}", f"be a multiple of {divisor} ({config[divisor]})", config[key])
    if config["top_k"] > config["experts"]:
        raise InputError(where, "config.top_k", f"be at most experts ({config['experts']})", config["top_k"])
    tasks = config.get("tasks")
    if not isinstance(tasks, dict) or not tasks:
        raise InputError(where, "config.tasks", "map names to numbers of classes", tasks)
    for task, classes in tasks.items():
        if not isinstance(classes, int) or isinstance(classes, bool) or not 2 <= classes <= LARGEST:
            raise InputError(where, f"config.tasks.{task}", f"be an integer from 2 to {LARGEST}", classes)
    return config


def has_experts(config, number):
    """Whether the block of that number has experts."""
    return number % 2 == 1


def expected_shapes(config):
    """Shapes of all tensors by name."""
    width, experts, inner = config["width"], config["experts"], config["expert_hidden"]
    shapes = {"patch.weight": (width, config["patch"] ** 2), "patch.bias": (width,), "class_token": (width,),
              "positions": ((config["side"] // config["patch"]) ** 2 + 1, width)}

    def norm(name):
        shapes.update({f"{name}.weight": (width,), f"{name}.bias": (width,)})

    def linear(name, *shape):
        shapes.update({f"{name}.weight": shape, f"{name}.bias": shape[:-1]})

    for number in range(config["depth"]):
        block = f"blocks.{number}"
        norm(f"{block}.norm1")
        norm(f"{block}.norm2")
        linear(f"{block}.qkv", 3 * width, width)
        linear(f"{block}.proj", width, width)
        if has_experts(config, number):
            shapes.update({f"{block}.experts.gates.{task}": (experts, width) for task in config["tasks"]})
            linear(f"{block}.experts.fc1", experts, inner, width)
            linear(f"{block}.experts.fc2", experts, width, inner)
        else:
            linear(f"{block}.fc1", config["hidden"], width)
            linear(f"{block}.fc2", width, config["hidden"])
    norm("norm")
    for task, classes in config["tasks"].items():
        linear(f"heads.{task}", classes, width)
    return shapes


def patches(images, patch):
    """Images [images, side, side] as rows of pixels of their patches [images, patches, patch * patch], row by row."""
    count, side, _ = images.shape
    cut = images.reshape(count, side // patch, patch, side // patch, patch).swapaxes(2, 3)
    return cut.reshape(count, (side // patch) ** 2, patch * patch)


def softmax(logits):
    """Over the last axis."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def top_experts(logits, count):
    """Indices [..., count] of the largest, largest first; the lower index wins a tie."""
    return np.argsort(-logits, axis=-1, kind="stable")[..., :count]


def gelu(x):
    return x * np.float32(0.5) * (1 + erf(x * np.float32(0.5**0.5)))


@dataclass(frozen=True)
class MoeVit:
    """The network of a file: ``config``, float32 ``tensors`` by name, and all of the file's ``metadata``."""

    config: dict
    tensors: dict
    metadata: dict

    @classmethod
    def load(cls, path):
        """Of a safetensors file; InputError if it is missing, damaged, or not what its own config says."""
        try:
            with safe_open(str(path), framework="numpy") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}
                raw = file.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise InputError(path, "file", "be readable safetensors", str(error)) from None
        try:
            metadata = {key: json.loads(value) for key, value in raw.items()}
        except json.JSONDecodeError as error:
            raise InputError(path, "metadata", "be JSON texts", str(error)) from None
        config = check_config(metadata.get("config"), path)
        for name, shape in expected_shapes(config).items():
            value = found.get(name)
            if value is None or value.shape != shape:
                raise InputError(path, name, f"have the shape {shape}", None if value is None else value.shape)
            if value.dtype not in (np.float16, np.float32) or not np.isfinite(value).all():
                raise InputError(path, name, "hold finite float16 or float32 numbers", str(value.dtype))
        return cls(config, {name: value.astype(np.float32) for name, value in found.items()}, metadata)

    @property
    def tasks(self):
        return tuple(self.config["tasks"])

    @property
    def tokens(self):
        return (self.config["side"] // self.config["patch"]) ** 2 + 1

    def has_experts(self, number):
        """Whether the block of that number has experts."""
        return has_experts(self.config, number)

    def forward(self, images, task, observe=None):
        """Logits float32 [images, classes] of uint8 images [images, side, side].

        ``observe(name, values)`` sees every tensor that an integer version would quantise, chunk of images by chunk.
        """
        check_choice("task", task, self.tasks)
        parts = [self._chunk(images[start : start + CHUNK], task, observe or (lambda name, values: None))
                 for start in range(0, len(images), CHUNK)]
        return np.concatenate(parts) if parts else np.zeros((0, self.config["tasks"][task]), np.float32)

    def _chunk(self, images, task, observe):
        x = self._linear(patches(images, self.config["patch"]).astype(np.float32) / 255, "patch")
        first = np.broadcast_to(self.tensors["class_token"], (len(x), 1, x.shape[2]))
        x = np.concatenate([first, x], axis=1) + self.tensors["positions"]
        for number in range(self.config["depth"]):
            block = f"blocks.{number}"
            x = x + self._attention(self._norm(x, f"{block}.norm1", observe), block, observe)
            z = self._norm(x, f"{block}.norm2", observe)
            x = x + (self._experts if self.has_experts(number) else self._dense)(z, block, task, observe)
            observe(f"{block}.sum", x)
        return self._linear(self._norm(x[:, 0], "norm", observe), f"heads.{task}")

    def _linear(self, x, name):
        rows = x.reshape(-1, x.shape[-1])  # one product, not one an image
        y = rows @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]
        return y.reshape(*x.shape[:-1], -1)

    def _norm(self, x, name, observe):
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = 1 / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + np.float32(EPS))
        y = centred * scale * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]
        observe(name, y)
        return y

    def _attention(self, x, block, observe):
        count, tokens, width = x.shape
        heads = self.config["heads"]
        parts = self._linear(x, f"{block}.qkv").reshape(count, tokens, 3, heads, width // heads).transpose(2, 0, 3, 1, 4)
        for name, part in zip("qkv", parts, strict=True):
            observe(f"{block}.{name}", part)
        q, k, v = parts
        y = softmax(q @ k.swapaxes(2, 3) / np.float32((width // heads) ** 0.5)) @ v
        observe(f"{block}.attention", y)
        return self._linear(y.swapaxes(1, 2).reshape(x.shape), f"{block}.proj")

    def _dense(self, x, block, task, observe):
        h = gelu(self._linear(x, f"{block}.fc1"))
        observe(f"{block}.hidden", h)
        return self._linear(h, f"{block}.fc2")

    def _experts(self, x, block, task, observe):
        rows = x.reshape(-1, x.shape[-1])
        logits = rows @ self.tensors[f"{block}.experts.gates.{task}"].T
        scores, chosen, y = softmax(logits), top_experts(logits, self.config["top_k"]), np.zeros_like(rows)
        weights = [self.tensors[f"{block}.experts.{name}"] for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")]
        for expert, (w1, b1, w2, b2) in enumerate(zip(*weights, strict=True)):
            queue = np.flatnonzero((chosen == expert).any(axis=1))
            h = gelu(rows[queue] @ w1.T + b1)
            observe(f"{block}.hidden", h)
            y[queue] += scores[queue, expert, None] * (h @ w2.T + b2)
        return y.reshape(x.shape)
