"""Random builds and jobs of the vector engine, for the conformance suite."""

import numpy as np

from .draw import draw_size
from .vector_job import ELEMENTWISE, EPS_BITS, FUNCTIONS, MAX_UNIT, MULTIPLIER_BITS, NORMS, SHIFT_BITS

__all__ = ["draw_build", "draw_job"]


def draw_build(cls, rng):
    """A small build, every parameter varied."""
    return cls(function=str(rng.choice(FUNCTIONS)), lanes=int(rng.integers(1, 6)), narrow=bool(rng.integers(2)),
               max_m=int(rng.choice([1, 2, 5, 9])), max_k=int(np.exp(rng.uniform(np.log(3), np.log(60)))),
               read_latency=int(rng.integers(2, 5)))


def draw_job(build, rng):
    """A legal job: shapes log-uniform, plus 1, the maximum, multiples and their neighbours; scales that keep most results."""
    shape = {"m": draw_size(rng, build.max_m, 1), "k": draw_size(rng, build.max_k, build.lanes), "tag": int(rng.integers(256)),
             "narrow": build.narrow and bool(rng.integers(2))}
    wild = rng.integers(4) == 0
    shape["out_multiplier"] = int(rng.integers(1 << MULTIPLIER_BITS))
    shape["out_shift"] = int(rng.integers(1 << SHIFT_BITS) if wild else rng.integers(12, 36 if shape["narrow"] else 18))
    if build.function in ELEMENTWISE:
        shape["in_multiplier"] = int(rng.integers(1 << MULTIPLIER_BITS))
        shape["in_shift"] = int(rng.integers(1 << SHIFT_BITS) if wild else rng.integers(14, 30))
    if build.function in NORMS:
        shape["eps"] = int(rng.choice([0, 1, (1 << EPS_BITS) - 1, rng.integers(1 << 20)]))
        shape["shift"] = int(rng.integers(1 << SHIFT_BITS) if wild else rng.integers(8, 24))
    if build.function in MAX_UNIT:
        most = MAX_UNIT[build.function]
        shape["unit"] = int(rng.choice([1, most, rng.integers(1, most + 1), rng.integers(1, 64)]))
    return build.job(**shape)
