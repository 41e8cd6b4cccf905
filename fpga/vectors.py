"""Golden vectors of an engine: random jobs, their operands as the engine takes them, their results as it must deliver them."""

from dataclasses import dataclass

import numpy as np

from ..models.formats.engines import Image, collect, pack
from ..models.golden.engines import draw_operands, results
from ..models.spec.engine import Job, Status

__all__ = ["Vector", "deliver", "draw_vectors"]

MAX_BEATS = 2000
"""Longest stream of a vector: a bench in Python moves a few thousand beats a second."""
MAX_CYCLES = 10_000
"""Longest job of a vector: a bench in Python simulates a few thousand cycles a second."""

_MAX_DRAWS = 10_000


@dataclass(frozen=True)
class Vector:
    """``operands``, ``results``: arrays by name. ``image``: the bytes that go in; ``outputs``: uint8 [beats, record bytes] that
    come out, by stream. ``done``: what the completion record must say."""

    job: Job
    operands: dict
    results: dict
    image: Image
    outputs: dict
    done: dict


def draw_vectors(build, count, seed):
    """``count`` random legal jobs with short streams, each with its golden results; ValueError if the build has too few such."""
    rng, vectors = np.random.default_rng(seed), []
    for _ in range(_MAX_DRAWS):
        if len(vectors) == count:
            return vectors
        job = build.draw_job(rng)
        beats = max(build.beats(stream.name, job) for stream in build.inputs + build.outputs)
        if beats <= MAX_BEATS and build.cycles(job) <= MAX_CYCLES:
            vectors.append(_vector(build, job, rng))
    raise ValueError(f"jobs must have at most {MAX_BEATS} beats a stream and {MAX_CYCLES} cycles, and {_MAX_DRAWS} draws found "
                     f"{len(vectors)} such")


def _vector(build, job, rng):
    operands = draw_operands(build, job, rng)
    expected = results(build, job, operands)
    outputs = deliver(build, job, expected)
    done = {"tag": job.tag, "status": int(Status.OK), "saturated": expected["saturated"]}
    return Vector(job, operands, expected, pack(build, job, operands), outputs, done)


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


_FAMILIES = {"ternary_engine": _deliver_ternary, "sparse_chain": _deliver_sparse}
