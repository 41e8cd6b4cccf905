"""From a spec to its gates: the component of each engine family."""

__all__ = ["component"]


def component(build):
    """The Amaranth component of an :class:`~sparseloom.models.spec.engine.EngineSpec`; its ports are
    ``EngineSignature(build)``."""
    if build.name == "ternary_engine":
        from .ternary.engine import TernaryEngine
        return TernaryEngine(build)
    if build.name == "sparse_chain":
        from .sparse_chain.engine import SparseChain
        return SparseChain(build)
    if build.name == "vector":
        from .vector.engine import Vector
        return Vector(build)
    if build.name == "attention":
        from .attention.engine import Attention
        return Attention(build)
    if build.name == "moe_linear":
        from .moe.linear import MoeLinear
        return MoeLinear(build)
    if build.name == "moe_gate":
        from .moe.gate import MoeGate
        return MoeGate(build)
    if build.name == "nm_load":
        from .nm_train.load import NmLoad
        return NmLoad(build)
    if build.name == "nm_prune":
        from .nm_train.prune import NmPrune
        return NmPrune(build)
    if build.name == "nm_train":
        from .nm_train.engine import NmTrain
        return NmTrain(build)
    if build.name == "nm_update":
        from .nm_train.update import NmUpdate
        return NmUpdate(build)
    raise ValueError(f"no gates for engine {build.name!r}")
