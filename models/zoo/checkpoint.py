"""The file of a MatMul-free checkpoint: safetensors, ternary matrices packed as Hugging Face's BitNet packs them.

A matrix ``X.weight`` of n x k trits is uint8 [n / 4, k], see ``formats.bitnet``. Beside it ``X.weight_scale`` [1], float32,
of the *dividing* convention: a matrix entry is trit / weight_scale, and y = acc / (s_x * weight_scale). Norm gains and lower
bounds are float32, the embedding float16. The values of the metadata are JSON texts, ``config`` and ``quantization_config``
among them. ``models.importers`` reads the same file as a graph.
"""

import json
import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sparseloom.models.formats import bitnet
from sparseloom.models.importers import load
from sparseloom.models.spec.errors import InputError

__all__ = ["expected_shapes", "read_model", "read_packed", "ternarise", "ternary_tensors", "write_checkpoint"]

FLOOR = 1e-5
CONFIG = ("vocabulary", "width", "inner", "layers")
LARGEST = 1 << 20
QUANTIZATION = {"quant_method": "bitnet", "linear_class": "bitlinear", "quantization_mode": "offline"}


def ternarise(weight):
    """(trits int8, s_w float32): s_w = 1 / max(mean |W| over the whole tensor, 1e-5), trits = clamp(round(W s_w), -1, 1)."""
    weight = np.asarray(weight, np.float32)
    scale = np.float32(1) / np.maximum(np.abs(weight).mean(dtype=np.float32), np.float32(FLOOR))
    return np.clip(np.rint(weight * scale), -1, 1).astype(np.int8), scale


def ternary_tensors(parameters):
    """Trained parameters by their names in the network -> the tensors of the file."""
    tensors = {}
    for name, value in parameters.items():
        if name.endswith("_proj.weight") or name == "lm_head.weight":
            trits, scale = ternarise(value)
            tensors[name], tensors[f"{name}_scale"] = bitnet.pack(trits), np.array([scale], np.float32)
        elif name == "lower_bounds":  # [layers, width]: a vector a layer, so that no reader takes it for a matrix product
            tensors |= {f"{name}.{number}": np.asarray(row, np.float32) for number, row in enumerate(value)}
        else:
            tensors[name] = np.asarray(value, np.float16 if name == "embeddings.weight" else np.float32)
    return tensors


def write_checkpoint(path, tensors, metadata):
    """Write all or nothing. ``metadata`` maps a name to anything JSON can hold; the scale convention is added to it."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    metadata = {**metadata, "quantization_config": QUANTIZATION}
    partial.write_bytes(save(tensors, {key: json.dumps(value, sort_keys=True) for key, value in metadata.items()}))
    os.replace(partial, path)


def read_packed(path):
    """The tensors of a file as they are stored; InputError if it is missing or damaged."""
    try:
        with safe_open(str(path), framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise InputError(path, "file", "be readable safetensors", str(error)) from None


def read_model(path):
    """``(weights, floats, metadata)`` of a file; InputError if it is missing, damaged, or not what its own config says.

    ``weights`` maps a tensor's name to its ``TernaryWeight`` in the order of execution, ``floats`` to float32 arrays;
    ``metadata`` is as it was written.
    """
    graph = load(path)
    try:
        metadata = {key: json.loads(value) for key, value in graph.metadata.items()}
    except json.JSONDecodeError as error:
        raise InputError(path, "metadata", "be JSON texts", str(error)) from None
    floats = {name: value for name, value in read_packed(path).items() if value.dtype in (np.float16, np.float32)}
    matrices, others = expected_shapes(check_config(metadata.get("config"), path))
    stored = {layer.name: layer for layer in graph.layers}
    for name, shape in {**matrices, **others}.items():
        found = stored[name].shape if name in stored else None
        if found != shape:
            raise InputError(path, name, f"have the shape {shape}", found)
    for name in matrices:
        if stored[name].runs_on != "engine":
            raise InputError(path, name, "be a packed ternary matrix", stored[name].format)
    for name in others:
        if name not in floats or not np.isfinite(floats[name]).all():
            raise InputError(path, name, "hold finite float16 or float32 numbers", stored[name].format)
    weights = {name: stored[name].weight.load() for name in matrices}
    return weights, {name: floats[name].astype(np.float32) for name in others}, metadata


def check_config(config, where):
    """``config`` if it is an object with positive integers vocabulary, width, inner and layers; InputError otherwise."""
    for key in CONFIG:
        value = config.get(key) if isinstance(config, dict) else None
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST:
            raise InputError(where, f"config.{key}", f"be an integer from 1 to {LARGEST}", value)
    return config


def expected_shapes(config):
    """(shapes of the ternary matrices in the order of execution, shapes of the float tensors), by name."""
    vocabulary, width, inner, layers = (config[key] for key in CONFIG)
    mixers = {"attn.i_proj": (width, width), "attn.f_proj": (width, width), "attn.g_proj": (width, width),
              "attn.o_proj": (width, width), "mlp.gate_proj": (2 * inner, width), "mlp.down_proj": (width, inner)}
    matrices = {f"layers.{number}.{name}.weight": shape for number in range(layers) for name, shape in mixers.items()}
    matrices["lm_head.weight"] = (vocabulary, width)
    others = {f"{name.removesuffix('.weight')}.norm.weight": (k,) for name, (_, k) in matrices.items()}
    for number in range(layers):
        others |= {f"layers.{number}.{name}.weight": (width,) for name in ("attn_norm", "attn.g_norm", "mlp_norm")}
        others[f"lower_bounds.{number}"] = (width,)
    others |= {"embeddings.weight": (vocabulary, width), "norm.weight": (width,)}
    return matrices, others
