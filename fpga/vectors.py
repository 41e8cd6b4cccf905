"""Golden vectors of an engine: random jobs, their operands as the engine takes them, their results as it must deliver them."""

from dataclasses import dataclass

import numpy as np

from ..models.formats.engines import Image, pack
from ..models.golden.engines import draw_operands, results
from ..models.spec.engine import Job, Status
from .deliver import deliver

__all__ = ["Vector", "draw_vectors"]

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
