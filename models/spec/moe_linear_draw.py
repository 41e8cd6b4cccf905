"""Random builds and jobs of the MoE linear engine, for the conformance suite."""

import numpy as np

from .draw import draw_size

__all__ = ["draw_build", "draw_job"]


def draw_build(cls, rng):
    """A small build, every parameter varied."""
    def spread(low, high):
        return int(np.exp(rng.uniform(np.log(low), np.log(high))))

    rows, lanes = int(rng.choice([2, 4, 4, 6, 8])), int(rng.choice([8, 8, 16, 24]))
    max_k = spread(lanes, 8 * lanes)
    ring = [1 << bits for bits in range(3, 8) if 1 << bits >= -(-max_k // lanes)]
    max_n = spread(4, 40)
    return cls(
        tokens=int(rng.integers(1, 5)), rows=rows, lanes=lanes,
        beat_bytes=int(rng.choice([size for size in (8, 16, 32, 64, 128) if rows * lanes % size == 0])),
        ring_words=int(rng.choice(ring)),
        result_lanes=int(rng.choice([0, *(part for part in range(1, rows) if rows % part == 0)])),
        max_m=spread(1, 24), max_k=max_k, max_n=max_n, max_experts=int(rng.choice([1, 2, 3, 5])),
        max_top_k=int(rng.integers(1, 4)), gelu=bool(rng.integers(2)), score=bool(rng.integers(3)),
        score_n=int(rng.choice([1024, (max_n + 1) // 2])), narrow=bool(rng.integers(2)), read_latency=int(rng.integers(2, 5)),
        target=str(rng.choice(["portable", "portable", "dsp48e2", "ecp5"])))


def draw_job(build, rng):
    """A legal job: shapes log-uniform, plus 1, the maximum, multiples and their neighbours; dense, or experts in any order."""
    m, k = draw_size(rng, build.max_m, build.tokens), draw_size(rng, build.max_k, build.lanes)
    n = draw_size(rng, build.max_n, build.rows)
    experts = int(rng.integers(1, build.max_experts + 1))
    queued, routes = experts > 1, None
    top_k = int(rng.integers(1, min(experts, build.max_top_k) + 1)) if queued else 1
    use_score = queued and build.score and bool(rng.integers(2))
    if use_score:
        n = min(n, build.score_rows)
    if queued and rng.integers(3):
        routes = _draw_routes(rng, m, experts, top_k)
    narrow = build.narrow and bool(rng.integers(2))
    return build.job(
        m=m, k=k, n=n, experts=experts, top_k=top_k, gelu=build.gelu and bool(rng.integers(2)), use_score=use_score,
        gather=bool(rng.integers(2)) if queued else None, routes=routes, shift=int(rng.integers(build.max_shift + 1)),
        narrow=narrow, out_multiplier=int(rng.integers(1 << 16)), out_shift=int(rng.integers(build.max_out_shift + 1)),
        tag=int(rng.integers(256)))


def _draw_routes(rng, m, experts, top_k):
    """At most ``top_k`` experts a token, none for some; a token's place in its expert's queue is any."""
    likely = rng.random(experts) ** 3 + 1e-3
    routes = [[] for _ in range(experts)]
    for token in rng.permutation(m):
        for expert in rng.choice(experts, int(rng.integers(0, top_k + 1)), replace=False, p=likely / likely.sum()):
            routes[expert].append(int(token))
    if not any(routes):
        routes[int(rng.integers(experts))].append(0)
    return tuple(map(tuple, routes))
