"""What the weight update engine reads, beat by beat, and its results.

Beats of ``w``, ``g`` and ``mom`` are ``lanes`` float32, little-endian, in the order of the weights, 0 beyond the last one. In
builds with ``pruned`` a beat of ``w`` ends with a bit for each lane, in whole bytes: 1, the weight is kept.
"""

import numpy as np

__all__ = ["collect", "pack", "pack_keep", "pack_values"]


def pack(build, job, operands):
    """(streams, buffers) of ``w``, ``g``, ``mom`` float32 [n] and, in builds with ``pruned``, ``keep`` bool [n]."""
    streams = {name: pack_values(build, job, name, operands[name]) for name in ("w", "g", "mom")}
    if build.pruned:
        streams["w"] = np.concatenate([streams["w"], pack_keep(build, job, operands["keep"])], axis=1)
    return streams, {}


def pack_values(build, job, name, values):
    """uint8 [beats, 4 * lanes] of ``values`` float32 [n]."""
    _check(name, values, np.float32, job.n)
    whole = np.zeros((build.beats("w", job), build.lanes), "<u4")
    whole.reshape(-1)[: job.n] = np.ascontiguousarray(values).view(np.uint32)
    return whole.view(np.uint8)


def pack_keep(build, job, keep):
    """uint8 [beats, bytes] of ``keep`` bool [n], lane 0 in the lowest bit."""
    _check("keep", keep, np.bool_, job.n)
    whole = np.zeros((build.beats("w", job), build.lanes), np.bool_)
    whole.reshape(-1)[: job.n] = keep
    return np.packbits(whole, axis=1, bitorder="little")


def collect(build, job, y):
    """``weight`` and ``momentum`` uint32 [n], bits of float32, and ``copy`` uint16 [n], of bfloat16, from the decoded beats of
    ``o_y``; ValueError for beats out of order or padding that is not 0."""
    beats = build.beats("y", job)
    if y["index"].tolist() != list(range(0, beats * build.lanes, build.lanes)):
        raise ValueError(f"o_y must deliver weights in order, got indices {y['index'].tolist()[:8]}")
    results = {}
    for name, kind in (("weight", np.uint32), ("momentum", np.uint32), ("copy", np.uint16)):
        values = np.asarray(y[name]).reshape(-1)
        if values[job.n :].any():
            raise ValueError(f"{name} beyond the last weight must be 0")
        results[name] = values[: job.n].astype(kind)
    return results


def _check(name, array, kind, n):
    if not isinstance(array, np.ndarray) or array.dtype != kind or array.shape != (n,):
        raise ValueError(f"{name} must be {np.dtype(kind)} [{n}], got {getattr(array, 'dtype', type(array).__name__)} "
                         f"{list(getattr(array, 'shape', ()))}")
