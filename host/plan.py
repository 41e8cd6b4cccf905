"""A model laid out on an engine: tiles, jobs, buffers, predicted cycles and bytes; with packed weights, a program."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field

import numpy as np

from ..models.spec.engine import EngineSpec, Job
from ..models.spec.errors import check_int
from .families import family_of

__all__ = ["LayerPlan", "Plan", "Step", "Tile", "build_digest"]

MAX_SIZE = 1 << 31
_DIGEST_DIGITS = 16


def build_digest(build):
    """Hexadecimal digest of an engine build: every parameter counts, so a plan made for another build is told apart."""
    text = json.dumps({"engine": build.name, "build": asdict(build)}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_DIGITS]


@dataclass(frozen=True)
class LayerPlan:
    """A layer y[m, n] = scale * x[m, k] . W[n, k], of which the engine computes the integers x . W.

    ``form``: what its jobs say beside shapes, as its family has it.
    """

    name: str
    n: int
    k: int
    scale: float = 1.0
    form: dict = field(default_factory=dict)

    def __post_init__(self):
        check_int("n", self.n, 1, MAX_SIZE)
        check_int("k", self.k, 1, MAX_SIZE)
        if not np.isfinite(self.scale):
            raise ValueError(f"scale must be finite, got {self.scale}")
        if not isinstance(self.form, dict):
            raise TypeError(f"form must be a dict, got {self.form!r}")


@dataclass(frozen=True)
class Tile:
    """The part of a layer's matrix that one job takes: ``rows`` and ``columns`` are slices; ``name`` is its own in the plan.

    ``operand`` and ``result`` name the buffers that it uses: operands are shared by the tiles of the same columns.
    """

    name: str
    rows: slice
    columns: slice
    operand: str
    result: str

    @property
    def n(self):
        return self.rows.stop - self.rows.start

    @property
    def k(self):
        return self.columns.stop - self.columns.start


@dataclass(frozen=True)
class Step:
    """A job and the names of what it works on: stored weights, a written operand, and the place of its result."""

    job: Job
    stored: str
    operand: str
    result: str


@dataclass(frozen=True, eq=False)
class Plan:
    """``layers`` (:class:`LayerPlan` by name) on ``build``. Tiles follow from the build's maxima; the host sums those that share
    rows, in int32. ``stored``: packed weights, uint8 by the tile's name, and layers' vectors, by ``layer/vector``; empty until
    packed. ``source``: its name in messages.
    """

    build: EngineSpec
    layers: dict
    stored: dict = field(default_factory=dict)
    source: str = "plan"

    @property
    def digest(self):
        """Digest of the build that the plan is for."""
        return build_digest(self.build)

    def grid(self, name):
        """``(tiles along n, tiles along k)`` of a layer."""
        n, k, _ = family_of(self.build).most(self.build)
        return -(-self.layers[name].n // n), -(-self.layers[name].k // k)

    def tiles(self, name):
        """The tiles that cover a layer's matrix once, row after row."""
        layer = self.layers[name]
        n, k, _ = family_of(self.build).most(self.build)
        down, across = self.grid(name)
        return [Tile(f"{name}/{i}.{j}", slice(i * n, min(layer.n, (i + 1) * n)), slice(j * k, min(layer.k, (j + 1) * k)),
                     f"x.{j}", f"y.{i}.{j}") for i in range(down) for j in range(across)]

    def job(self, name, tile, m):
        """The job of a tile on ``m`` tokens."""
        return family_of(self.build).job(self.build, self.layers[name], tile.n, tile.k, m)

    def vectors(self, name):
        """A layer's vectors, from what is stored."""
        return {vector: self.stored[f"{name}/{vector}"] for vector in family_of(self.build).vectors(self.layers[name])}

    def rounds(self, name, m):
        """How a layer runs on ``m`` tokens: ``(tokens, [(tile, step)...])`` for each slice of tokens that one job takes."""
        check_int("m", m, 1, MAX_SIZE)
        tiles, most = self.tiles(name), family_of(self.build).most(self.build)[2]
        for first in range(0, m, most):
            tokens = slice(first, min(m, first + most))
            yield tokens, [(tile, Step(self.job(name, tile, tokens.stop - first), tile.name, tile.operand, tile.result))
                           for tile in tiles]

    def jobs(self, name, m):
        """Every job of a layer on ``m`` tokens, in the order in which they run."""
        return [step.job for _, steps in self.rounds(name, m) for _, step in steps]

    def cycles(self, name, m):
        """Predicted cycles of a layer on ``m`` tokens: the closed form, summed over its jobs."""
        return sum(self.build.cycles(job) for job in self.jobs(name, m))

    def beats(self, name, m):
        """Beats by stream of the engine, operands and results, of a layer on ``m`` tokens."""
        jobs = self.jobs(name, m)
        return {stream.name: sum(self.build.beats(stream.name, job) for job in jobs) for stream in self._streams()}

    def nbytes(self, name, m):
        """Bytes by stream, as :meth:`beats`."""
        beats = self.beats(name, m)
        return {stream.name: beats[stream.name] * stream.record.bytes for stream in self._streams()}

    def buffers(self):
        """Bytes of each host buffer, by name; all layers use the same ones in turn."""
        most, sizes = family_of(self.build).most(self.build)[2], Counter()
        for name in self.layers:
            for tile in self.tiles(name):
                sizes[tile.operand] = max(sizes[tile.operand], most * tile.k)
                sizes[tile.result] = max(sizes[tile.result], most * tile.n * np.dtype(np.int32).itemsize)
        return dict(sizes)

    def _streams(self):
        return (*self.build.inputs, *self.build.outputs)
