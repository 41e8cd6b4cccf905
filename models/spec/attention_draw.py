"""Random builds and jobs of the attention engine, for the conformance suite."""

import numpy as np

from .attention_job import MAX_FRACTION, MAX_MULTIPLIER, SCORE_BITS
from .draw import draw_size

__all__ = ["draw_build", "draw_job"]


def _draw(rng, low, high):
    """Log-uniform."""
    return int(np.exp(rng.uniform(np.log(low), np.log(high + 1))))


def draw_build(cls, rng):
    """A small build, every parameter varied."""
    lanes = int(rng.choice([4, 5, 8, 8, 16]))
    score = str(rng.choice(["online", "online", "two_pass", "sigmoid", "shiftmax"]))
    return cls(
        p=int(rng.integers(1, 6)), d_lanes=lanes, score=score, bits=8 if score == "shiftmax" else int(rng.choice([8, 8, 16])),
        max_queries=_draw(rng, 3, 20), max_keys=_draw(rng, 4, 60), max_d=_draw(rng, 3, 4 * lanes),
        max_heads=int(rng.integers(1, 4)), block_sparse=score in ("online", "sigmoid") and bool(rng.integers(2)),
        read_latency=int(rng.integers(2, 5)))


def draw_job(build, rng):
    """A legal job: shapes log-uniform, plus 1, the maximum, multiples and their neighbours; every mask."""
    queries, keys = draw_size(rng, build.max_queries, build.p), draw_size(rng, build.max_keys, build.p)
    d, heads = draw_size(rng, build.max_d, build.d_lanes), draw_size(rng, build.max_heads, 1)
    shape = {"queries": queries, "keys": keys, "d": d, "heads": heads, "tag": int(rng.integers(256)),
             "kv_heads": int(rng.choice([count for count in range(1, heads + 1) if heads % count == 0]))}
    mask = int(rng.integers(4))
    if mask == 1 or (mask == 2 and not build.block_sparse):
        shape |= {"causal": True, "window": int(rng.choice([0, draw_size(rng, build.max_keys, build.p)]))}
    elif mask == 2:
        block = int(rng.choice([16, 32]))
        shape |= {"block": block, "blocks": _draw_blocks(rng, -(-keys // block), build.p, queries) if rng.integers(4) else None}
    # Now and then scores that are clamped.
    middle = 2 * build.bits + 18 + int(rng.integers(-4, 5)) - int(rng.choice([0, 0, 0, 12]))
    shape |= {"shift": middle, "fraction": int(rng.integers(MAX_FRACTION + 1))}
    if build.score == "sigmoid":
        wide = 1 << (SCORE_BITS - 1 if rng.integers(4) == 0 else 14)
        shape["bias"] = int(rng.integers(-wide, wide))
    if build.score == "shiftmax":
        # Scores of a few times 127, results likewise.
        shape |= {"multiplier": int(rng.integers(MAX_MULTIPLIER // 2, MAX_MULTIPLIER + 1)), "shift": int(rng.integers(36, 42)),
                  "unit": int(rng.choice([1, 2, 5, 16, 17, 100, 1023])), "out_shift": int(rng.integers(43, 48)),
                  "out_multiplier": int(rng.integers(MAX_MULTIPLIER // 2, MAX_MULTIPLIER + 1))}
    return build.job(**shape)


def _draw_blocks(rng, count, p, queries):
    groups = []
    for _ in range(-(-queries // p)):
        kept = np.flatnonzero(rng.random(count) < rng.choice([0.3, 0.7, 1.0]))
        groups.append(tuple(int(index) for index in kept) or (int(rng.integers(count)),))
    return tuple(groups)
