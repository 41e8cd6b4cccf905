"""Products of grouped, sparse weights from their definition: exact integers, one rounding at the end."""

import numpy as np

from ..formats.sparse_stream import centre, columns_mask

try:
    import numba
except ImportError:
    numba = None

__all__ = ["draw_operands", "integers", "matmul", "round_shift"]

INT32 = -(1 << 31), (1 << 31) - 1
UNROLLED, FEW_TOKENS = 32, 8


def integers(job, operands):
    """int8 [n, k]: code - zero, or the codebook's entry; 0 where nothing is kept."""
    codes, mask = operands["codes"], operands["mask"]
    if job.codebook:
        value = operands["codebook"][codes]
    else:
        zero = _spread(operands["zero"], job) if job.header in ("zero", "levels") else np.uint8(centre(job))
        value = (codes - zero).view(np.int8)  # -128..127 for legal codes and zeros, modulo 256 on the way
    return value if mask.all() else np.where(mask, value, np.int8(0))


def matmul(job, operands):
    """int64 [m, n]: sum over g of (q * scale + s * offset) * x_scale, as the job defines it, before the shift."""
    x, weight = np.ascontiguousarray(operands["x"]), np.ascontiguousarray(integers(job, operands))
    groups = job.scale_group or job.k, job.x_group or job.k
    arrays = operands["scale"].astype(np.int64), operands["x_scale"].astype(np.int64)
    total = _scaled(x, weight, *arrays, *groups)
    if job.header == "affine":
        total += _offsets(x, operands["mask"], operands["offset"].astype(np.int64), arrays[1], *groups)
    return total


def _offsets(x, mask, offset, x_scale, scale_group, x_group):
    """int64 [m, n]: as :func:`_scaled_numpy` with the mask for weights."""
    if not mask.all():
        return _scaled(x, np.ascontiguousarray(mask.view(np.int8)), offset, x_scale, scale_group, x_group)
    starts = np.arange(0, x.shape[1], min(scale_group, x_group))
    sums = np.add.reduceat(x, starts, axis=1, dtype=np.int64) * x_scale[:, starts // x_group]
    return sums @ offset[:, starts // scale_group].T


def _scaled_numpy(x, w, scale, x_scale, scale_group, x_group):
    """int64 [m, n]: sum over the groups of (x . w^T within the group) * scale * x_scale; x, w int8."""
    total = np.zeros((len(x), len(w)), np.int64)
    step = min(scale_group, x_group, x.shape[1])
    for start in range(0, x.shape[1], step):
        part = slice(start, start + step)
        sums = np.rint(x[:, part].astype(np.float64) @ w[:, part].astype(np.float64).T).astype(np.int64)  # below 2**53: exact
        total += sums * scale[:, start // scale_group] * x_scale[:, [start // x_group]]
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


if numba is None:
    _scaled = _scaled_numpy
else:
    @numba.njit(cache=True)
    def _fill(x, w, scale, x_scale, scale_group, x_group, step, total):
        for n in range(w.shape[0]):
            for m in range(x.shape[0]):
                whole, row, column = np.int64(0), x[m], w[n]
                for start in range(0, x.shape[1], step):
                    end, sums, k = min(start + step, x.shape[1]), np.int32(0), start
                    while k + UNROLLED <= end:
                        for at in range(UNROLLED):  # a constant count: compiled to vector instructions
                            sums += np.int32(row[k + at]) * np.int32(column[k + at])
                        k += UNROLLED
                    for at in range(k, end):
                        sums += np.int32(row[at]) * np.int32(column[at])
                    whole += np.int64(sums) * scale[n, start // scale_group] * x_scale[m, start // x_group]
                total[m, n] = whole

    def _scaled(x, w, scale, x_scale, scale_group, x_group):
        """As :func:`_scaled_numpy`; compiled for few tokens, where converting the weights to floats would be most of the work."""
        if len(x) >= FEW_TOKENS:
            return _scaled_numpy(x, w, scale, x_scale, scale_group, x_group)
        total = np.empty((len(x), len(w)), np.int64)
        # Sums of at most 2**16 products of 2**14 fit 31 bits.
        step = min(scale_group, x_group, x.shape[1], 1 << 16)
        _fill(x, w, scale, x_scale, scale_group, x_group, step, total)
        return total
