"""The weight update of training, from its definition: float32 operation by operation, each rounded once, in this order.

sgd: d = weight_decay * w; g1 = g + d; where a weight is pruned g1 = g1 + pruned_decay * w; v = momentum * mom; mom' = v + g1;
s = lr * mom'; w' = w + (-s).

lion: where a weight is pruned g = g + pruned_decay * w; c = beta1 * mom + c1 * g; d = weight_decay * w; u = sign(c) + d;
s = lr * u; w' = w + (-s); mom' = beta2 * mom + c2 * g, with c1 = 1 - beta1 and c2 = 1 - beta2 rounded to float32.
"""

import numpy as np

from .floats import add, bits, from_bits, multiply, negate, round_bf16, sign

__all__ = ["count_not_finite", "draw_operands", "results", "update"]

RULES = ("sgd", "lion")
_CORNERS = (0, 1 << 31, 1, 0x7FFFFF, 0x800000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0x7F800001, 0x3F800000)
"""Bits of zeros, the smallest and largest numbers of each kind, infinity, NaNs, 1."""


def update(w, g, mom, *, rule, lr, momentum=0.0, beta1=0.0, beta2=0.0, weight_decay=0.0, pruned_decay=0.0, keep=None):
    """(w', mom', copy): new weights and momentum, float32, and the weights' bfloat16 copy, all of ``w``'s shape.

    ``w`` weights, ``g`` gradient, ``mom`` momentum: float32 arrays of one shape. Hyperparameters are rounded to float32 first;
    ``momentum`` belongs to sgd, ``beta1`` and ``beta2`` to lion. ``keep``: bool array, false where a weight is pruned; None:
    nothing is decayed by ``pruned_decay``.
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, got {rule!r}")
    w, g, mom = np.asarray(w), np.asarray(g), np.asarray(mom)
    for name, array in (("g", g), ("mom", mom)):
        if array.shape != w.shape:
            raise ValueError(f"{name} must have the shape of w {list(w.shape)}, got {list(array.shape)}")
    if keep is not None:
        keep = np.asarray(keep)
        if keep.dtype != np.bool_:
            raise TypeError(f"keep must be bool, got {keep.dtype}")
        if keep.shape != w.shape:
            raise ValueError(f"keep must have the shape of w {list(w.shape)}, got {list(keep.shape)}")

    def decayed(gradient):
        if keep is None:
            return gradient
        return np.where(keep, gradient, add(gradient, multiply(np.float32(pruned_decay), w)))

    d = multiply(np.float32(weight_decay), w)
    if rule == "sgd":
        g1 = decayed(add(g, d))
        moved = add(multiply(np.float32(momentum), mom), g1)
        step = moved
    else:
        g = decayed(g)
        beta1, beta2, one = np.float32(beta1), np.float32(beta2), np.float32(1)
        c = add(multiply(beta1, mom), multiply(one - beta1, g))
        step = add(sign(c), d)
        moved = add(multiply(beta2, mom), multiply(one - beta2, g))
    new = add(w, negate(multiply(np.float32(lr), step)))
    return new, moved, round_bf16(new)


def count_not_finite(w):
    """How many of ``w`` are infinite or NaN: ``saturated`` of the engine."""
    return int(((bits(w) & 0x7F800000) == 0x7F800000).sum())


def results(build, job, operands):
    """What a correct engine delivers: ``weight``, ``momentum`` uint32 [n], ``copy`` uint16 [n], and ``saturated``, the number of
    new weights that are infinite or NaN."""
    new, moved, copy = update(
        operands["w"], operands["g"], operands["mom"], rule=job.rule, lr=job.lr, momentum=job.momentum, beta1=job.beta1,
        beta2=job.beta2, weight_decay=job.weight_decay, pruned_decay=job.pruned_decay, keep=operands.get("keep"))
    return {"weight": bits(new), "momentum": bits(moved), "copy": copy.view(np.uint16), "saturated": count_not_finite(new)}


def draw_operands(build, job, rng):
    """Random operands: numbers as in training, any bits, corners."""
    def draw(scale):
        kind = int(rng.integers(4))
        if kind == 0:
            return from_bits(rng.integers(0, 1 << 32, job.n, np.uint32))
        if kind == 1:
            return from_bits(rng.choice(np.array(_CORNERS, np.uint32), job.n) | rng.integers(0, 2, job.n, np.uint32) << 31)
        return (rng.standard_normal(job.n) * scale).astype(np.float32)

    operands = {"w": draw(0.1), "g": draw(0.01), "mom": draw(0.05)}
    return operands | ({"keep": rng.random(job.n) < 0.5} if build.pruned else {})
