"""The inner loops of the solvers, row by row: compiled where numba is installed, plain Python (some hundred times slower) else.

Matrices are float32 and C-contiguous; each row of weights is a problem of its own. The grid of weight (r, j) is
scale[r, g] * (low[r, g] + 0 .. span) with g = j // scale_group; span 0: no grid, float weights.
"""

import numpy as np

__all__ = ["COMPILED", "descend", "eliminate", "keep_largest"]

try:
    import numba
except ImportError:
    numba = None

COMPILED = numba is not None
# Sums may be taken in vector order; everything else about IEEE arithmetic stays.
compiled = numba.njit(cache=True, fastmath={"contract", "reassoc", "nsz"}) if COMPILED else lambda function: function

WORTH = np.float32(1e-5)  # an exchange must gain this part of what the leaving weight alone stands for: rounding noise does not


@compiled
def snap(value, step, low, span):
    """The grid point next to ``value`` (ties to even); 0 on a grid without a step."""
    if step == 0:
        return np.float32(0)
    return np.float32(min(max(np.rint(value / step), low), low + span)) * step


@compiled
def choose(w, spread, mask, start, nnz, group):
    """Keep those ``nnz`` of the ``group`` columns from ``start`` on with the largest (w / spread)^2; of equals the first."""
    for i in range(start, start + group):
        mask[i] = False
    for _ in range(nnz):
        best, at = np.float32(-1), start
        for i in range(start, start + group):
            saliency = (w[i] / spread[i]) ** 2
            if not mask[i] and saliency > best:
                best, at = saliency, i
        mask[at] = True


@compiled
def keep_largest(w, mask, nnz, group):
    """``mask`` [n, k] of the ``nnz`` largest magnitudes of each ``group`` columns of w; of equals the first."""
    ones = np.ones(w.shape[1], np.float32)
    for r in range(w.shape[0]):
        for start in range(0, w.shape[1], group):
            choose(w[r], ones, mask[r], start, nnz, group)


@compiled
def eliminate(w, mask, error, factor, nnz, group, scale, low, span, scale_group, first):
    """One block of columns of a pass from left to right (OBS, as in SparseGPT and GPTQ), in place.

    ``w [n, b]``: the block; becomes what stays of it. ``factor [b, b]``: its part of the upper Cholesky factor of the inverse
    Hessian. ``mask [n, b]`` is chosen group by group where ``nnz`` is positive, given where it is 0. ``error [n, b]``: becomes
    what the caller carries on to the columns after the block. ``first``: the block's first column within the matrix.
    """
    columns = w.shape[1]
    spread = np.empty(columns, np.float32)
    for j in range(columns):
        spread[j] = factor[j, j]
    for r in range(w.shape[0]):
        row = w[r]
        for j in range(columns):
            if nnz > 0 and j % group == 0:
                choose(row, spread, mask[r], j, nnz, group)
            stays = np.float32(0)
            if mask[r, j]:
                stays = row[j]
                if span > 0:
                    g = (first + j) // scale_group
                    stays = snap(stays, scale[r, g], low[r, g], span)
            e = (row[j] - stays) / spread[j]
            error[r, j] = e
            row[j] = stays
            for t in range(j + 1, columns):
                row[t] -= e * factor[j, t]


@compiled
def move(gradient, step, hessian):
    for t in range(gradient.shape[0]):
        gradient[t] += step * hessian[t]


@compiled
def exchange(w, mask, gradient, hessian, start, group, scale, low, span, scale_group):
    """Swap one kept and one left-out column of a group if that lowers the objective: the pair that lowers it most. 1 if done."""
    best, leaves, enters, value = np.float32(0), -1, -1, np.float32(0)
    for i in range(start, start + group):
        if not mask[i]:
            continue
        gone = w[i] * (np.float32(0.5) * hessian[i, i] * w[i] - gradient[i])
        for j in range(start, start + group):
            if mask[j]:
                continue
            slope = gradient[j] - hessian[i, j] * w[i]
            new = -slope / hessian[j, j]
            if span > 0:
                g = j // scale_group
                new = snap(new, scale[g], low[g], span)
            change = gone + new * (slope + np.float32(0.5) * hessian[j, j] * new)
            if change < best:
                best, leaves, enters, value = change, i, j, new
    if leaves < 0 or -best <= WORTH * hessian[leaves, leaves] * w[leaves] * w[leaves]:
        return 0
    move(gradient, -w[leaves], hessian[leaves])
    w[leaves], mask[leaves] = 0, False
    move(gradient, value, hessian[enters])
    w[enters], mask[enters] = value, True
    return 1


@compiled
def descend(w, mask, gradient, hessian, group, swap, scale, low, span, scale_group, passes):
    """Coordinate descent on 1/2 (w - t) H (w - t)^T, in place; returns the number of exchanges.

    ``gradient [n, k]`` is (w - t) H and is kept so. Each pass goes through the groups of ``group`` columns: with ``swap`` first
    the best exchange within the group, then every kept weight to its minimum given all others, on the grid if there is one.
    The objective never rises. A row ends early when a pass changes nothing.
    """
    swaps = 0
    for r in range(w.shape[0]):
        row, kept, slope, step, least = w[r], mask[r], gradient[r], scale[r], low[r]
        for _ in range(passes):
            changed = 0
            for start in range(0, w.shape[1], group):
                if swap:
                    done = exchange(row, kept, slope, hessian, start, group, step, least, span, scale_group)
                    changed += done
                    swaps += done
                for j in range(start, start + group):
                    if not kept[j]:
                        continue
                    new = row[j] - slope[j] / hessian[j, j]
                    if span > 0:
                        new = snap(new, step[j // scale_group], least[j // scale_group], span)
                    if new != row[j]:
                        move(slope, new - row[j], hessian[j])
                        row[j] = new
                        changed += 1
            if changed == 0:
                break
    return swaps
