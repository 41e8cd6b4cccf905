"""Safetensors files, alone or in shards, as graphs: what each quantisation method calls its own, and the rest as it is.

Read here: the matrices that Hugging Face BitNet packs four trits to a byte. ``X.weight``, uint8 ``[ceil(n/4), k]``, comes with
``X.weight_scale``, one number; n is four times the stored rows, or the length of ``X.bias`` if there is one and it tells how many
of the last rows are padding.
"""

from functools import partial
from pathlib import Path

from ..formats import bitnet
from ..graph import Graph, Layer, StoredWeight, TernaryWeight
from ..spec.errors import InputError
from . import compressed_file, gptq_file
from .bitnet_config import scale_convention
from .compressed_config import METHOD as COMPRESSED
from .files import check_name, map_file, parse_json
from .layers import Found, other_layer
from .nm_file import find_nm, is_nm
from .places import FLOATS, Place
from .quant_config import CONFIG_KEY, find_config
from .safetensors_header import is_safetensors, read_header

__all__ = ["load_safetensors", "read_places"]

WEIGHT, SCALE, BIAS = ".weight", ".weight_scale", ".bias"
PER_BYTE = 4
MAX_SHARDS = 512  # each holds a file open


def load_safetensors(path, data, convention=None, gptq_zeros=None):
    """The Graph of the file ``data`` at ``path``, safetensors or the JSON index of such files; InputError if it is unsound.

    A tensor is read when its weight is loaded.

    ``convention``: of BitNet's scale, "divide" or "multiply"; None to take it from the file's metadata or the config.json beside
    it. ``gptq_zeros``: how GPTQ's zero points are stored, "v1" or "v2"; None to go by what they are and what the config says.
    """
    metadata, places = read_places(path, data)
    found = find_layers(Path(path), places, metadata, convention, gptq_zeros)
    layers = [found.layers[name] if name in found.layers else plain_layer(place) for name, place in places.items()
              if name in found.layers or name not in found.used]  # fmt: skip
    names = {}
    for layer in layers:
        if names.setdefault(layer.name, layer) is not layer:
            raise InputError(path, "layers", "have names of their own", layer.name)
    return Graph(name=Path(path).stem, layers=layers, source=str(path), metadata=metadata, notes=found.notes)


def read_places(path, data):
    """``(metadata, {name: Place})`` of the file ``data`` at ``path``, safetensors or an index. InputError if it is unsound."""
    if not is_safetensors(data):
        return read_index(path, data)
    metadata, tensors = read_header(data, path)
    return metadata, {tensor.name: Place(tensor, path, data) for tensor in tensors}


def read_index(path, data):
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
    if is_nm(metadata):
        raise InputError(path, "weight_map", "name no file of the N:M container, which is one file", metadata["format"])
    return metadata, places


def find_layers(path, places, metadata, convention, gptq_zeros):
    """What the file's method makes of ``places``. A config is looked for only if there are tensors that need one."""
    if is_nm(metadata):
        return find_nm(places, metadata, path)
    packed = {name for name in places if is_packed(name, places)}
    if packed:
        if convention is None:
            convention = scale_convention(*find_config(path.parent, metadata, path))
        layers = {name: packed_layer(name, places, convention) for name in packed}
        return Found(layers=layers, used=packed | {scale_name(name) for name in packed})
    grouped = any(name.endswith(gptq_file.ANCHOR) for name in places)
    others = any(name.endswith(compressed_file.ANCHORS) or place.tensor.dtype == "I8" for name, place in places.items())
    if not grouped and not others:
        return Found()
    config, at = find_config(path.parent, metadata, path)
    method = (config or {}).get("quant_method")
    if grouped:
        readers = {"gptq": partial(gptq_file.find_gptq, convention=gptq_zeros), "awq": gptq_file.find_awq}
        if not isinstance(method, str) or method not in readers:
            raise InputError(at, f"{CONFIG_KEY}.quant_method", "be 'gptq' or 'awq' for packed weights named qweight", method)
        return readers[method](places, config, at)
    return compressed_file.find_compressed(places, config, at) if method == COMPRESSED else Found()


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
    if scale.tensor.dtype not in FLOATS or scale.tensor.shape not in ((), (1,)):
        got = f"{scale.tensor.dtype} {list(scale.tensor.shape)}"
        raise InputError(scale.path, scale.tensor.name, f"be one number in {', '.join(FLOATS[:-1])} or {FLOATS[-1]}", got)
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
    return TernaryWeight(trits=trits, scale=bitnet.scale_of(scale.array().reshape(-1)[0], convention, where))
