"""What the products of a block receive, in the float model and in the model compressed so far, and the moments of both."""

from dataclasses import dataclass

import numpy as np

from sparseloom.models.zoo.llama import KVCache

__all__ = ["STAGES", "Moments", "Streams"]

STAGES = (("attn_q", "attn_k", "attn_v"), ("attn_output",), ("ffn_gate", "ffn_up"), ("ffn_down",))
"""Products of a block that share an input, in the order of execution; two stages make half a block with its own residual sum."""


@dataclass(frozen=True)
class Moments:
    """Sums over the calibration tokens, float64 [k, k], of the compressed model's inputs y and the float model's x to the same
    products: ``hessian`` y^T y and ``drift`` (x - y)^T y."""

    hessian: np.ndarray
    drift: np.ndarray

    def target(self, w, damping):
        """The matrix [n, k] whose products with y come nearest to w x: the error of the layers before is made good, not added to.

        Ridge regression, ``damping`` in parts of the mean diagonal, towards w.
        """
        damped = self.hessian + damping * np.trace(self.hessian) / len(self.hessian) * np.eye(len(self.hessian))
        return w + np.linalg.solve(damped, (w @ self.drift).T).T


class _Reached(Exception):
    """The product whose input was asked for has been reached."""


def trace(model, layer, x, until=None):
    """``(inputs by product's short name, stream after attention, output)`` of one block for one window x [m, width]; with
    ``until`` only as far as that product's input, the output None."""
    prefix, suffix = f"blk.{layer}.", ".weight"
    seen, middle = {}, None

    def hook(name, h):
        nonlocal middle
        short = name.removeprefix(prefix).removesuffix(suffix)
        seen[short] = h
        if short == until:
            raise _Reached
        y = model.product(name, h)
        if short == "attn_output":
            middle = x + y
        return y

    try:
        output = model.block(layer, x, KVCache(model.config), hook)
    except _Reached:
        output = None
    return seen, middle, output


class Streams:
    """The windows' residual streams before block ``layer``, of the float model and of the compressed one.

    ``compressed`` is the :class:`LlamaLM` whose matrices the caller replaces stage by stage, between :meth:`moments` and
    :meth:`advance`. Memory: tokens x (5 widths + inner) float32.
    """

    def __init__(self, model, windows):
        self.model, self.compressed, self.layer = model, model, 0
        self._floats = [model.embed(ids) for ids in windows]
        self._mine = [x.copy() for x in self._floats]
        self._seen = None

    def replace(self, weights):
        """Matrices of the compressed model by full name."""
        self.compressed = self.compressed.replaced(weights)

    def moments(self, stage):
        """:class:`Moments` of the products of one of STAGES, those of the stages before being replaced."""
        hessian, drift = 0.0, 0.0
        for y, (inputs, _, _) in zip(self._mine, self._trace(), strict=True):
            mine = trace(self.compressed, self.layer, y, until=stage[0])[0][stage[0]]
            # Single precision within a window of tokens, double across windows.
            hessian = hessian + (mine.T @ mine).astype(np.float64)
            drift = drift + ((inputs[stage[0]] - mine).T @ mine).astype(np.float64)
        return Moments(hessian, drift)

    def sensitivity(self, stage):
        """``(hessian [k, k], weight)`` from the float model alone: the moments of the stage's inputs, and |branch|^2 /
        |stream|^2, mean over tokens, of the half block (attention or feed-forward) that the stage belongs to."""
        hessian, parts = 0.0, []
        for x, (inputs, middle, output) in zip(self._floats, self._trace(), strict=True):
            h = inputs[stage[0]]
            hessian = hessian + (h.T @ h).astype(np.float64)
            before, after = (x, middle) if stage in STAGES[:2] else (middle, output)
            parts.append(((after - before) ** 2).sum(axis=1) / (after**2).sum(axis=1))
        return hessian, float(np.mean(np.concatenate(parts)))

    def advance(self):
        """On to the next block, with the matrices as they are now."""
        self._floats = [output for _, _, output in self._trace()]
        self._mine = [trace(self.compressed, self.layer, y)[2] for y in self._mine]
        self._seen = None
        self.layer += 1

    def _trace(self):
        """The float model's :func:`trace` of the block for each window."""
        if self._seen is None:
            self._seen = [trace(self.model, self.layer, x) for x in self._floats]
        return self._seen

    def divergence(self):
        """|r - s|^2 / |r|^2 of the two residual streams over all tokens."""
        pairs = list(zip(self._floats, self._mine, strict=True))
        return sum(float(((x - y) ** 2).sum()) for x, y in pairs) / sum(float((x**2).sum()) for x, _ in pairs)
