"""From a model file to a graph, by what the file holds and not by what it is called."""

from ..spec.errors import InputError
from .files import map_file
from .gguf_file import is_gguf, load_gguf

__all__ = ["load"]


def load(path, *, scale_convention=None, i2_s=None):
    data = map_file(path)
    if is_gguf(data):
        return load_gguf(path, data, i2_s_layout=i2_s)
    raise InputError(path, "file", "be GGUF", bytes(data[:8]))
