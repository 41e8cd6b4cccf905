"""What the MoE linear engine reads: weights tile by tile, activations in words, the queue of pairs; and its results.

The weight stream has the experts that have tokens, ascending; of each, tiles of ``rows`` output rows: a header, then ``k_steps``
words. The header has 6 bytes a row, scale uint16 and bias int32, little-endian; a word has the ``lanes`` weights int8 of a step
for each row, row after row. The header is padded to whole beats, the words fill theirs. Rows beyond n and columns beyond k are 0.
"""

import numpy as np

from ..spec.moe_linear_job import BIAS_BITS, EXPERT_WORD, HEADER_BYTES, PAIR_WORD, SCALE_BITS
from .sparse_operands import check_array, check_range

__all__ = ["check_operands", "collect", "pack", "pack_activations", "pack_queue", "pack_weights", "unpack_weights"]

_SCALE = 0, (1 << SCALE_BITS) - 1
_BIAS = -(1 << BIAS_BITS - 1), (1 << BIAS_BITS - 1) - 1


def check_operands(job, operands):
    """ValueError unless the operands are what the job says: ``x`` int8 [x_rows, k], ``x_scale`` [x_rows], ``w`` int8
    [experts, n, k], ``w_scale`` and ``bias`` [experts, n]; with use_score ``score`` [pairs]. Scales and scores have 16 bits."""
    shapes = {"x": (job.x_rows, job.k), "x_scale": (job.x_rows,), "w": (job.experts, job.n, job.k),
              "w_scale": (job.experts, job.n), "bias": (job.experts, job.n)}
    if job.use_score:
        shapes["score"] = (job.pairs,)
    for name, shape in shapes.items():
        check_array(name, operands.get(name), "int8" if name in ("x", "w") else "integers", shape)
        if name not in ("x", "w"):
            check_range(name, np.asarray(operands[name]), *(_BIAS if name == "bias" else _SCALE))


def pack(build, job, operands):
    """(streams, buffers) of a job's operands (see :func:`check_operands`)."""
    check_operands(job, operands)
    words = pack_activations(build, job, operands["x"], operands["x_scale"])
    buffers = {f"act{t}": words for t in range(build.tokens)}
    if build.queues:
        buffers |= dict(zip(("queue", "expert"), pack_queue(job, operands.get("score")), strict=True))
    return {"w": pack_weights(build, job, operands)}, buffers


def pack_weights(build, job, operands):
    """uint8 [beats, beat_bytes] of ``w``, ``w_scale``, ``bias``."""
    steps, tiles, parts = build.steps(job), build.tiles(job), []
    header_bytes = build.header_beats * build.beat_bytes
    for expert in job.used:
        whole = np.zeros((tiles * build.rows, steps * build.lanes), np.int8)
        whole[: job.n, : job.k] = operands["w"][expert]
        words = whole.view(np.uint8).reshape(tiles, build.rows, steps, build.lanes).transpose(0, 2, 1, 3).reshape(tiles, -1)
        header = np.zeros((tiles * build.rows, HEADER_BYTES), np.uint8)
        for name, kind, at in (("w_scale", "<u2", 0), ("bias", "<i4", 2)):
            values = np.asarray(operands[name])[expert].astype(kind)
            header[: job.n, at : at + values.itemsize] = values.view(np.uint8).reshape(job.n, -1)
        headers = np.zeros((tiles, header_bytes), np.uint8)
        headers[:, : build.rows * HEADER_BYTES] = header.reshape(tiles, -1)
        parts.append(np.concatenate([headers, words], axis=1).reshape(-1, build.beat_bytes))
    return np.concatenate(parts)


