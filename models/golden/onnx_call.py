"""What a kernel of an ONNX operator sees: its node, its inputs, and how much it may make."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Call", "TYPES"]

TYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
         10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64}  # fmt: skip
"""NumPy types by ONNX's numbers."""


@dataclass(frozen=True, eq=False)
class Call:
    """One run of a node: ``inputs`` are arrays, None where one is left out. No result may have over ``limit`` elements."""

    node: Any
    inputs: list
    opset: int
    limit: int

    def x(self, at=0):
        """An input; None if it is left out."""
        return self.inputs[at] if at < len(self.inputs) else None

    def need(self, at=0):
        """An input that must be there."""
        value = self.x(at)
        if value is None:
            raise ValueError(f"input {at} is left out")
        return value

    def said(self, name, default=None):
        """An attribute."""
        return self.node.attributes.get(name, default)

    def ints(self, at, name=None, default=None):
        """A list of integers: input ``at``, or else the attribute ``name``."""
        value = self.x(at)
        if value is None:
            value = self.said(name, default) if name else default
            return None if value is None else [int(each) for each in np.atleast_1d(value)]
        if value.dtype.kind not in "iu" or value.ndim > 1:
            raise ValueError(f"input {at} must be a list of integers")
        return [int(each) for each in np.atleast_1d(value)]

    def room(self, *shapes):
        """The shape that arrays of ``shapes`` are spread to; ValueError if it is too large to make."""
        shape = tuple(shapes[0]) if len(shapes) == 1 else np.broadcast_shapes(*(tuple(shape) for shape in shapes))
        if min(shape, default=0) < 0 or math.prod(shape) > self.limit:
            raise ValueError(f"a result of shape {list(shape)} is more than {self.limit} elements")
        return shape

    def axis(self, rank, default=0):
        """The attribute ``axis`` as a place of 0 to rank - 1."""
        return place(int(self.said("axis", default)), rank)

    def axes(self, rank, at=1, default=None):
        """The input ``at`` or attribute ``axes`` as places; None if there is neither."""
        found = self.ints(at, "axes", default)
        return None if found is None else tuple(place(axis, rank) for axis in found)


def place(axis, rank):
    if not -rank <= axis < max(rank, 1):
        raise ValueError(f"axis {axis} is none of {rank}")
    return axis % max(rank, 1)
