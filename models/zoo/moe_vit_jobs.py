"""Jobs of a vision transformer with experts for four engines, and what runs them."""

from dataclasses import dataclass

import numpy as np

from sparseloom.models.golden.engines import results
from sparseloom.models.spec.attention import Attention
from sparseloom.models.spec.moe_gate import MoeGate
from sparseloom.models.spec.moe_linear import MoeLinear
from sparseloom.models.spec.vector import Vector

__all__ = ["Engines", "Queues", "make_builds"]

UNIT = 1 << 15
"""The mantissa of every activation's scale: the scale itself is in those of the weights' rows."""


def make_builds(config, images=1):
    """The builds that run ``images`` images of a network in the same jobs, by the part of the work that they do."""
    width, tokens = config["width"], (config["side"] // config["patch"]) ** 2 + 1
    inner = max(config["hidden"], config["expert_hidden"])
    return {
        "linear": MoeLinear(max_m=images * tokens, max_k=max(width, inner, config["patch"] ** 2),
                            max_n=max(3 * width, inner, config["experts"], *config["tasks"].values()), score_n=width,
                            max_experts=max(2, config["experts"]), max_top_k=config["top_k"]),
        "norm": Vector(function="layernorm", max_m=images * tokens, max_k=width),
        "attention": Attention(max_queries=tokens, max_keys=tokens, max_d=width // config["heads"],
                               max_heads=images * config["heads"]),
        "gate": MoeGate(max_m=images * tokens, max_experts=max(2, config["experts"]), max_top_k=config["top_k"],
                        max_tasks=1),
    }


@dataclass(frozen=True)
class Queues:
    """What a gate leaves: tokens of each expert, and the score of each place of the queue."""

    routes: tuple
    scores: np.ndarray


class Engines:
    """Runs jobs: ``run(build, job, operands)`` returns a job's results; the golden models do if it is None.

    ``jobs`` counts those that ran, by part; ``saturated`` the numbers that were clamped.
    """

    def __init__(self, builds, run=None):
        self.builds, self._run = builds, results if run is None else run
        self.jobs, self.saturated = dict.fromkeys(builds, 0), 0

    def _do(self, part, operands, **shape):
        build = self.builds[part]
        result = self._run(build, build.job(**shape), operands)
        self.jobs[part] += 1
        self.saturated += int(result["saturated"])
        return result

    def linear(self, x, matrix):
        """int32 [m, n] of x int8 [m, k]: a dense layer."""
        return self._product(x, matrix, m=len(x))

    def gather(self, x, queues, matrix):
        """int32 [pairs, n]: of each place of the queue, its token's row of x [m, k] in its expert's layer."""
        return self._product(x, matrix, m=len(x), **self._queued(matrix, queues))

    def scatter(self, x, queues, matrix, m):
        """int32 [m, n]: of each token, the sum of its experts' layers of the queue's rows x [pairs, k], weighted by scores."""
        return self._product(x, matrix, queues.scores, m=m, use_score=True, **self._queued(matrix, queues))

    def _queued(self, matrix, queues):
        return {"experts": len(matrix.codes), "top_k": self.builds["linear"].max_top_k, "routes": queues.routes}

    def _product(self, x, matrix, score=None, **shape):
        _, n, k = matrix.codes.shape
        if matrix.narrow:
            shape |= {"narrow": True, "out_multiplier": matrix.narrow[0], "out_shift": matrix.narrow[1]}
        operands = {"x": x, "x_scale": np.full(len(x), UNIT, np.int32), "w": matrix.codes, "w_scale": matrix.scales,
                    "bias": matrix.bias}
        if score is not None:
            operands["score"] = score
        return self._do("linear", operands, k=k, n=n, shift=matrix.shift, gelu=matrix.gelu, **shape)["y"]

    def norm(self, x, norm):
        """int8 [m, k] of x int32 [m, k]."""
        operands = {"x": x, "gamma": norm.gamma, "beta": norm.beta}
        y = self._do("norm", operands, m=len(x), k=x.shape[1], shift=norm.shift, eps=norm.eps, narrow=True,
                     out_shift=norm.out_shift)["y"]
        return y.astype(np.int8)

    def attention(self, q, k, v, scales):
        """int32 [heads, tokens, d] of int8 [heads, tokens, d]."""
        heads, tokens, d = q.shape
        operands = {"q": q, "k": k, "v": v}
        for name in "qkv":
            operands[f"{name}_scale"] = np.full((heads, tokens), getattr(scales, f"{name}_scale"), np.int32)
        return self._do("attention", operands, queries=tokens, keys=tokens, d=d, heads=heads, shift=scales.shift,
                        fraction=scales.fraction)["y"]

    def gate(self, logits, scale, top_k):
        """:class:`Queues` of int32 logits [m, experts]; ``scale``: (multiplier, shift) to log2 units with 10 fraction bits."""
        found = self._do("gate", {"logits": logits[None]}, m=len(logits), experts=logits.shape[1], top_k=top_k,
                         multiplier=scale[0], shift=scale[1])
        ends = np.searchsorted(found["expert"], np.arange(logits.shape[1] + 1))  # pairs are sorted by expert
        tokens = found["token"].tolist()
        return Queues(tuple(tuple(tokens[a:b]) for a, b in zip(ends, ends[1:], strict=False)), found["score"])
