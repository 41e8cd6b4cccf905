"""Random sizes for the conformance suite."""

import numpy as np

__all__ = ["draw_size"]


def draw_size(rng, most, lanes):
    """A size of 1..most: log-uniform, or 1, ``most``, or a multiple of ``lanes`` and its neighbours."""
    kind = int(rng.integers(5))
    if kind == 0:
        return int(rng.choice([1, most]))
    if kind == 1:
        return int(np.clip(lanes * rng.integers(1, max(2, most // lanes + 1)) + rng.integers(-1, 2), 1, most))
    return int(np.clip(np.exp(rng.uniform(0, np.log(most + 1))), 1, most))
