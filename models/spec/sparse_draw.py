"""Random builds and jobs of the sparse chain engine, for the conformance suite."""

import numpy as np

from .draw import draw_size
from .sparse_job import CODEBOOK_BITS, GROUPS, HEADERS, POSITIONS

__all__ = ["draw_build", "draw_job"]


def draw_build(cls, rng):
    """A small build, every parameter varied."""
    bits = int(rng.choice([2, 3, 4, 4, 8, 8]))
    return cls(
        chains=int(rng.integers(1, 7)), window=int(rng.choice([8, 16, 32, 64, 128])), tokens=int(rng.choice([1, 2, 2])),
        max_bits=bits, codebook=bits >= CODEBOOK_BITS and bool(rng.integers(2)), group_dsps=int(rng.choice([1, 2, 4, 8])),
        max_k=int(np.exp(rng.uniform(np.log(30), np.log(700)))), max_n=int(np.exp(rng.uniform(np.log(4), np.log(60)))),
        max_m=int(rng.choice([1, 2, 3, 7])), read_latency=int(rng.integers(2, 5)),
        target=str(rng.choice(["portable", "portable", "dsp48e2", "ecp5"])))


def draw_job(build, rng):
    """A legal job: shapes log-uniform, plus 1, the maximum, multiples and their neighbours; every format and sparsity."""
    k = draw_size(rng, build.max_k, 8 * POSITIONS)
    n, m = draw_size(rng, build.max_n, build.chains), draw_size(rng, build.max_m, build.tokens)
    groups = [int(rng.choice([0, 32, 64, 128, 256])) for _ in range(2)]
    block = int(rng.choice([32, 64, 128, 256])) if rng.integers(3) == 0 else 0
    if block and -(-k // block) * block > build.max_words * build.window:
        block = 0
    if block:
        groups[0] = min(groups[0], block)
    segment = min(128, *(size for size in (*groups, block, 128) if size))
    most = min(build.max_ratio, segment // POSITIONS)
    group = int(rng.choice(GROUPS))
    nnz = group >> int(rng.integers(min(group, most).bit_length()))
    bits = int(rng.integers(1, build.max_bits + 1))
    headers = [name for name in HEADERS if (bits <= 4 or name in ("scale", "affine"))]
    if group > 1 and (nnz < group or block):
        headers.remove("affine")
    header = str(rng.choice(headers))
    codebook = build.codebook and bits == CODEBOOK_BITS and header == "scale" and bool(rng.integers(2))
    blocks = _draw_blocks(build, rng, k, n, block, group, most) if block and rng.integers(4) else None
    return build.job(k=k, n=n, m=m, bits=bits, nnz=nnz, group=group, scale_group=groups[0], x_group=groups[1], header=header,
                     codebook=codebook, block=block, blocks=blocks, tag=int(rng.integers(256)),
                     shift=int(rng.integers(build.max_shift + 1)))


def _draw_blocks(build, rng, k, n, block, group, most):
    count = -(-k // block)
    ratios = min(group, most).bit_length()
    tiles = []
    for _ in range(-(-n // build.chains)):
        kept = np.flatnonzero(rng.random(count) < rng.choice([0.2, 0.5, 1.0]))
        kept = kept if len(kept) else [int(rng.integers(count))]
        tiles.append(tuple((int(index), group >> int(rng.integers(ratios))) for index in kept))
    return tuple(tiles)
