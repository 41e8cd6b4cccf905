"""Layers and the graph they make."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..spec.errors import check_choice, check_int
from .grouped import GroupedWeight
from .nodes import Nodes
from .weights import StoredWeight, TernaryWeight

__all__ = ["OPS", "Graph", "Layer"]

OPS = ("linear", "embedding", "vector", "convolution", "other")


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One stored tensor of a model and what is done with it.

    ``op``: ``linear`` (y[n] = W[n, k] x[k]), ``embedding`` (rows looked up), ``vector`` (element-wise: norm gains, biases),
    ``convolution`` or ``other``. ``shape`` as NumPy has it, ``[n, k]`` for a linear layer; ``format`` and ``nbytes`` as stored.
    ``weight`` is there only if an engine can take the layer; otherwise ``reason`` says why not, in words for the user.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    format: str
    nbytes: int
    weight: TernaryWeight | GroupedWeight | StoredWeight | None = None
    reason: str = ""

    def __post_init__(self):
        check_choice("op", self.op, OPS)
        object.__setattr__(self, "shape", tuple(check_int("shape", size, 0, 1 << 63) for size in self.shape))
        check_int("nbytes", self.nbytes, 0, 1 << 63)
        if self.weight is None and not self.reason:
            raise ValueError(f"layer {self.name}: reason must be given when there is no weight")
        if self.weight is not None and (self.op != "linear" or self.shape != (self.weight.n, self.weight.k)):
            size = f"[{self.weight.n}, {self.weight.k}]"
            got = f"{self.op} {self.shape}"
            raise ValueError(f"layer {self.name}: a weight {size} must be of a linear layer of that shape, got {got}")

    @property
    def runs_on(self):
        """``engine``, ``host``, or ``unsupported``: a matrix product whose weights no engine takes."""
        if self.weight is not None:
            return "engine"
        return "unsupported" if self.op in ("linear", "other") else "host"

    @property
    def n(self):
        """Output features of a linear layer; ValueError for another op."""
        return self._matrix()[0]

    @property
    def k(self):
        """Inputs of a linear layer; ValueError for another op."""
        return self._matrix()[1]

    def _matrix(self):
        if self.op != "linear":
            raise ValueError(f"layer {self.name}: n and k are defined for linear layers, this is {self.op}")
        return self.shape


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A model: ``layers`` in the order of its file, names unique; read from ``source``, with the ``metadata`` stored there.

    ``notes``: what the reader found odd and read nevertheless, a line each for the user. ``nodes``: the operators, where the file
    has them.
    """

    name: str
    layers: tuple[Layer, ...]
    source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    nodes: Nodes | None = None

    def __post_init__(self):
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "notes", tuple(self.notes))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))
        names = Counter(layer.name for layer in self.layers)
        if len(names) != len(self.layers):
            raise ValueError(f"layer names must be unique, got {names.most_common(1)[0][0]!r} twice")

    def __getitem__(self, name):
        """The layer of that name; KeyError if there is none."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def on(self, where):
        """The layers with ``runs_on == where``, in order."""
        check_choice("where", where, ("engine", "host", "unsupported"))
        return tuple(layer for layer in self.layers if layer.runs_on == where)
