"""From a model file to a graph, by what the file holds and not by what it is called."""

from pathlib import Path

from ..formats import gptq
from ..formats.bitnet import CONVENTIONS
from ..spec.errors import InputError, check_choice
from .files import map_file
from .onnx_wire import is_onnx
from .safetensors_file import load_safetensors
from .safetensors_header import is_safetensors

__all__ = ["describe", "load"]

GGUF_MAGIC = b"GGUF"
MAX_INDEX_BYTES = 1 << 24
FLOAT_WEIGHTS = ("int8",)
IN_FOLDER = ("model.safetensors.index.json", "model.safetensors")


def load(path, *, scale_convention=None, i2_s=None, gptq_zeros=None, float_weights=None):
    """The :class:`Graph` of a model: a GGUF, safetensors or ONNX file, the index of a sharded one, or a folder that holds one.

    Only headers are read: a weight is read, and its bytes are checked, when it is loaded (``layer.weight.load()``).
    ``scale_convention`` ("divide" or "multiply") is for packed BitNet weights without a config that tells it; ``i2_s`` ("x86")
    says where I2_S tensors were written, which are unsupported without it; ``gptq_zeros`` ("v1" or "v2") overrules what a GPTQ
    file says and shows of how its zero points are stored; ``float_weights`` ("int8") takes an ONNX file's float matrices as int8
    with a scale for each row. InputError for a file that is unsound, now or when a weight is loaded.
    """
    if scale_convention is not None:
        check_choice("scale_convention", scale_convention, CONVENTIONS)
    if i2_s is not None:
        check_choice("i2_s", i2_s, ("x86",))
    if gptq_zeros is not None:
        check_choice("gptq_zeros", gptq_zeros, gptq.CONVENTIONS)
    if float_weights is not None:
        check_choice("float_weights", float_weights, FLOAT_WEIGHTS)
    path = model_file(Path(path))
    data = map_file(path)
    if bytes(data[: len(GGUF_MAGIC)]) == GGUF_MAGIC:
        from .gguf_file import load_gguf  # here, so that the gguf package is loaded for such files only

        return load_gguf(path, data, i2_s)
    if is_safetensors(data) or bytes(data[:1]) == b"{" and len(data) <= MAX_INDEX_BYTES:
        return load_safetensors(path, data, scale_convention, gptq_zeros)
    if is_onnx(data):
        from .onnx_file import load_onnx

        return load_onnx(path, data, float_weights)
    raise InputError(path, "file", "be GGUF, safetensors, ONNX, or the JSON index of safetensors files", bytes(data[:16]))


def model_file(path):
    """The model's file if ``path`` is a folder, otherwise ``path``."""
    if not path.is_dir():
        return path
    found = [path / name for name in IN_FOLDER if (path / name).is_file()]
    found = found or sorted(file for suffix in ("gguf", "safetensors", "onnx") for file in path.glob(f"*.{suffix}"))
    if not found or len(found) > 1 and found[0].name not in IN_FOLDER:
        raise InputError(path, "folder", "hold one model file, or name the file", [file.name for file in found])
    return found[0]


def describe(path, **options):
    """One dict a layer: name, op, shape, format, bytes, bits_per_weight, runs_on, reason. ``options`` as :func:`load` takes them.

    ``bits_per_weight`` counts everything stored for the layer, scales and padding included; None for a layer without elements.
    """
    return [row_of(layer) for layer in load(path, **options).layers]


def row_of(layer):
    elements = 1
    for size in layer.shape:
        elements *= size
    return {
        "name": layer.name,
        "op": layer.op,
        "shape": list(layer.shape),
        "format": layer.format,
        "bytes": layer.nbytes,
        "bits_per_weight": 8 * layer.nbytes / elements if elements else None,
        "runs_on": layer.runs_on,
        "reason": layer.reason,
    }
