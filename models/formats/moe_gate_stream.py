"""Logits of the MoE gate as words of its buffer, its pairs and its list of experts as arrays.

A word of the buffer is an int32 logit: tasks, in each the tokens, in each the experts.
"""

import numpy as np

from .sparse_operands import check_array

__all__ = ["collect", "pack"]


def pack(build, job, operands):
    """(streams, buffers) of ``logits`` int32 [tasks, m, experts], of all tasks up to the job's."""
    logits = operands["logits"]
    check_array("logits", logits, "int32", (job.task + 1, job.m, job.experts))
    return {}, {"logit": np.ascontiguousarray(logits.astype("<i4")).reshape(-1, 1).view(np.uint8)}


def collect(build, job, beats):
    """The pairs' fields int64 [m * top_k] by name and ``queue`` int64 [experts, 3] (expert, count, last) from decoded beats."""
    pairs = {name: np.asarray(beats["pair"][name], np.int64) for name in ("expert", "token", "score", "first", "last", "null")}
    queue = np.stack([np.asarray(beats["expert"][name], np.int64) for name in ("expert", "count", "last")], axis=1)
    return pairs | {"queue": queue.reshape(-1, 3)}
