"""One matrix compressed by second-order means: which weights stay, what they become, and their codes.

The problem: w [n, k] that minimises tr((w - t) H (w - t)^T) over matrices that a :class:`Scheme` can hold, where ``t`` is the
target and H = X^T X the Hessian of the calibration inputs. Each row is a problem of its own.

- The mask and first weights: ADMM between the least-squares problem and the projection on N:M matrices (as in ALPS, Meng et
  al. 2024), which starts from the pass of SparseGPT (Frantar and Alistarh 2023).
- Mask repair: exchanges within a group wherever the second-order objective falls (the aim of DSnoT, Zhang et al. 2023).
- Kept weights: conjugate gradients on the mask.
- Codes: a pass of GPTQ (Frantar et al. 2022) on the mask, then coordinate descent on the grid (QuantEase, Behdin et al. 2023)
  with further exchanges, then scales by least squares.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sparseloom.models.compress import kernels
from sparseloom.models.compress.grid import Grid
from sparseloom.models.compress.scheme import FLOAT_BITS
from sparseloom.models.graph import GroupedWeight

__all__ = ["Inputs", "Problem", "Solution", "magnitude", "objective", "quick_errors", "solve"]

BLOCK = 128  # columns of a pass before the rest of the matrix is brought up to date
DAMPING = 0.01  # added to the diagonal, in parts of its mean
ADMM_STEPS, ADMM_CHECK, ADMM_RHO = 120, 3, 0.1
REFIT_STEPS = 25
FLOAT_PASSES, GRID_PASSES = 3, 6
TINY = np.float32(1e-30)


class Inputs:
    """The Hessian [k, k] of a layer's inputs, damped and scaled to a mean diagonal of 1, and what is derived from it, once."""

    def __init__(self, hessian, damping=DAMPING):
        mean = float(np.trace(hessian)) / len(hessian)
        if not (mean > 0 and np.isfinite(mean)):
            raise ValueError(f"hessian must be finite with a positive trace, got a mean diagonal of {mean}")
        self.hessian = np.asarray(hessian, np.float64) / mean
        self.hessian[np.diag_indices(len(hessian))] += damping
        self.single = self.hessian.astype(np.float32)

    @cached_property
    def factor(self):
        """The upper Cholesky factor U of the inverse, U^T U, float32."""
        return np.linalg.cholesky(np.linalg.inv(self.hessian)).T.astype(np.float32)

    @cached_property
    def spectrum(self):
        """``(spread [k], values [k], vectors [k, k])``, float32: H = spread vectors diag(values) vectors^T spread."""
        spread = np.sqrt(np.diag(self.hessian))
        values, vectors = np.linalg.eigh(self.hessian / spread[:, None] / spread)
        return spread.astype(np.float32), values.astype(np.float32), vectors.astype(np.float32)


class Problem:
    """A target ``t`` [n, k] and the :class:`Inputs` that it is to be met on."""

    def __init__(self, target, inputs):
        self.target, self.inputs = np.asarray(target, np.float64), inputs
        if not np.isfinite(self.target).all():
            raise ValueError("target must be finite, got NaN or infinity")

    def gradient(self, w):
        """(w - t) H as float32."""
        return (w - self.target).astype(np.float32) @ self.inputs.single

    def error(self, w):
        """tr((w - t) H (w - t)^T) over the same of w = 0."""
        hessian = self.inputs.hessian
        return objective(w - self.target, hessian) / max(objective(self.target, hessian), float(TINY))


@dataclass(frozen=True)
class Solution:
    """Float32 ``weights`` [n, k], 0 outside the bool ``mask`` [n, k]; ``stored``: their GroupedWeight, None for float weights.
    ``error``: :meth:`Problem.error`; ``swaps``: exchanges of the mask repair."""

    weights: np.ndarray
    mask: np.ndarray
    stored: GroupedWeight | None
    error: float
    swaps: int


def objective(w, hessian):
    """tr(w H w^T)."""
    return float(np.einsum("nk,nk->", w @ hessian, w))


def magnitude(w, nnz, group):
    """The bool mask [n, k] of the ``nnz`` largest magnitudes of each ``group`` consecutive columns; of equals the first."""
    mask = np.empty(w.shape, bool)
    kernels.keep_largest(np.ascontiguousarray(w, np.float32), mask, nnz, group)
    return mask


