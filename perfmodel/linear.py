"""Matrix products on the machine of a preset: cycles by the engine's closed form, time by clock and bandwidth, the longer."""

from collections import Counter
from dataclasses import dataclass

from ..models.spec.presets import Preset
from ..models.spec.sparse_chain import SparseChain
from ..models.spec.sparse_job import SparseJob

__all__ = ["Product", "linear_layers", "product"]


@dataclass(frozen=True)
class Product:
    """A matrix product that the engines of ``preset`` share: ``shares`` are (number of engines, job of each)."""

    preset: Preset
    build: SparseChain
    shares: tuple[tuple[int, SparseJob], ...]

    @property
    def job(self):
        """The share with the most cycles."""
        return max((job for _, job in self.shares), key=self.build.cycles)

    @property
    def cycles(self):
        """Until the last engine is done: all begin together, and no stream ever refuses."""
        return self.build.cycles(self.job)

    @property
    def stream_bytes(self):
        """Of all engines."""
        return self.build.beat_bytes * sum(engines * self.build.beats("w", job) for engines, job in self.shares)

    @property
    def engine_seconds(self):
        """By the cycles."""
        return self.cycles / self.preset.clock.value

    @property
    def memory_seconds(self):
        """By the bytes, at peak bandwidth."""
        return self.stream_bytes / self.preset.bandwidth.value

    @property
    def seconds(self):
        """The longer of both."""
        return max(self.engine_seconds, self.memory_seconds)


def product(preset, *, pattern=None, **fields):
    """The :class:`Product` of a job on the engines of ``preset``: each takes whole tiles of rows, at most one more than another.

    ``fields``: those of the job (k, n, m, bits, ...) that are not as in ``preset.form``. ``pattern``: the kept blocks of every
    tile, pairs (block, nnz). TypeError or ValueError for what makes no legal job.
    """
    build = preset.build(**{name: fields[name] for name in ("k", "n", "m") if isinstance(fields.get(name), int)})

    def job(n):
        tiles = -(-n // build.chains)
        blocks = {"blocks": (pattern,) * tiles} if pattern else {}
        return build.job(**preset.form | fields | blocks | {"n": n})

    n = build.job(**preset.form | fields).n
    least, more = divmod(-(-n // build.chains), preset.engines)
    tiles = [least + 1] * more + ([least] * (preset.engines - more) if least else [])
    rows = [count * build.chains for count in tiles]
    rows[-1] -= -n % build.chains
    return Product(preset, build, tuple((engines, job(size)) for size, engines in Counter(rows).items()))


def linear_layers(preset, workload, tokens):
    """The matrix products of ``workload`` for ``tokens`` tokens that come together, one product after the other.

    A list of dicts: ``name``, ``number`` of equal matrices, ``n``, ``k``, ``m``, ``bits``, kept ``density``; for all of them
    together ``products`` (kept ones), ``cycles``, ``stream_bytes``, ``engine_seconds``, ``memory_seconds``, ``seconds``.
    """
    high, low, upper = preset.form["bits"], int(preset.weight_bits.value), preset.upper_blocks.value
    parts = [(part, bits, number) for bits, number in ((high, upper), (low, workload.blocks - upper)) if number
             for part in workload.block]
    return [_row(preset, part, bits, number, tokens if part.each_token else 1)
            for part, bits, number in (*parts, *((part, high, 1) for part in workload.after))]


def _row(preset, part, bits, number, tokens):
    fields, density = {"bits": bits, "k": part.k, "n": part.n, "m": tokens}, 1.0
    if part.sparse:
        pattern, density = _pattern(preset, part.k)
        fields |= {"block": preset.block.value, "pattern": pattern}
    made = product(preset, **fields)
    kept = sum(engines * job.kept(made.build.chains) for engines, job in made.shares)
    return {
        "name": part.name, "number": number, "n": part.n, "k": part.k, "m": tokens, "bits": bits, "density": density,
        "products": number * tokens * kept,
        **{name: number * getattr(made, name)
           for name in ("cycles", "stream_bytes", "engine_seconds", "memory_seconds", "seconds")},
    }


def _pattern(preset, k):
    """((block, nnz), ...) that keep all or half of each group, spread evenly, next to the preset's density; and their density."""
    group, count = preset.group.value, -(-k // preset.block.value)
    whole = round(count * (2 * preset.sparse_density.value - 1))
    full = [(index + 1) * whole // count > index * whole // count for index in range(count)]
    return tuple((index, group if all_ else group // 2) for index, all_ in enumerate(full)), (count + whole) / (2 * count)
