"""Safetensors files, alone or in shards, as graphs: the matrices that Hugging Face BitNet packs four trits to a byte.

A packed layer is ``X.weight``, uint8 ``[ceil(n/4), k]``, with ``X.weight_scale``, one number. n is four times the stored rows, or
the length of ``X.bias`` if there is one and it tells how many of the last rows are padding.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..formats import bitnet
from ..graph import Graph, Layer, StoredWeight, TernaryWeight
from ..spec.errors import InputError
from .bitnet_config import find_config, scale_convention
from .files import check_name, map_file, parse_json
from .layers import other_layer
from .safetensors_header import StoredTensor, is_safetensors, read_header

__all__ = ["load_index", "load_safetensors"]

WEIGHT, SCALE, BIAS = ".weight", ".weight_scale", ".bias"
PER_BYTE = 4
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
MAX_SHARDS = 512  # each holds a file open


@dataclass(frozen=True)
class Place:
    """A tensor and the file it lies in."""

    tensor: StoredTensor
    path: Path
    data: np.ndarray

    @property
    def raw(self):
        return self.data[self.tensor.start : self.tensor.start + self.tensor.nbytes]


def load_safetensors(path, data, convention=None):
    """The Graph of the file ``data`` at ``path``; a tensor is read when its weight is loaded. InputError if the file is unsound.

    ``convention``: of the scale, "divide" or "multiply"; None to take it from the file's metadata or the config.json beside it.
    """
    metadata, tensors = read_header(data, path)
    places = {tensor.name: Place(tensor, path, data) for tensor in tensors}
    return graph_of(path, places, metadata, convention)


def load_index(path, data, convention=None):
    """The Graph of the shards that the JSON index ``data`` at ``path`` names, as :func:`load_safetensors`."""
    index = parse_json(data, path, "index")
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(path, "weight_map", "be an object that names the file of each tensor", weight_map)
    for name, shard in weight_map.items():
        check_name(name, path, "tensor name")
        if not isinstance(shard, str) or "/" in check_name(shard, path, f"file of {name}") or "\\" in shard:
            raise InputError(path, f"file of {name}", "be the name of a file in the same folder", shard)
    shards = dict.fromkeys(weight_map.values())
    if len(shards) > MAX_SHARDS:
        raise InputError(path, "weight_map", f"name at most {MAX_SHARDS} files", len(shards))
    metadata = {}
    for shard in shards:
        place = Path(path).parent / shard
        shard_data = map_file(place)
        if not is_safetensors(shard_data):
            raise InputError(place, "file", "be safetensors", bytes(shard_data[:9]))
        shard_metadata, tensors = read_header(shard_data, place)
        metadata |= shard_metadata
        shards[shard] = {tensor.name: Place(tensor, place, shard_data) for tensor in tensors}
    places = {}
    for name, shard in weight_map.items():
        if name not in shards[shard]:
            raise InputError(path, f"file of {name}", "hold that tensor", shard)
        places[name] = shards[shard][name]
    return graph_of(path, places, metadata, convention)


def graph_of(path, places, metadata, convention):
    path = Path(path)
    packed = {name for name in places if is_packed(name, places)}
    if packed and convention is None:
        convention = scale_convention(*find_config(path.parent, metadata, path))
    used = {scale_name(name) for name in packed}
    layers = [
        packed_layer(name, places, convention) if name in packed else plain_layer(place)
        for name, place in places.items()
        if name not in used
    ]
    return Graph(name=path.stem, layers=layers, source=str(path), metadata=metadata)


def scale_name(name):
    return name.removesuffix(WEIGHT) + SCALE


def is_packed(name, places):
    tensor = places[name].tensor
    return (
        name.endswith(WEIGHT) and tensor.dtype == "U8" and len(tensor.shape) == 2 and tensor.nbytes and scale_name(name) in places
    )


def plain_layer(place):
    tensor = place.tensor
    reason = "uint8 without a weight_scale beside it is no packed ternary matrix" if tensor.dtype == "U8" else ""
    return other_layer(tensor.name, tensor.shape, tensor.dtype, tensor.nbytes, reason)


def packed_layer(name, places, convention):
    place, scale = places[name], places[scale_name(name)]
    where = f"{place.path}: {name}"
    rows, k = place.tensor.shape
    if scale.tensor.dtype not in (*FLOATS, "BF16") or scale.tensor.shape not in ((), (1,)):
        got = f"{scale.tensor.dtype} {list(scale.tensor.shape)}"
        raise InputError(scale.path, scale.tensor.name, f"be one number in {', '.join(FLOATS)} or BF16", got)
    n = PER_BYTE * rows
    bias = places.get(name.removesuffix(WEIGHT) + BIAS)
    if bias is not None and len(bias.tensor.shape) == 1 and n - PER_BYTE < bias.tensor.shape[0] < n:
        n = bias.tensor.shape[0]
    nbytes = place.tensor.nbytes + scale.tensor.nbytes
    read = partial(read_packed, place.raw, (n, k), scale, convention, where)
    weight = StoredWeight(kind="ternary", format="HF BitNet", n=n, k=k, nbytes=nbytes, read=read)
    return Layer(name=name, op="linear", shape=(n, k), format=weight.format, nbytes=nbytes, weight=weight)


def read_packed(raw, shape, scale, convention, where):
    trits = bitnet.unpack(raw, shape, where)
    return TernaryWeight(trits=trits, scale=bitnet.scale_of(one_float(scale), convention, where))


def one_float(place):
    raw = place.raw.copy()
    if place.tensor.dtype == "BF16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)[0]
    return raw.view(FLOATS[place.tensor.dtype])[0]
