"""Operands of the attention engine as beats: keys and values in the order of the schedule, queries as words of their buffer.

A beat holds ``d_lanes`` elements and the scale of the vector that they belong to; a vector takes ceil(d / d_lanes) beats,
elements beyond d are 0. Keys and values come once for each group of ``p`` queries: heads, in each the groups, in each the keys
that any query of the group sees, ascending. Query heads that share keys and values get them again.
"""

import numpy as np

from ..spec.attention_cycles import lists
from .sparse_operands import check_array, check_range

__all__ = ["collect", "pack"]


def pack(build, job, operands):
    """(streams, buffers) of ``q`` [heads, queries, d], ``k`` and ``v`` [kv_heads, keys, d], int8 or int16, and their scales
    of 16 bits ``q_scale`` [heads, queries], ``k_scale`` and ``v_scale`` [kv_heads, keys]. ValueError for another shape, kind or
    range."""
    shapes = {"q": (job.heads, job.queries), "k": (job.kv_heads, job.keys), "v": (job.kv_heads, job.keys)}
    words = {name: _vectors(build, job, name, operands, shape) for name, shape in shapes.items()}
    chosen = lists(build, job)
    order = np.concatenate([np.arange(part.start, part.stop) for parts in chosen for part in parts])
    streams = {name: np.concatenate([words[name][head // (job.heads // job.kv_heads)][order] for head in range(job.heads)])
               for name in "kv"}
    size = build.beat_record.bytes
    buffers = {"q": words["q"].reshape(-1, size)} | ({"blocks": _listed(build, job)} if build.block_sparse else {})
    return {name: beats.reshape(-1, size) for name, beats in streams.items()}, buffers


def _listed(build, job):
    """Words of the list of blocks, uint8 [words, bytes]; one of zeros where there is none."""
    record = build.block_record
    words = [{"index": index, "last": int(index == chosen[-1])} for chosen in job.blocks or () for index in chosen]
    rows = [np.frombuffer(record.to_bytes(word), np.uint8) for word in words or [{"index": 0, "last": 0}]]
    return np.stack(rows)


def _vectors(build, job, name, operands, shape):
    """uint8 [*shape, chunks, bytes] of the named vectors."""
    values, scale = operands[name], np.asarray(operands[f"{name}_scale"])
    check_array(name, values, f"int{build.bits}", (*shape, job.d))
    check_array(f"{name}_scale", scale, "integers", shape)
    check_range(f"{name}_scale", scale, 0, (1 << 16) - 1)
    chunks, lanes = build.chunks(job), build.d_lanes
    padded = np.zeros((*shape, chunks * lanes), values.dtype.newbyteorder("<"))
    padded[..., : job.d] = values
    scales = np.broadcast_to(scale.astype("<u2")[..., None, None], (*shape, chunks, 1))
    parts = [padded.reshape(*shape, chunks, lanes).view(np.uint8), np.ascontiguousarray(scales).view(np.uint8)]
    return np.concatenate(parts, axis=-1)


def collect(build, job, y):
    """int32 [heads, queries, d] from the decoded beats of ``o_y``, int64 arrays by field; ValueError for another order."""
    chunks = build.chunks(job)
    want = np.stack(np.meshgrid(np.arange(job.heads), np.arange(job.queries), np.arange(chunks), indexing="ij"), axis=-1)
    have = np.stack([y["head"], y["query"], y["chunk"]], axis=-1)
    if have.shape != (want.size // 3, 3) or (have != want.reshape(-1, 3)).any():
        raise ValueError("o_y must deliver heads, in each the queries, in each the chunks")
    rows = y["data"].reshape(job.heads, job.queries, chunks * build.d_lanes)
    if rows[..., job.d :].any():
        raise ValueError("o_y holds padding that is not 0")
    return rows[..., : job.d].astype(np.int32)
