"""Golden results as the beats of result streams, in the order in which an engine delivers them: one entry a family."""

import numpy as np

from ..models.formats import nm_prune_stream
from ..models.formats.engines import collect
from ..models.formats.nm_load_stream import expand

__all__ = ["deliver"]


def deliver(build, job, expected):
    """Golden results as the beats of each result stream, in the order in which the engine delivers them."""
    outputs = _FAMILIES[build.name](build, job, expected)
    for name, value in collect(build, job, outputs).items():
        if not np.array_equal(value, expected[name]):
            raise RuntimeError(f"the beats of {name} do not read back")
    return outputs


def _records(record, rows):
    return np.array([list(record.to_bytes(row)) for row in rows], np.uint8).reshape(len(rows), record.bytes)


def _deliver_ternary(build, job, expected):
    record = {stream.name: stream.record for stream in build.outputs}
    groups, tokens = range(build.groups(job)), range(job.m)
    order = [(g, t) for g in groups for t in tokens] if build.datapath == "tree" else [(g, t) for t in tokens for g in groups]
    padded = np.zeros((job.m, len(groups) * build.rows), np.int64)
    padded[:, :job.n] = expected["y"]
    beats = []
    for group, token in order:
        for row in range(group * build.rows, min((group + 1) * build.rows, job.n), build.result_lanes):
            data = padded[token, row:row + build.result_lanes].tolist()
            beats.append({"row": row, "token": token, "data": data if build.result_lanes > 1 else data[0]})
    outputs = {"y": _records(record["y"], beats)}
    if "stat" in record:
        stat = [{"token": token, "absmax": int(expected["absmax"][token]), "squares": int(expected["squares"][token])}
                for token in tokens if job.last]
        outputs["stat"] = _records(record["stat"], stat)
    return outputs


def _deliver_sparse(build, job, expected):
    record, = (stream.record for stream in build.outputs)
    padded = np.zeros((job.m, build.tiles(job) * build.chains), np.int64)
    padded[:, :job.n] = expected["y"]
    beats = []
    for row in range(0, job.n, build.chains):
        for token in range(job.m):
            data = padded[token, row:row + build.chains].tolist()
            beats.append({"row": row, "token": token, "data": data if build.chains > 1 else data[0]})
    return {"y": _records(record, beats)}


def _deliver_attention(build, job, expected):
    record, = (stream.record for stream in build.outputs)
    chunks = build.chunks(job)
    padded = np.zeros((job.heads, job.queries, chunks * build.d_lanes), np.int64)
    padded[..., :job.d] = expected["y"]
    return {"y": _records(record, [
        {"query": query, "head": head, "chunk": chunk,
         "data": padded[head, query, chunk * build.d_lanes:(chunk + 1) * build.d_lanes].tolist()}
        for head in range(job.heads) for query in range(job.queries) for chunk in range(chunks)])}


def _deliver_vector(build, job, expected):
    record, = (stream.record for stream in build.outputs)
    beats, lanes = build.beats_of(job), build.lanes
    padded = np.zeros((job.m, beats * lanes), np.int64)
    padded[:, :job.k] = expected["y"]
    rows = padded.reshape(job.m, beats, lanes).tolist()
    return {"y": _records(record, [{"row": row, "beat": beat, "data": data if lanes > 1 else data[0]}
                                   for row in range(job.m) for beat, data in enumerate(rows[row])])}


def _deliver_moe_linear(build, job, expected):
    record, = (stream.record for stream in build.outputs)
    padded = np.zeros((job.y_rows, build.tiles(job) * build.rows), np.int64)
    padded[:, :job.n] = expected["y"]
    beats, queue, start = [], job.queue(), 0
    for count in job.counts:
        places = range(start, start + count)
        start += count
        # A token with scores leaves with its last expert.
        rows = [queue[place][0] for place in places if queue[place][2]] if job.use_score else list(places)
        for row in range(0, job.n, build.rows):
            for token in rows:
                for first in range(row, min(row + build.rows, job.n), build.out_lanes):
                    data = padded[token, first:first + build.out_lanes].tolist()
                    beats.append({"row": first, "token": token, "data": data if build.out_lanes > 1 else data[0]})
    return {"y": _records(record, beats)}


def _deliver_moe_gate(build, job, expected):
    records = {stream.name: stream.record for stream in build.outputs}
    names = [field.name for field in records["pair"].fields]
    pairs = zip(*(expected[name].tolist() for name in names), strict=True)
    queue = [dict(zip(("expert", "count", "last"), row, strict=True)) for row in expected["queue"].tolist()]
    return {"pair": _records(records["pair"], [dict(zip(names, pair, strict=True)) for pair in pairs]),
            "expert": _records(records["expert"], queue)}


def _deliver_nm_load(build, job, expected):
    record, = (stream.record for stream in build.outputs)
    return {"w": _records(record, [{"data": beat} for beat in expand(build, job, expected["w"]).tolist()])}


def _deliver_nm_prune(build, job, expected):
    record, = (stream.record for stream in build.outputs)
    beats = {name: array.tolist() for name, array in nm_prune_stream.expand(build, job, expected).items()}
    return {"y": _records(record, [dict(zip(beats, beat, strict=True)) for beat in zip(*beats.values(), strict=True)])}


def _deliver_nm_train(build, job, expected):
    record, = (stream.record for stream in build.outputs)
    padded = np.zeros((job.m, build.tile_columns * len(build.column_tiles(job))), np.int64)
    padded[:, :job.n] = expected["y"]
    beats, column = [], 0
    for _, valid in build.column_tiles(job):
        for row in range(job.m):
            beats += [{"row": row, "column": first, "data": padded[row, first:first + build.cols].tolist()}
                      for first in range(column, column + valid * build.cols, build.cols)]
        column += build.tile_columns
    return {"y": _records(record, beats)}


def _deliver_nm_update(build, job, expected):
    record, = (stream.record for stream in build.outputs)
    names, beats = ("weight", "momentum", "copy"), []
    for first in range(0, job.n, build.lanes):
        beat = {"index": first}
        for name in names:
            lanes = expected[name][first:first + build.lanes].tolist()
            lanes += [0] * (build.lanes - len(lanes))
            beat[name] = lanes if build.lanes > 1 else lanes[0]
        beats.append(beat)
    return {"y": _records(record, beats)}


_FAMILIES = {"ternary_engine": _deliver_ternary, "sparse_chain": _deliver_sparse, "attention": _deliver_attention,
             "vector": _deliver_vector, "moe_linear": _deliver_moe_linear, "moe_gate": _deliver_moe_gate,
             "nm_load": _deliver_nm_load, "nm_prune": _deliver_nm_prune, "nm_train": _deliver_nm_train,
             "nm_update": _deliver_nm_update}
