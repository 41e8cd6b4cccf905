"""Random builds and jobs of the N:M training array, for the conformance suite."""

import numpy as np

from .draw import draw_size
from .nm_pattern import PATTERNS
from .nm_train_job import DATAFLOWS

__all__ = ["draw_build", "draw_job"]


def draw_build(cls, rng):
    """A small build, every parameter varied."""
    def spread(low, high):
        return int(np.exp(rng.uniform(np.log(low), np.log(high))))

    rows = int(rng.choice([2, 3, 4, 4, 5, 6, 8]))
    return cls(
        rows=rows, cols=int(rng.choice([2, 2, 4])), slots=int(rng.integers(4, 10)),
        words=int(rng.choice([words for words in (1, 2, 4, 8) if rows % words == 0])), ws_rows=spread(2, 24),
        max_m=spread(2, 40), max_n=spread(4, 60), max_k=spread(8, 200))


def draw_job(build, rng):
    """A legal job: shapes log-uniform, plus 1, the maximum, multiples of the tiles and their neighbours; any pattern and flow."""
    nnz, group = PATTERNS[int(rng.integers(len(PATTERNS)))]
    return build.job(
        m=draw_size(rng, build.max_m, build.rows), n=draw_size(rng, build.max_n, build.tile_columns),
        k=draw_size(rng, build.max_k, max(group, 4)), nnz=nnz, group=group, dataflow=DATAFLOWS[int(rng.integers(2))],
        narrow=bool(rng.integers(2)), tag=int(rng.integers(256)))
