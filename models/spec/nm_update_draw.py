"""Random builds and jobs of the weight update engine, for the conformance suite."""

import numpy as np

from .draw import draw_size

__all__ = ["draw_build", "draw_job"]


def draw_build(cls, rng):
    """A small build, every parameter varied."""
    return cls(lanes=int(rng.choice([1, 1, 1, 2, 3])), lion=bool(rng.integers(3) < 2), pruned=bool(rng.integers(3) < 2),
               max_n=int(np.exp(rng.uniform(np.log(2), np.log(500)))))


def draw_job(build, rng):
    """A legal job: any size and rule; hyperparameters as in training, or any finite float32."""
    rule = "lion" if build.lion and rng.integers(2) else "sgd"
    names = ["lr", "weight_decay", *(["momentum"] if rule == "sgd" else ["beta1", "beta2"])]
    if build.pruned:
        names.append("pruned_decay")
    usual = {"lr": 0.1, "weight_decay": 5e-4, "pruned_decay": 2e-4, "momentum": 0.9, "beta1": 0.9, "beta2": 0.99}
    if rng.integers(2):
        values = {name: usual[name] for name in names}
    else:
        values = {name: _any(rng) for name in names}
    return build.job(n=draw_size(rng, build.max_n, build.lanes), rule=rule, tag=int(rng.integers(256)), **values)


def _any(rng):
    """A finite float32; some are around 1, some 0."""
    kind = int(rng.integers(4))
    if kind == 0:
        return float(rng.choice([0.0, -0.0, 1.0, -1.0]))
    if kind < 3:
        return float(np.float32(rng.uniform(-2, 2)))
    sign, exponent, fraction = (int(rng.integers(count)) for count in (2, 255, 1 << 23))
    return float(np.uint32(sign << 31 | exponent << 23 | fraction).view(np.float32))
