"""Operands and results of the vector engine."""

import numpy as np

from .sparse_operands import check_array, check_range, padded

__all__ = ["collect", "pack", "pack_rows", "pack_weights"]


def pack(build, job, operands):
    """(streams, buffers) of ``x`` int32 [m, k] and, for builds that are ``weighted``, ``beta`` and (norms) ``gamma`` [k]."""
    words = {"weight": pack_weights(build, job, operands["beta"], operands.get("gamma"))} if build.weighted else {}
    return {"x": pack_rows(build, job, operands["x"])}, words


def pack_rows(build, job, x):
    """uint8 [beats, bytes] of ``x`` int32 [m, k]: row by row, the last beat of each padded with 0."""
    check_array("x", x, "int32", (job.m, job.k))
    wide = padded(x, job.m, build.beats_of(job) * build.lanes).astype("<i4")
    return np.ascontiguousarray(wide).view(np.uint8).reshape(-1, 4 * build.lanes)


def pack_weights(build, job, beta, gamma=None):
    """Words of the buffer, uint8 [beats of a row, bytes]: ``beta`` int32 [k], then ``gamma`` int16 range [k] (norms)."""
    parts = []
    for name, values, bits, kind in (("beta", beta, 32, "<i4"), ("gamma", gamma, 16, "<i2")):
        if values is None:
            continue
        values = np.asarray(values)
        check_array(name, values, "integers", (job.k,))
        check_range(name, values, -(1 << bits - 1), (1 << bits - 1) - 1)
        wide = padded(values[None].astype(kind), 1, build.beats_of(job) * build.lanes)
        parts.append(np.ascontiguousarray(wide).view(np.uint8).reshape(build.beats_of(job), -1))
    return np.concatenate(parts, axis=1)


def collect(build, job, values):
    """``y`` int32 [m, k] from the decoded beats of ``o_y``; ValueError for a beat out of order, or padding that is not 0."""
    beats, lanes = build.beats_of(job), build.lanes
    order = np.arange(job.m * beats)
    if not (np.array_equal(values["row"], order // beats) and np.array_equal(values["beat"], order % beats)):
        raise ValueError("o_y must deliver the rows in order, in each the beats in order")
    wide = values["data"].reshape(job.m, beats * lanes)
    if wide[:, job.k :].any():
        raise ValueError("o_y holds padding that is not 0")
    return {"y": wide[:, : job.k].astype(np.int32)}
