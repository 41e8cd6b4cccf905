"""The operators of a model and the values between them, for files that say how their tensors are used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

__all__ = ["Node", "Nodes", "Value", "first_fault"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """One operator: ``op`` of ``domain`` ("" for ONNX's own) from the values ``inputs`` to the values ``outputs``, all by name.

    "" is an optional value that is left out. ``attributes``: ints, floats, texts, tuples of them, arrays.

    ``layer``: the name of the graph's layer whose matrix the operator multiplies by, "" if there is none.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    domain: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    layer: str = ""

    def __post_init__(self):
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "outputs", tuple(self.outputs))
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))

    def input(self, at):
        """The name of an input, "" if it is left out."""
        return self.inputs[at] if at < len(self.inputs) else ""


@dataclass(frozen=True, kw_only=True)
class Value:
    """An input of the model: ``dtype`` as NumPy names it, ``shape`` with None (or a text) where any size will do."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Nodes:
    """``nodes`` in an order in which they can run; ``inputs`` as :class:`Value`, ``outputs`` by name, ``constants`` by name.

    ``opset``: the version of ONNX's own operators. ValueError unless every value is given once and before it is used.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, np.ndarray]
    opset: int

    def __post_init__(self):
        for name in ("nodes", "inputs", "outputs"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "constants", MappingProxyType(dict(self.constants)))
        fault = first_fault(self.nodes, [value.name for value in self.inputs], self.constants, self.outputs)
        if fault:
            raise ValueError("{} must {}, got {!r}".format(*fault))

    @cached_property
    def producers(self):
        """``{value: node}`` that computes it."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    @cached_property
    def consumers(self):
        """``{value: (node, ...)}`` that read it, in order."""
        found = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                if name:
                    found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}


def first_fault(nodes, inputs, constants, outputs):
    """``(field, rule, value)`` of the first value that is given twice, or used before it is there; None if all is in order.

    A cycle is such a use: somewhere in it a node reads what a later one computes.
    """
    known = {"", *constants}
    for name in inputs:
        if name in known:
            return "an input", "have a name of its own", name
        known.add(name)
    for node in nodes:
        for name in node.inputs:
            if name not in known:
                return f"an input of node {node.name}", "be there or be computed by an earlier node", name
        for name in node.outputs:
            if name and name in known:
                return f"an output of node {node.name}", "have a name of its own", name
            known.add(name)
    for name in outputs:
        if name not in known or not name:
            return "an output", "be computed", name
    return None
