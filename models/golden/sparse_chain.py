"""Products of grouped, sparse weights from their definition: exact integers, one rounding at the end."""

import numpy as np

from ..formats.sparse_stream import centre, columns_mask

__all__ = ["draw_operands", "integers", "matmul", "round_shift"]

INT32 = -(1 << 31), (1 << 31) - 1


def integers(job, operands):
    """int16 [n, k]: code - zero, or the codebook's entry; 0 where nothing is kept."""
    codes = operands["codes"]
    if job.codebook:
        value = operands["codebook"][codes].astype(np.int16)
    else:
        zero = _spread(operands["zero"], job).astype(np.int16) if job.header in ("zero", "levels") else np.int16(centre(job))
        value = codes.astype(np.int16) - zero
    return np.where(operands["mask"], value, np.int16(0))


def matmul(job, operands):
    """int64 [m, n]: sum over g of (q * scale + s * offset) * x_scale, as the job defines it, before the shift."""
    x, weight = operands["x"], integers(job, operands)
    step = min(size for size in (job.scale_group, job.x_group, job.k) if size)
    total = np.zeros((job.m, job.n), np.int64)
    for start in range(0, job.k, step):
        part = slice(start, start + step)
        group = start // job.scale_group if job.scale_group else 0
        sums = _product(x[:, part], weight[:, part]) * operands["scale"][:, group].astype(np.int64)
        if job.header == "affine":
            sums += _product(x[:, part], operands["mask"][:, part]) * operands["offset"][:, group].astype(np.int64)
        total += sums * operands["x_scale"][:, start // job.x_group if job.x_group else 0].astype(np.int64)[:, None]
    return total


def round_shift(total, shift):
    """(int32 values, number clamped): round_half_even(total / 2**shift) within int32."""
    quotient = total >> shift
    rest = total - (quotient << shift)
    half = np.int64(1) << shift >> 1
    up = (rest > half) | ((rest == half) & (quotient & 1 == 1)) if shift else np.False_
    rounded = quotient + up
    limited = np.clip(rounded, *INT32)
    return limited.astype(np.int32), int((limited != rounded).sum())


def draw_operands(build, job, rng):
    """Random operands, corner values included."""
    peak, shape = 128, (job.n, job.scale_groups)
    operands = {
        "x": rng.integers(-peak, peak, (job.m, job.k), dtype=np.int8),
        "x_scale": rng.integers(0, 1 << 16, (job.m, job.x_groups)).astype(np.int32),
        "codes": rng.integers(0, 1 << job.bits, (job.n, job.k), dtype=np.uint8),
        "mask": _draw_mask(build, job, rng),
        "scale": rng.integers(0, 256, shape).astype(np.int32) if job.header == "levels" else
        rng.integers(-(1 << 15), 1 << 15, shape).astype(np.int32),
    }
    if job.header == "affine":
        operands["offset"] = rng.integers(-(1 << 15), 1 << 15, shape).astype(np.int32)
    if job.header in ("zero", "levels"):
        # One past the largest code only where every place holds a weight: it cannot stand for a missing one.
        full = np.array_equal(operands["mask"], columns_mask(build, job))
        operands["zero"] = rng.integers(0, (1 << job.bits) + full, shape).astype(np.uint8)
    if job.codebook:
        operands["codebook"] = rng.integers(-peak, peak, 16, dtype=np.int8)
        operands["codebook"][int(rng.integers(16))] = 0
    if rng.integers(3) == 0:
        # All products 128 * 128, and the largest scales: the corner of every sum.
        operands["x"][:], operands["codes"][:] = -peak, 0
        operands["x_scale"][:] = (1 << 16) - 1
        operands["scale"][:] = 255 if job.header == "levels" else rng.choice([-(1 << 15), (1 << 15) - 1])
    return operands


def _draw_mask(build, job, rng):
    """Each group keeps as many as it may, in places drawn at random; sometimes fewer."""
    mask = columns_mask(build, job)
    for tile in range(build.tiles(job)):
        rows = slice(tile * build.chains, min(job.n, (tile + 1) * build.chains))
        for span in job.spans(tile):
            if span.ratio == 1:
                continue
            columns = slice(span.start, min(job.k, span.start + span.steps * 8 * span.ratio))
            count, width = rows.stop - rows.start, columns.stop - columns.start
            groups = -(-width // job.group)
            order = rng.permuted(np.broadcast_to(np.arange(job.group), (count, groups, job.group)), axis=2)
            mask[rows, columns] = (order < job.group // span.ratio).reshape(count, -1)[:, :width]
    if job.header != "affine" and rng.integers(4) == 0:
        mask &= rng.random(mask.shape) < 0.7
    return mask


def _spread(per_group, job):
    return np.repeat(per_group, job.scale_group or job.k, axis=1)[:, : job.k]


def _product(x, w):
    """int64 [m, n] = x . w^T; in floats of 53 bits, which hold these sums exactly."""
    return np.rint(x.astype(np.float64) @ w.astype(np.float64).T).astype(np.int64)
