"""What a sparse chain's operands must be: kinds, shapes, ranges, how many weights a group keeps."""

from functools import cache

import numpy as np

from ..spec.sparse_job import POSITIONS

__all__ = [
    "centre", "check_array", "check_operands", "check_range", "columns_mask", "padded", "pattern_bits", "patterns", "stretches",
]


def centre(job):
    """The code of zero where no header says it."""
    return 1 << (job.bits - 1)


def columns_mask(build, job):
    """bool [n, k]: columns of blocks that are there."""
    if not job.block:
        return np.ones((job.n, job.k), bool)
    mask = np.zeros((build.tiles(job) * build.chains, job.block_count * job.block), bool)
    for tile, chosen in enumerate(job.blocks):
        for index, _ in chosen:
            mask[tile * build.chains : (tile + 1) * build.chains, index * job.block : (index + 1) * job.block] = True
    return mask[: job.n, : job.k]


def stretches(build, job):
    """(first row, past the last, spans) of what is alike: the whole matrix, or each tile of a job with blocks."""
    if not job.block:
        return [(0, build.tiles(job) * build.chains, job.spans(0))]
    return [(tile * build.chains, (tile + 1) * build.chains, job.spans(tile)) for tile in range(build.tiles(job))]


def padded(array, rows, columns):
    """A matrix with zeros below and to the right of ``array``."""
    out = np.zeros((rows, columns), array.dtype)
    out[: array.shape[0], : array.shape[1]] = array
    return out


def patterns(kept):
    """What each group of columns keeps, bool [rows, groups, group], as an integer: column 0 in the lowest bit."""
    packed = np.packbits(kept, axis=2, bitorder="little")
    return packed[:, :, 0] if packed.shape[2] == 1 else packed.view("<u2")[:, :, 0]


@cache
def pattern_bits(group):
    """uint8 [2**group, group]: which columns each pattern keeps."""
    return ((np.arange(1 << group)[:, None] >> np.arange(group)) & 1).astype(np.uint8)


_INT16 = (-(1 << 15), (1 << 15) - 1)
_PARTS = {"scale": ("scale",), "affine": ("scale", "offset"), "zero": ("scale", "zero"), "levels": ("scale", "zero")}


def check_operands(build, job, operands):
    """ValueError unless the operands are what the job says."""
    for name, kind in (("codes", "uint8"), ("mask", "bool")):
        check_array(name, operands.get(name), kind, (job.n, job.k))
    if int(operands["codes"].max()) >> job.bits:
        raise ValueError(f"codes must be below {1 << job.bits}, got {int(operands['codes'].max())}")
    limits = {"scale": (0, 255) if job.header == "levels" else _INT16, "offset": _INT16, "zero": (0, 1 << job.bits)}
    for name in _PARTS[job.header]:
        check_array(name, operands.get(name), "uint8" if name == "zero" else "integers", (job.n, job.scale_groups))
        check_range(name, operands[name], *limits[name])
    if job.codebook:
        check_array("codebook", operands.get("codebook"), "int8", (1 << job.bits,))
    mask = operands["mask"]
    if job.block and (mask & ~columns_mask(build, job)).any():
        raise ValueError("mask must keep nothing in blocks that are not there")
    if job.header == "affine" and not np.array_equal(mask, columns_mask(build, job)):
        raise ValueError("mask must keep every column of the blocks that are there with header affine")
    missing = False
    for low, high, spans in stretches(build, job):
        for span in spans:
            columns = span.steps * POSITIONS * span.ratio
            part = mask[low:high, span.start : span.start + columns]
            if span.ratio == 1:
                missing |= not part.all()
                continue
            most = job.group // span.ratio
            wide = padded(part, len(part), -(-part.shape[1] // job.group) * job.group).reshape(len(part), -1, job.group)
            kept = pattern_bits(job.group).sum(axis=1)[patterns(wide)]
            if int(kept.max()) > most:
                raise ValueError(f"mask must keep at most {most} of each {job.group}, got {int(kept.max())}")
            missing |= bool((kept < np.minimum(most, part.shape[1] - np.arange(kept.shape[1]) * job.group)).any())
    if missing and job.header in ("zero", "levels") and int(operands["zero"].max()) >> job.bits:
        raise ValueError(f"zero must be below {1 << job.bits} where fewer weights are kept than there is place for, "
                         f"got {int(operands['zero'].max())}")
    if job.codebook and missing and 0 not in operands["codebook"]:
        raise ValueError("codebook must have an entry 0 where fewer weights are kept than there is place for")


def check_array(name, array, kind, shape):
    """ValueError unless it is an array of ``kind`` (a dtype's name, or ``integers``) and ``shape``."""
    if array is None:
        raise ValueError(f"{name} is missing")
    array = np.asarray(array)
    fits = np.issubdtype(array.dtype, np.integer) if kind == "integers" else array.dtype == kind
    if not fits or array.shape != shape:
        raise ValueError(f"{name} must be {kind} {list(shape)}, got {array.dtype} {list(array.shape)}")


def check_range(name, array, low, high):
    if int(array.min()) < low or int(array.max()) > high:
        raise ValueError(f"{name} must be {low}..{high}, got {int(array.min())}..{int(array.max())}")