def unpack_weights(build, job, beats):
    """``w``, ``w_scale``, ``bias`` that :func:`pack_weights` packed, 0 for experts without tokens; ValueError for bytes that it
    would not make."""
    beats = np.asarray(beats, np.uint8)
    if beats.shape != (build.beats("w", job), build.beat_bytes):
        raise ValueError(f"beats must be [{build.beats('w', job)}, {build.beat_bytes}], got {list(beats.shape)}")
    steps, tiles = build.steps(job), build.tiles(job)
    w = np.zeros((job.experts, job.n, job.k), np.int8)
    w_scale, bias = np.zeros((job.experts, job.n), np.int32), np.zeros((job.experts, job.n), np.int32)
    for expert, part in zip(job.used, beats.reshape(len(job.used), tiles, -1), strict=True):
        header = np.ascontiguousarray(part[:, : build.rows * HEADER_BYTES]).reshape(-1, HEADER_BYTES)[: job.n]
        w_scale[expert] = np.ascontiguousarray(header[:, :2]).view("<u2")[:, 0]
        bias[expert] = np.ascontiguousarray(header[:, 2:]).view("<i4")[:, 0]
        words = part[:, build.header_beats * build.beat_bytes :].reshape(tiles, steps, build.rows, build.lanes)
        whole = words.transpose(0, 2, 1, 3).reshape(tiles * build.rows, -1)
        w[expert] = whole[: job.n, : job.k].view(np.int8)
    operands = {"w": w, "w_scale": w_scale, "bias": bias}
    if not np.array_equal(pack_weights(build, job, operands), beats):
        raise ValueError("the stream holds bytes that no weights pack to")
    return operands


def pack_activations(build, job, x, x_scale):
    """uint8 [x_rows * k_steps, bytes]: word ``row * k_steps + step`` has ``lanes`` codes and the row's scale."""
    steps = build.steps(job)
    codes = np.zeros((job.x_rows, steps * build.lanes), np.int8)
    codes[:, : job.k] = x
    scales = np.repeat(np.asarray(x_scale).astype("<u2"), steps).view(np.uint8).reshape(-1, SCALE_BITS // 8)
    return np.concatenate([codes.view(np.uint8).reshape(-1, build.lanes), scales], axis=1)


def pack_queue(job, score=None):
    """(uint8 [pairs, bytes] of ``PAIR_WORD``, uint8 [experts with tokens, bytes] of ``EXPERT_WORD``); a word of 0 each without
    experts."""
    if not job.queued:
        return np.zeros((1, PAIR_WORD.bytes), np.uint8), np.zeros((1, EXPERT_WORD.bytes), np.uint8)
    scores = np.zeros(job.pairs, int) if score is None else score
    pairs = [{"token": token, "score": int(value), "first": int(first), "last": int(last)}
             for (token, first, last), value in zip(job.queue(), scores, strict=True)]
    experts = [{"expert": expert, "count": count, "last": int(expert == job.used[-1])}
               for expert, count in zip(job.used, job.counts, strict=True)]
    return tuple(np.frombuffer(b"".join(record.to_bytes(word) for word in words), np.uint8).reshape(len(words), -1)
                 for record, words in ((PAIR_WORD, pairs), (EXPERT_WORD, experts)))


def collect(build, job, y):
    """int32 [y_rows, n] from the decoded beats of ``o_y``, 0 for tokens without an expert; ValueError for a beat outside the job
    or results that came 0 or several times."""
    rows = y["row"][:, None] + np.arange(build.out_lanes)
    data, inside = y["data"].reshape(rows.shape), rows < job.n
    tokens = np.broadcast_to(y["token"][:, None], rows.shape)
    if len(rows) and (not inside[:, 0].all() or tokens.max() >= job.y_rows or data[~inside].any()):
        raise ValueError("o_y holds a beat outside the job, or padding that is not 0")
    want = np.ones((job.y_rows, 1), int)
    if job.use_score:
        want[:] = 0
        want[sorted({token for tokens in job.routes for token in tokens})] = 1
    seen = np.zeros((job.y_rows, job.n), int)
    np.add.at(seen, (tokens[inside], rows[inside]), 1)
    if (seen != want).any():
        raise ValueError(f"o_y must deliver each result once; {int((seen != want).sum())} of {seen.size} came 0 or several times")
    matrix = np.zeros((job.y_rows, job.n), np.int32)
    matrix[tokens[inside], rows[inside]] = data[inside]
    return matrix