def solve(problem, scheme):
    """The :class:`Solution` of a problem under a scheme. ValueError where the scheme's group does not divide k."""
    n, k = problem.target.shape
    if k % scheme.group:
        raise ValueError(f"group must divide k ({k}), got {scheme.group}")
    swaps = 0
    if scheme.dense:
        w, mask = problem.target.astype(np.float32), np.ones((n, k), bool)
    else:
        w, mask = alternate(problem, *one_pass(problem, scheme), scheme)
        w = refit(problem, w, mask)
        swaps = descend(problem, w, mask, scheme, Grid.none(n), FLOAT_PASSES)
        w = refit(problem, w, mask)
    if scheme.bits == FLOAT_BITS:
        return Solution(w, mask, None, problem.error(w), swaps)
    grid = Grid.fit(w, mask, np.diag(problem.inputs.hessian), scheme)
    w, _ = one_pass(problem, scheme, w, mask, grid)
    for _ in range(2):
        swaps += descend(problem, w, mask, scheme, grid, GRID_PASSES)
        grid.rescale(w, problem.gradient(w), problem.inputs.single)
    stored = grid.store(w, mask, scheme)
    w = stored.dequantise()
    return Solution(w, mask, stored, problem.error(w), swaps)


def quick_errors(problem, schemes):
    """``[(scheme, error)]``: estimates of :attr:`Solution.error`. A pass for each sparsity, rounding for each width, summed."""
    n, k = problem.target.shape
    target, every = problem.target.astype(np.float32), np.ones((n, k), bool)
    pruned, rounded = {}, {}
    for scheme in schemes:
        if scheme.nnz not in pruned:
            pruned[scheme.nnz] = 0.0 if scheme.dense else problem.error(one_pass(problem, scheme)[0])
        if scheme.bits not in rounded:
            rounded[scheme.bits] = 0.0
            if scheme.bits != FLOAT_BITS:
                grid = Grid.fit(target, every, np.diag(problem.inputs.hessian), scheme)
                rounded[scheme.bits] = problem.error(grid.round(target))
    return [(scheme, pruned[scheme.nnz] + rounded[scheme.bits]) for scheme in schemes]


def one_pass(problem, scheme, start=None, mask=None, grid=None):
    """``(w, mask)`` of one pass over the columns in blocks: masks chosen on the way unless given; on ``grid`` if given."""
    w = np.array(problem.target if start is None else start, np.float32)
    chosen = np.zeros(w.shape, bool) if mask is None else mask.copy()
    grid = grid or Grid.none(len(w))
    factor = problem.inputs.factor
    for first in range(0, w.shape[1], BLOCK):
        at = slice(first, first + BLOCK)
        block, kept = np.ascontiguousarray(w[:, at]), np.ascontiguousarray(chosen[:, at])
        error = np.empty_like(block)
        kernels.eliminate(block, kept, error, np.ascontiguousarray(factor[at, at]), scheme.nnz if mask is None else 0,
                          scheme.group, grid.scale, grid.low, grid.span, grid.group, first)
        w[:, at], chosen[:, at] = block, kept
        w[:, first + BLOCK :] -= error @ factor[at, first + BLOCK :]
    return w, chosen


def alternate(problem, w, mask, scheme):
    """``(w, mask)`` by ADMM from a first solution: the steps grow until the mask rests."""
    spread, values, vectors = problem.inputs.spectrum
    pull = ((problem.target * spread).astype(np.float32) @ vectors * values) @ vectors.T
    rho, kept = np.float32(ADMM_RHO), mask
    projected = w * spread
    dual = np.zeros_like(projected)
    for step in range(ADMM_STEPS):
        free = ((pull + rho * projected - dual) @ vectors / (values + rho)) @ vectors.T
        moved = free + dual / rho
        latest = magnitude(moved, scheme.nnz, scheme.group)
        projected = moved * latest
        dual += rho * (free - projected)
        if step % ADMM_CHECK == ADMM_CHECK - 1:
            changed = float((latest != kept).mean())
            if changed == 0:
                break
            kept = latest
            rho *= np.float32(1.3 if changed > 0.05 else 1.2 if changed > 0.005 else 1.1)
    return projected / spread, latest


def refit(problem, w, mask, steps=REFIT_STEPS):
    """Kept weights by conjugate gradients on the mask, all rows at once, each with its own step; the diagonal preconditions."""
    hessian = problem.inputs.single
    inverse = 1 / np.diag(hessian)
    w = w * mask
    rest = -problem.gradient(w) * mask
    direction = rest * inverse
    size = (rest * direction).sum(axis=1)
    for _ in range(steps):
        bent = (direction @ hessian) * mask
        step = size / np.maximum((direction * bent).sum(axis=1), TINY)
        w += step[:, None] * direction
        rest -= step[:, None] * bent
        scaled = rest * inverse
        size, before = (rest * scaled).sum(axis=1), size
        direction = scaled + (size / np.maximum(before, TINY))[:, None] * direction
    return w


def descend(problem, w, mask, scheme, grid, passes):
    """Exchanges and coordinate descent (:func:`kernels.descend`) in place; the number of exchanges."""
    return kernels.descend(w, mask, problem.gradient(w), problem.inputs.single, scheme.group, not scheme.dense,
                           grid.scale, grid.low, grid.span, grid.group, passes)
