"""What the N:M pruner reads, beat by beat, and what it delivers.

``w``: beats of ``values`` float32 for each of ``lanes`` columns, those of lane 0 first: for each tile of lanes * slots columns,
each group, each slot: the weights of the group, ceil(group / values) beats. Slots of a tile as in the training array: the last
tile has max(4, ceil(columns / lanes)). Weights beyond k are +0; what lies beyond a group or beyond n does not matter.

``y``: for each group of each slot nnz beats, each with its place in the operand ``b`` of the training array.
"""

import numpy as np

from .sparse_operands import check_array

__all__ = ["collect", "expand", "image", "pack", "pack_weights", "places"]


def pack(build, job, operands):
    """(streams, buffers) of ``w`` float32 [n, k]. Forward: rows are outputs, k the inputs; backward: the transposed matrix."""
    return {"w": pack_weights(build, job, operands["w"])}, {}


def pack_weights(build, job, w):
    """uint8 [beats, bytes] of ``w`` float32 [n, k]."""
    check_array("w", w, "float32", (job.n, job.k))
    groups, beats, lanes = build.groups(job), build.group_beats(job), build.lanes
    rows = np.zeros((build.all_slots(job) * lanes, groups * job.group), "<u4")
    rows[: job.n, : job.k] = np.ascontiguousarray(w).view(np.uint32)
    whole = np.zeros((len(rows), groups, beats * build.values), "<u4")
    whole[:, :, : job.group] = rows.reshape(len(rows), groups, job.group)
    parts, start = [], 0
    for slots in _slots(build, job):
        tile = whole[start : start + slots * lanes].reshape(slots, lanes, groups, beats, build.values)
        parts.append(tile.transpose(2, 0, 3, 1, 4).reshape(-1, lanes * build.values))
        start += slots * lanes
    return np.ascontiguousarray(np.concatenate(parts)).view(np.uint8)


def places(build, job):
    """int64 [beats]: the place in ``b`` of each beat of ``y``, in the order in which they come."""
    parts, start = [], 0
    for slots in _slots(build, job):
        image = np.arange(build.groups(job) * job.nnz * slots).reshape(-1, job.nnz, slots)
        parts.append(start + image.transpose(0, 2, 1).reshape(-1))
        start += image.size
    return np.concatenate(parts)


def image(build, job, values):
    """uint8 [places, bytes]: the operand ``b`` of the training array, once, from the decoded beats of ``o_y``."""
    codes, nibbles = np.zeros_like(values["value"]), np.zeros_like(values["index"])
    codes[values["place"]], nibbles[values["place"]] = values["value"], values["index"]
    packed = (nibbles[:, 0::2] | nibbles[:, 1::2] << 4).astype(np.uint8)
    return np.concatenate([np.ascontiguousarray(codes.astype("<u2")).view(np.uint8), packed], axis=1)


def collect(build, job, values):
    """``values`` uint16 and ``index`` uint8 [n, groups, nnz], ``keep`` uint16 [n, groups] from the decoded beats of ``o_y``.

    ValueError for a beat out of order, for columns beyond n that are not 0, for a beat whose ``keep`` is not what came so far.
    """
    if not np.array_equal(values["place"], places(build, job)):
        raise ValueError("o_y must deliver the groups in order, each beat with its place")
    found, beat = {name: [] for name in ("value", "index", "keep")}, 0
    for slots in _slots(build, job):
        count = build.groups(job) * slots * job.nnz
        for name, parts in found.items():
            tile = values[name][beat : beat + count].reshape(-1, slots, job.nnz, build.lanes)
            parts.append(tile.transpose(1, 3, 0, 2).reshape(slots * build.lanes, -1, job.nnz))
        beat += count
    value, index, keep = (np.concatenate(found[name]) for name in ("value", "index", "keep"))
    if any(array[job.n :].any() for array in (value, index, keep)):
        raise ValueError("o_y holds columns beyond n that are not 0")
    value, index, keep = (array[: job.n] for array in (value, index, keep))
    if not np.array_equal(keep, np.bitwise_or.accumulate(1 << index, axis=2)):
        raise ValueError("o_y's keep must tell the indices of the group so far")
    return {"values": value.astype(np.uint16), "index": index.astype(np.uint8), "keep": keep[:, :, -1].astype(np.uint16)}


def expand(build, job, results):
    """The beats of ``o_y``, its fields by name, that deliver ``results``: the inverse of :func:`collect`."""
    index = results["index"].astype(np.int64)
    found = {"value": results["values"].astype(np.int64), "index": index, "keep": np.bitwise_or.accumulate(1 << index, axis=2)}
    beats = {"place": places(build, job)}
    for name, array in found.items():
        whole = np.zeros((build.all_slots(job) * build.lanes, *array.shape[1:]), np.int64)
        whole[: job.n] = array
        parts, start = [], 0
        for slots in _slots(build, job):
            tile = whole[start : start + slots * build.lanes].reshape(slots, build.lanes, -1, job.nnz)
            parts.append(tile.transpose(2, 0, 3, 1).reshape(-1, build.lanes))
            start += slots * build.lanes
        beats[name] = np.concatenate(parts)
    return beats


def _slots(build, job):
    """Slots of each tile."""
    return [build.slots] * (build.tiles(job) - 1) + [build.last_slots(job)]
