"""What each engine must deliver for a job's operands, and random operands: one entry a family."""

from importlib import import_module

import numpy as np

from . import attention, moe_gate, moe_linear, sparse_chain, ternary, vector

__all__ = ["draw_operands", "results"]


def results(build, job, operands):
    """The results a correct engine delivers, as ``formats.engines.collect`` returns them, and ``saturated``."""
    return _FAMILIES[build.name][0](build, job, operands)


def draw_operands(build, job, rng):
    """Random operands of a job (dict of arrays), corner values included."""
    return _FAMILIES[build.name][1](build, job, rng)


def _ternary_results(build, job, operands):
    acc = ternary.matmul(operands["x"], operands["w"])
    out = {"y": acc, "saturated": 0}
    if build.statistics and job.last:
        out["absmax"], out["squares"] = ternary.statistics(acc)
    if job.requantise:
        out["y"], out["saturated"] = ternary.requantise(acc, job.multiplier, job.shift)
    return out


def _ternary_operands(build, job, rng):
    peak = build.act_peak
    x = rng.integers(-peak, peak, (job.m, job.k), dtype=np.int8)
    w = rng.integers(-1, 2, (job.n, job.k), dtype=np.int8)
    kind = int(rng.integers(4))
    if kind == 0:
        x[:] = -peak
        w[rng.integers(job.n)] = rng.choice([-1, 1])
    elif kind == 1:
        w[rng.random(w.shape) < 0.9] = 0
    return {"x": x, "w": w}


def _sparse_results(build, job, operands):
    y, saturated = sparse_chain.round_shift(sparse_chain.matmul(job, operands), job.shift)
    return {"y": y, "saturated": saturated}


def _on_use(module):
    """The two functions of a module that is imported on use: bfloat16 needs ml_dtypes, which a board's runtime does without."""
    def call(name):
        return lambda *arguments: getattr(import_module("." + module, __package__), name)(*arguments)
    return call("results"), call("draw_operands")


_FAMILIES = {"ternary_engine": (_ternary_results, _ternary_operands),
             "sparse_chain": (_sparse_results, sparse_chain.draw_operands),
             "attention": (attention.results, attention.draw_operands),
             "vector": (vector.results, vector.draw_operands),
             "moe_linear": (moe_linear.results, moe_linear.draw_operands),
             "moe_gate": (moe_gate.results, moe_gate.draw_operands),
             "nm_load": _on_use("nm_load"),
             "nm_prune": _on_use("nm_prune"),
             "nm_train": _on_use("nm_train"),
             "nm_update": _on_use("nm_update")}
