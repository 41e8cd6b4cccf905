"""Tensors of safetensors files, read one at a time: as the integers, floats or bytes that a layout demands, or not at all."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..spec.errors import InputError
from .safetensors_header import StoredTensor

__all__ = ["FLOATS", "Place"]

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I8": "i1", "U8": "u1"}
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Place:
    """A tensor and the file it lies in, ``data`` uint8."""

    tensor: StoredTensor
    path: Path
    data: np.ndarray

    @property
    def raw(self):
        return self.data[self.tensor.start : self.tensor.start + self.tensor.nbytes]

    @property
    def where(self):
        return f"{self.path}: {self.tensor.name}"

    def check(self, dtypes, shapes):
        """Itself; InputError unless its dtype is one of ``dtypes`` and its shape one of ``shapes``, None being any size but 0."""
        tensor = self.tensor
        fits = any(
            len(shape) == len(tensor.shape) and all(want in (None, have) for want, have in zip(shape, tensor.shape, strict=True))
            for shape in shapes
        )
        if tensor.dtype not in dtypes or not fits or 0 in tensor.shape:
            named = " or ".join(str(["any" if size is None else size for size in shape]).replace("'", "") for shape in shapes)
            rule = f"be {' or '.join(dtypes)} of shape {named}"
            raise InputError(self.path, tensor.name, rule, f"{tensor.dtype} {list(tensor.shape)}")
        return self

    def array(self):
        """The values as stored, BF16 as float32; a copy."""
        if self.tensor.dtype == "BF16":
            return (self.raw.copy().view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(self.tensor.shape)
        return self.raw.copy().view(DTYPES[self.tensor.dtype]).reshape(self.tensor.shape)

    def floats(self):
        """The values as float32; InputError if one is not finite, here or in its own precision."""
        with np.errstate(over="ignore"):
            value = self.array().astype(np.float32)
        bad = ~np.isfinite(value)
        if bad.any():
            at = [int(i) for i in np.argwhere(bad)[0]]
            raise InputError(self.path, f"{self.tensor.name}{at}", "be finite", float(value[tuple(at)]))
        return value
