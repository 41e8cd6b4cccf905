"""Operands to the bytes an engine consumes, and the bytes it produces to results: one entry a family."""

from dataclasses import dataclass
from importlib import import_module

import numpy as np

from . import attention_stream, moe_gate_stream, moe_linear_stream, sparse_stream, ternary_stream, vector_stream

__all__ = ["Image", "collect", "decode_beats", "pack"]


@dataclass(frozen=True)
class Image:
    """What a job needs at the engine's ports: ``streams`` uint8 [beats, bytes], ``buffers`` uint8 [words, bytes], by name."""

    streams: dict
    buffers: dict


def pack(build, job, operands):
    """The :class:`Image` of a job's operands, a dict of arrays.

    ternary_engine: ``x`` int8 [m, k], ``w`` int8 [n, k]. sparse_chain: ``x`` int8 [m, k], ``x_scale`` of 16 bits [m, x_groups],
    and what ``sparse_stream.pack_weights`` takes. attention: what ``attention_stream.pack`` takes.
    vector: what ``vector_stream.pack`` takes. moe_linear: what ``moe_linear_stream.check_operands`` wants. All others: what
    ``pack`` of their stream's module takes.
    """
    return _FAMILIES[build.name][0](build, job, operands)


def collect(build, job, outputs):
    """Results (dict of arrays; ternary_engine: ``y`` int32 [m, n], ``absmax`` int64 [m], ``squares`` object [m];
    sparse_chain: ``y`` int32 [m, n]; attention: ``y`` int32 [heads, queries, d]; vector: ``y`` int32 [m, k]) from result beats.

    ``outputs`` maps a stream's name to its beats, uint8 [beats, record bytes]. Raises ValueError for a beat outside the job.
    """
    return _FAMILIES[build.name][1](build, job, outputs)


def decode_beats(record, beats):
    """Every field of a stack of records: dict of int64 [beats] (or [beats, lanes]); object arrays for fields over 63 bits."""
    bits = np.unpackbits(np.asarray(beats, np.uint8).reshape(len(beats), record.bytes), axis=1, bitorder="little")
    values, offset = {}, 0
    for field in record.fields:
        part = bits[:, offset : offset + field.bits].reshape(-1, field.lanes, field.width)
        offset += field.bits
        kind = np.int64 if field.width <= 63 else object
        weights = np.array([1 << place for place in range(field.width)], kind)
        value = (part.astype(kind) * weights).sum(axis=2)
        if field.signed:
            value = np.where(part[..., -1], value - (1 << field.width), value)
        values[field.name] = value if field.lanes > 1 else value[:, 0]
    return values


def _pack_ternary(build, job, operands):
    return Image(streams={"w": ternary_stream.pack_weights(build, job, operands["w"])},
                 buffers={"act": ternary_stream.pack_activations(build, job, operands["x"])})


def _pack_sparse(build, job, operands):
    return Image(streams={"w": sparse_stream.pack_weights(build, job, operands)},
                 buffers={"act": sparse_stream.pack_activations(build, job, operands["x"], operands["x_scale"])})


def _matrix(build, job, outputs, lanes):
    """int32 [m, n] from the beats of ``o_y``, each with ``lanes`` consecutive rows of a token."""
    y = decode_beats(next(stream.record for stream in build.outputs if stream.name == "y"), outputs["y"])
    rows = y["row"][:, None] + np.arange(lanes)
    data = y["data"].reshape(rows.shape)
    inside = rows < job.n
    tokens = np.broadcast_to(y["token"][:, None], rows.shape)
    if len(rows) and (not inside[:, 0].all() or tokens.max() >= job.m or data[~inside].any()):
        raise ValueError("o_y holds a beat outside the job, or padding that is not 0")
    seen = np.zeros((job.m, job.n), np.int32)
    np.add.at(seen, (tokens[inside], rows[inside]), 1)
    if (seen != 1).any():
        raise ValueError(f"o_y must deliver each result once; {int((seen != 1).sum())} of {seen.size} came 0 or several times")
    matrix = np.zeros((job.m, job.n), np.int32)
    matrix[tokens[inside], rows[inside]] = data[inside]
    return matrix


def _collect_ternary(build, job, outputs):
    record = {stream.name: stream.record for stream in build.outputs}
    results = {"y": _matrix(build, job, outputs, build.result_lanes)}
    if "stat" in record and job.last:
        stat = decode_beats(record["stat"], outputs["stat"])
        if list(stat["token"]) != list(range(job.m)):
            raise ValueError(f"o_stat must deliver tokens 0..{job.m - 1} in order, got {list(stat['token'])[:8]}")
        results["absmax"], results["squares"] = stat["absmax"], stat["squares"]
    return results


def _collect_sparse(build, job, outputs):
    return {"y": _matrix(build, job, outputs, build.chains)}


def _pack_vector(build, job, operands):
    return Image(*vector_stream.pack(build, job, operands))


def _collect_vector(build, job, outputs):
    return vector_stream.collect(build, job, decode_beats(build.outputs[0].record, outputs["y"]))


def _pack_attention(build, job, operands):
    return Image(*attention_stream.pack(build, job, operands))


def _collect_attention(build, job, outputs):
    return {"y": attention_stream.collect(build, job, decode_beats(build.outputs[0].record, outputs["y"]))}


def _pack_moe_linear(build, job, operands):
    return Image(*moe_linear_stream.pack(build, job, operands))


def _collect_moe_linear(build, job, outputs):
    return {"y": moe_linear_stream.collect(build, job, decode_beats(build.outputs[0].record, outputs["y"]))}


def _pack_moe_gate(build, job, operands):
    return Image(*moe_gate_stream.pack(build, job, operands))


def _collect_moe_gate(build, job, outputs):
    return moe_gate_stream.collect(build, job, {s.name: decode_beats(s.record, outputs[s.name]) for s in build.outputs})


def _on_use(module, result):
    """pack and collect of a module with both, imported on use: what packs bfloat16 needs ml_dtypes, which the runtime on a board
    does without. ``result``: the output stream."""
    def stream():
        return import_module("." + module, __package__)
    return (lambda build, job, operands: Image(*stream().pack(build, job, operands)),
            lambda build, job, outputs: stream().collect(build, job, decode_beats(build.outputs[0].record, outputs[result])))


_FAMILIES = {"ternary_engine": (_pack_ternary, _collect_ternary), "sparse_chain": (_pack_sparse, _collect_sparse),
             "attention": (_pack_attention, _collect_attention), "vector": (_pack_vector, _collect_vector),
             "moe_linear": (_pack_moe_linear, _collect_moe_linear), "moe_gate": (_pack_moe_gate, _collect_moe_gate),
             "nm_load": _on_use("nm_load_stream", "w"), "nm_prune": _on_use("nm_prune_stream", "y"),
             "nm_train": _on_use("nm_train_stream", "y"), "nm_update": _on_use("nm_update_stream", "y")}
