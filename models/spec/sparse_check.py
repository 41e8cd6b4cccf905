"""What makes a job of the sparse chain engine legal."""

from dataclasses import replace

from .errors import check_choice, check_int
from .sparse_job import CODEBOOK_BITS, GROUPS, HEADERS, MAX_LOG_GROUP, POSITIONS, SEGMENT, ZERO_BITS, SparseJob

__all__ = ["MAX_SCALE_GROUP", "check_job"]

MAX_SCALE_GROUP = SEGMENT << MAX_LOG_GROUP


def check_job(build, shape):
    """The legal job of ``shape`` on ``build``; TypeError or ValueError names field, rule and value."""
    job = _checked(build, SparseJob.of(shape))
    if not job.block:
        if job.blocks is not None:
            raise ValueError("blocks must be absent without block")
        return job
    return _with_blocks(build, job)


def _checked(build, job):
    """The job with plain integers, all but its blocks checked."""
    limits = {"k": (1, build.max_k), "n": (1, build.max_n), "m": (1, build.max_m), "tag": (0, 255), "bits": (1, build.max_bits),
              "shift": (0, build.max_shift), **dict.fromkeys(("scale_group", "x_group", "block"), (0, MAX_SCALE_GROUP))}
    values = {name: check_int(name, getattr(job, name), *limit) for name, limit in limits.items()}
    group = check_choice("group", job.group, GROUPS)
    job = replace(job, **values, group=group, nnz=check_choice("nnz", job.nnz, _powers(group)))
    for name in ("first", "last", "codebook"):
        if not isinstance(getattr(job, name), bool):
            raise TypeError(f"{name} must be true or false, got {getattr(job, name)!r}")
    _check_scales(build, job)
    _check_ratio("", build, job, job.nnz)
    return job


def _powers(most):
    return [1 << i for i in range(most.bit_length())]


def _check_ratio(where, build, job, nnz):
    """ValueError unless ``nnz`` of a group are enough for the window and the segment."""
    ratio, most = job.group // nnz, job.segment // POSITIONS
    if ratio > build.max_ratio:
        raise ValueError(f"group / nnz must be at most {build.max_ratio} (window / 8){where}, got {job.group}/{nnz}")
    if ratio > most:
        raise ValueError(f"group / nnz must be at most {most} with scales for {job.segment} columns{where}, "
                         f"got {job.group}/{nnz}")


def _check_scales(build, job):
    for name in ("scale_group", "x_group", "block"):
        size = getattr(job, name)
        if size and (size < SEGMENT or size & (size - 1)):
            raise ValueError(f"{name} must be a power of two from {SEGMENT}, or 0, got {size}")
    check_choice("header", job.header, HEADERS)
    if job.header == "affine" and job.sparse:
        raise ValueError("header must not be affine with N:M weights: what is left out is 0")
    if job.header in ("zero", "levels") and job.bits > ZERO_BITS:
        raise ValueError(f"bits must be at most 4 with header {job.header}, got {job.bits}")
    if job.codebook and (not build.codebook or job.bits != CODEBOOK_BITS or job.header != "scale"):
        raise ValueError("codebook must come with a build that has one, 4 bits and header scale, "
                         f"got codebook={build.codebook}, {job.bits} bits, header {job.header}")
    if job.block and job.scale_group > job.block:
        raise ValueError(f"scale_group must be at most block ({job.block}) or 0, got {job.scale_group}")


def _with_blocks(build, job):
    """The job with its blocks filled in or checked."""
    if -(-job.columns // build.window) > build.max_words:
        raise ValueError(f"block must divide {build.max_words * build.window} columns, the most of this build, so that {job.k} "
                         f"columns fit, got {job.block}")
    tiles = -(-job.n // build.chains)
    if job.blocks is None:
        chosen = tuple((index, job.nnz) for index in range(0, job.block_count, 2))
        return replace(job, blocks=(chosen,) * tiles)
    try:
        blocks = [[(index, nnz) for index, nnz in chosen] for chosen in job.blocks]
    except (TypeError, ValueError):
        raise TypeError(f"blocks must be tiles of pairs (block, nnz), got {job.blocks!r}") from None
    if len(blocks) != tiles:
        raise ValueError(f"blocks must list {tiles} tiles of {build.chains} rows, got {len(blocks)}")
    return replace(job, blocks=tuple(_checked_tile(build, job, tile, chosen) for tile, chosen in enumerate(blocks)))


def _checked_tile(build, job, tile, chosen):
    if not chosen:
        raise ValueError(f"blocks of tile {tile} must hold one block at least")
    kept = []
    for index, nnz in chosen:
        index = check_int(f"block of tile {tile}", index, 0, job.block_count - 1)
        if kept and index <= kept[-1][0]:
            raise ValueError(f"blocks of tile {tile} must ascend, got {index} after {kept[-1][0]}")
        nnz = check_choice(f"nnz of block {index} of tile {tile}", nnz, _powers(job.group))
        _check_ratio(f" in block {index} of tile {tile}", build, job, nnz)
        kept.append((index, nnz))
    return tuple(kept)
