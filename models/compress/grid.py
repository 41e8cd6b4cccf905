"""The values that codes of a few bits can stand for: a scale, and maybe a zero point, for each group of columns."""

import numpy as np

from sparseloom.models.graph import GroupedWeight

__all__ = ["Grid"]

SHRINKS = np.linspace(0.5, 1.05, 23)  # of the scale that just spans a group's weights: what is tried


class Grid:
    """scale [n, groups] * (low [n, groups] + 0 .. span), both float32; ``group`` columns share a scale. span 0: no grid."""

    def __init__(self, scale, low, span, group):
        self.scale, self.low, self.span, self.group = scale, low, np.float32(span), group

    @classmethod
    def none(cls, n):
        """The grid of float weights."""
        return cls(np.ones((n, 1), np.float32), np.zeros((n, 1), np.float32), 0, 1 << 30)

    @classmethod
    def fit(cls, w, mask, importance, scheme):
        """Scales that minimise sum(importance[j] (w - rounded w)^2) over the kept weights of each group, by trial.

        Tried are spans of half to a little more than the weights' own; symmetric grids are laid both ways around.
        """
        top, span = 1 << (scheme.bits - 1), (1 << scheme.bits) - 1
        group = scheme.scale_group
        pad = -w.shape[1] % group
        shape = (len(w), -1, group)
        values = np.pad(w * mask, ((0, 0), (0, pad))).reshape(shape)
        weight = np.pad(mask * importance, ((0, 0), (0, pad))).astype(np.float32).reshape(shape)
        most, least = np.maximum(values.max(axis=-1), 0), np.minimum(values.min(axis=-1), 0)
        best = cls(np.zeros(most.shape, np.float32), np.full(most.shape, -top, np.float32), span, group)
        error = np.einsum("ngj,ngj->ng", weight, values * values)
        for shrink in SHRINKS:
            if scheme.zeros:
                scale = (most - least) * shrink / span
                trials = [(scale, np.clip(np.rint(np.divide(least, scale, out=np.zeros_like(scale), where=scale > 0)), -span, 0))]
            else:
                reach = np.maximum(most, -least) * shrink
                low = np.full(most.shape, -top)
                trials = [(reach / (top - 1), low), (reach / top, low), (-reach / top, low)]
            for scale, low in trials:
                best._keep_better(scale.astype(np.float32), low.astype(np.float32), values, weight, error)
        return best

    def _keep_better(self, scale, low, values, weight, error):
        step = np.where(scale == 0, np.float32(1), scale)[..., None]
        rest = np.clip(np.rint(values / step), low[..., None], low[..., None] + self.span) * step - values
        found = np.einsum("ngj,ngj->ng", weight, rest * rest)
        better = (found < error) & (scale != 0)
        error[better], self.scale[better], self.low[better] = found[better], scale[better], low[better]

    def round(self, w):
        """The nearest point of the grid to each weight."""
        scale, low = (np.repeat(part, self.group, axis=1)[:, : w.shape[1]] for part in (self.scale, self.low))
        step = np.where(scale == 0, np.float32(1), scale)
        return np.clip(np.rint(w / step), low, low + self.span) * scale

    def rescale(self, w, gradient, hessian):
        """Each group's scale to the minimum of the quadratic objective, codes as they are, groups from left to right; ``w``
        [n, k] moves along. ``gradient``: (w - t) H of the objective; ``hessian`` H."""
        for g in range(self.scale.shape[1]):
            at = slice(g * self.group, (g + 1) * self.group)
            scale = self.scale[:, g].copy()
            codes = np.rint(w[:, at] / np.where(scale == 0, 1, scale)[:, None])
            bend = np.einsum("nk,nk->n", codes @ hessian[at, at], codes)
            step = -np.einsum("nk,nk->n", codes, gradient[:, at]) / np.where(bend > 0, bend, 1)
            new = (scale + np.where(bend > 0, step, 0)).astype(np.float32)
            new = np.where(new == 0, scale, new)
            gradient += ((new - scale)[:, None] * codes) @ hessian[at]
            self.scale[:, g] = new
            w[:, at] = codes * new[:, None]

    def store(self, w, mask, scheme):
        """The :class:`GroupedWeight` of weights on this grid."""
        spread = np.repeat(self.scale, self.group, axis=1)[:, : w.shape[1]]
        low = np.repeat(self.low, self.group, axis=1)[:, : w.shape[1]]
        codes = np.rint(np.divide(w, spread, out=np.zeros_like(w), where=spread != 0)) - low
        zero = (-self.low).astype(np.uint8) if scheme.zeros else None
        sparse = {} if scheme.dense else {"mask": mask, "nnz": scheme.nnz, "group": scheme.group}
        return GroupedWeight(codes=codes.astype(np.uint8), bits=scheme.bits, scale=self.scale, scale_group=self.group, zero=zero,
                             format="sparseloom-nm", **sparse)
