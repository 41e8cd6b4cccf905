"""The engine families by name."""

from .attention import Attention
from .moe_gate import MoeGate
from .moe_linear import MoeLinear
from .nm_load import NmLoad
from .nm_prune import NmPrune
from .nm_train import NmTrain
from .nm_update import NmUpdate
from .sparse_chain import SparseChain
from .ternary import TernaryEngine
from .vector import Vector

__all__ = ["ENGINES"]

ENGINES = {spec.name: spec for spec in (
    TernaryEngine, SparseChain, Attention, Vector, MoeLinear, MoeGate, NmLoad, NmPrune, NmTrain, NmUpdate)}
