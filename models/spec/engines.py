"""The engine families by name."""

from .attention import Attention
from .sparse_chain import SparseChain
from .ternary import TernaryEngine

__all__ = ["ENGINES"]

ENGINES = {spec.name: spec for spec in (TernaryEngine, SparseChain, Attention)}
