"""Jobs of the weight update engine: how many weights, which rule, its hyperparameters."""

import math
from dataclasses import dataclass, replace

import numpy as np

from .engine import Job
from .errors import check_choice, check_int

__all__ = ["FACTORS", "RULES", "NmUpdateJob", "check_job", "factors"]

RULES = ("sgd", "lion")

FACTORS = {
    "lr": (False, False), "weight_decay": (False, False), "pruned_decay": (False, True), "old": (False, False),
    "fresh": (True, False), "old_2": (True, False), "fresh_2": (True, False),
}
"""What a lane multiplies by: (only in builds with ``lion``, only in builds with ``pruned``). ``old`` and ``fresh`` weigh momentum
and gradient in the step, ``old_2`` and ``fresh_2`` in Lion's new momentum."""

_OF_RULE = {"momentum": "sgd", "beta1": "lion", "beta2": "lion"}


@dataclass(frozen=True, kw_only=True)
class NmUpdateJob(Job):
    """Update ``n`` weights. Hyperparameters are rounded to float32; every operation is, in this order.

    sgd: g1 = g + weight_decay * w; where a weight is pruned g1 = g1 + pruned_decay * w; mom' = momentum * mom + g1;
    w' = w + (-(lr * mom')). lion: where a weight is pruned g = g + pruned_decay * w; c = beta1 * mom + (1 - beta1) * g;
    u = sign(c) + weight_decay * w; w' = w + (-(lr * u)); mom' = beta2 * mom + (1 - beta2) * g.
    """

    n: int
    rule: str = "sgd"
    lr: float = 0.0
    momentum: float = 0.0
    beta1: float = 0.0
    beta2: float = 0.0
    weight_decay: float = 0.0
    pruned_decay: float = 0.0


def check_job(build, shape):
    """A legal job of ``build``; TypeError or ValueError names the field."""
    job = NmUpdateJob.of(shape)
    job = replace(job, tag=check_int("tag", job.tag, 0, 255), n=check_int("n", job.n, 1, build.max_n))
    check_choice("rule", job.rule, RULES if build.lion else RULES[:1])
    for name in ("first", "last"):
        if not isinstance(getattr(job, name), bool):
            raise TypeError(f"{name} must be true or false, got {getattr(job, name)!r}")
    names = ("lr", "momentum", "beta1", "beta2", "weight_decay", "pruned_decay")
    job = replace(job, **{name: _float32(name, getattr(job, name)) for name in names})
    for name, rule in _OF_RULE.items():
        if rule != job.rule and getattr(job, name):
            raise ValueError(f"{name} must be 0 for {job.rule}, got {getattr(job, name)}")
    if job.pruned_decay and not build.pruned:
        raise ValueError(f"pruned_decay must be 0 in a build without pruned, got {job.pruned_decay}")
    return job


def factors(job):
    """Bits of the float32 that gates multiply by, by the names of :data:`FACTORS`."""
    one = np.float32(1)
    values = {"lr": job.lr, "weight_decay": job.weight_decay, "pruned_decay": job.pruned_decay}
    if job.rule == "sgd":
        # SGD takes the gradient as it is: times 1.
        values |= {"old": job.momentum, "fresh": one, "old_2": 0, "fresh_2": 0}
    else:
        values |= {"old": job.beta1, "fresh": one - np.float32(job.beta1),
                   "old_2": job.beta2, "fresh_2": one - np.float32(job.beta2)}
    return {name: int(np.float32(value).view(np.uint32)) for name, value in values.items()}


def _float32(name, value):
    """``value`` rounded to float32, as a Python float."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        raise TypeError(f"{name} must be a number, got {value!r}")
    with np.errstate(over="ignore"):
        rounded = float(np.float32(value))
    if not math.isfinite(rounded):
        raise ValueError(f"{name} must be finite as float32, got {value}")
    return rounded
