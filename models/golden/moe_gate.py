"""The MoE gate from its definition: softmax over the experts, the best for each token, the pairs sorted by expert."""

import numpy as np

from ..spec.moe_gate import T_BITS
from .functions import exp2_neg, reciprocal
from .rounding import round_half_even

__all__ = ["convert", "draw_operands", "gate", "results"]


def convert(job, logits):
    """(t, how many were clamped): int32 logits in log2 units with 10 fraction bits."""
    t = round_half_even(np.asarray(logits, np.int64) * job.multiplier, job.shift)
    limited = np.clip(t, -(1 << (T_BITS - 1)), (1 << (T_BITS - 1)) - 1)
    return limited, int((limited != t).sum())


def gate(job, logits):
    """(chosen experts [m, top_k] best first, their scores, number of logits clamped) of int32 logits [m, experts]."""
    logits = np.asarray(logits, np.int64)
    t, clamped = convert(job, logits)
    # A stable sort keeps the lower number first among equals.
    chosen = np.argsort(-logits, axis=1, kind="stable")[:, : job.top_k]
    real, own = chosen < job.experts - job.nulls, np.take_along_axis(t, chosen, axis=1)
    if job.renormalise:
        # Null experts far above must not push the others out of the exponential's reach.
        top = np.where(real, own, own.min(axis=1, keepdims=True)).max(axis=1, keepdims=True)
        mine = exp2_neg(np.maximum(top - own, 0)) * real
        total = mine.sum(axis=1)
    else:
        top = t.max(axis=1, keepdims=True)
        mine, total = exp2_neg(top - own), exp2_neg(top - t).sum(axis=1)
    mantissa, shift = reciprocal(total)
    scores = round_half_even(mine * mantissa[:, None], np.maximum(shift - 15, 0)[:, None])
    return chosen, scores * real, clamped


def results(build, job, operands):
    """``expert``, ``token``, ``score``, ``first``, ``last``, ``null`` int64 [m * top_k] of the pairs in order; ``queue`` int64
    [experts, 3] of expert, count, last."""
    chosen, scores, clamped = gate(job, operands["logits"][job.task])
    real = job.experts - job.nulls
    pairs = sorted((int(expert), token, int(scores[token, rank]))
                   for token in range(job.m) for rank, expert in enumerate(chosen[token]))
    mine = [[int(expert) for expert in row if expert < real] for row in chosen]
    rows = [(expert, token, score, int(expert < real and expert == min(mine[token])),
             int(expert < real and expert == max(mine[token])), int(expert >= real)) for expert, token, score in pairs]
    counts = [(expert, sum(row[0] == expert for row in rows)) for expert in range(real)]
    used = [pair for pair in counts if pair[1]]
    queue = np.zeros((job.experts, 3), np.int64)
    for at, (expert, count) in enumerate(used):
        queue[at] = expert, count, at == len(used) - 1
    columns = np.array(rows, np.int64).T
    return dict(zip(("expert", "token", "score", "first", "last", "null"), columns, strict=True)) | {
        "queue": queue, "saturated": clamped}


def draw_operands(build, job, rng):
    """Logits int32 [tasks, m, experts] of all tasks up to the job's: many ties, wide spreads, all equal, corners."""
    shape = (job.task + 1, job.m, job.experts)
    kind = int(rng.integers(4))
    if kind == 0:
        logits = rng.integers(-2, 3, shape)
    elif kind == 1:
        logits = np.full(shape, int(rng.integers(-(1 << 31), 1 << 31)))
    else:
        spread = 1 << int(rng.integers(1, 31))
        logits = rng.integers(-spread, spread, shape)
    if kind == 3:
        corner = rng.choice([-(1 << 31), (1 << 31) - 1], shape)
        logits = np.where(rng.random(shape) < 0.3, corner, logits)
    return {"logits": logits.astype(np.int32)}
