"""FPGA accelerators for compressed neural networks: designs, simulates and explores them.

::

    graph = sparseloom.load_model("model.gguf")
    build = sparseloom.TernaryEngine(rows=16, lanes=20)
    plan = sparseloom.compile_graph(graph, build)
    runtime = sparseloom.Runtime(sparseloom.device("sim", build), plan)      # or "golden"
    y = runtime.matmul("blk.0.attn_q.weight", codes)                         # int8 [m, k] -> int32 [m, n], exact
    y = runtime.linear("blk.0.attn_q.weight", x)                             # float32, quantised on the way in
"""

import importlib

__all__ = [
    "Attention", "DEVICES", "MoeGate", "MoeLinear", "NmLoad", "NmPrune", "NmTrain", "NmUpdate", "Plan", "Runtime",
    "SparseChain", "TernaryEngine", "Vector", "compile_graph", "device", "load_model", "load_plan", "place", "save_plan",
]

DEVICES = {"golden": ("host.golden", "GoldenDevice"), "sim": ("sim.device", "SimDevice")}
"""Device classes (module, name) by the name of the device."""

# Found on first use: `import sparseloom` needs no package that the work at hand does not need.
_API = {
    "Attention": ("models.spec.attention", "Attention"),
    "MoeGate": ("models.spec.moe_gate", "MoeGate"),
    "MoeLinear": ("models.spec.moe_linear", "MoeLinear"),
    "NmLoad": ("models.spec.nm_load", "NmLoad"),
    "NmPrune": ("models.spec.nm_prune", "NmPrune"),
    "NmTrain": ("models.spec.nm_train", "NmTrain"),
    "NmUpdate": ("models.spec.nm_update", "NmUpdate"),
    "Plan": ("host.plan", "Plan"),
    "Runtime": ("host.runtime", "Runtime"),
    "SparseChain": ("models.spec.sparse_chain", "SparseChain"),
    "TernaryEngine": ("models.spec.ternary", "TernaryEngine"),
    "Vector": ("models.spec.vector", "Vector"),
    "compile_graph": ("host.compiler", "compile_graph"),
    "load_model": ("models.importers.load", "load"),
    "load_plan": ("host.container", "load_plan"),
    "place": ("host.compiler", "place"),
    "save_plan": ("host.container", "save_plan"),
}


def __getattr__(name):
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _found(*_API[name])


def __dir__():
    return sorted({*globals(), *_API})


def _found(module, name):
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def device(name, build, **options):
    """A device that runs plans made for ``build``: ``golden`` (NumPy, cycles by the closed form) or ``sim`` (simulated gates).

    ``options`` as the device's class takes them. ValueError for another name; MissingTool where ``sim`` lacks a program.
    """
    if name not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(DEVICES)}, got {name!r}")
    return _found(*DEVICES[name])(build, **options)
