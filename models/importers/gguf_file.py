"""GGUF files as graphs: matrices in TQ1_0, TQ2_0 and, on request, I2_S."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from ..formats import i2_s, tq1_0, tq2_0
from ..formats.tq_block import one_scale
from ..graph import Graph, StoredWeight, TernaryWeight
from ..spec.errors import InputError
from .gguf_header import I2_S, read_header
from .layers import other_layer

__all__ = ["load_gguf"]

MAX_MODEL_NAME = 128
I2_S_HINT = (
    "I2_S is written in one layout on x86 and in another on ARM, and the file does not say which: pass i2_s='x86' if it was "
    "written on x86 (the ARM layout is not supported)"
)


def load_gguf(path, data, i2_s_layout=None):
    """The Graph of the file ``data`` at ``path``; a tensor is read when its weight is loaded. InputError if the file is unsound.

    ``i2_s_layout`` is "x86" to read I2_S tensors, None to list them as unsupported.
    """
    metadata, tensors = read_header(data, path)
    if metadata.get("split.count", 1) != 1:
        raise InputError(path, "split.count", "be 1: join the parts of a split file first", metadata["split.count"])
    readers = {"TQ1_0": partial(read_tq, tq1_0.unpack), "TQ2_0": partial(read_tq, tq2_0.unpack)}
    if i2_s_layout == "x86":
        readers["I2_S"] = read_i2_s
    name = metadata.get("general.name")
    return Graph(
        name=name if isinstance(name, str) and 0 < len(name) <= MAX_MODEL_NAME and name.isprintable() else Path(path).stem,
        layers=[layer_of(tensor, data, readers, path) for tensor in tensors],
        source=str(path),
        metadata=metadata,
    )


def layer_of(tensor, data, readers, path):
    reason = I2_S_HINT if tensor.type_id == I2_S else ""
    layer = other_layer(tensor.name, tensor.shape, tensor.type_name, tensor.nbytes, reason)
    if layer.op != "linear" or tensor.type_name not in readers:
        return layer
    n, k = tensor.shape
    raw = data[tensor.start : tensor.start + tensor.nbytes]
    read = partial(readers[tensor.type_name], raw, (n, k), f"{path}: {tensor.name}")
    weight = StoredWeight(kind="ternary", format=tensor.type_name, n=n, k=k, nbytes=tensor.nbytes, read=read)
    return replace(layer, weight=weight, reason="")


def read_tq(unpack, raw, shape, where):
    trits, scale = one_scale(*unpack(raw, shape, where), where)
    return TernaryWeight(trits=trits, scale=scale)


def read_i2_s(raw, shape, where):
    trits, scale = i2_s.unpack(raw, shape, where)
    return TernaryWeight(trits=trits, scale=scale)
