"""2:4 sparse float weights of compressed-tensors checkpoints as dense matrices with masks: to quantise before they can run."""

from pathlib import Path

from ..formats import sparse_24
from ..spec.errors import InputError
from .compressed_file import SPARSE_ANCHOR, sparse_shape
from .files import map_file
from .load import model_file
from .places import FLOATS
from .safetensors_file import read_places

__all__ = ["read_sparse_floats"]


def read_sparse_floats(path):
    """``{weight's name: (float32 [n, k], mask bool [n, k])}`` of ``sparse-24-bitmask`` layers; 0 where the mask is False.

    ``path``: a file, an index or a folder as :func:`.load.load` takes them. InputError for an unsound file, a layer that
    does not keep two of every four, and a file without such layers.
    """
    path = model_file(Path(path))
    _, places = read_places(path, map_file(path))
    found = {}
    for name, place in places.items():
        stem = name.removesuffix(SPARSE_ANCHOR)
        beside = {part: places[f"{stem}.{part}"] for part in ("shape", "bitmask") if f"{stem}.{part}" in places}
        if stem == name or "bitmask" not in beside or f"{stem}.row_offsets" in places or place.tensor.dtype not in FLOATS:
            continue
        shape = sparse_shape(place, beside)
        found[f"{stem}.weight"] = sparse_24.unpack(place.floats(), beside["bitmask"].array(), shape, place.where)
    if not found:
        raise InputError(path, "tensors", "hold sparse-24-bitmask float weights", f"{len(places)} others")
    return found
