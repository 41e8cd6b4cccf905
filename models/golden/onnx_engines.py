"""The operations of a graph in the arithmetic of engines: attention, norms and activations by their golden models."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..formats.quantize import quantize_groups
from ..importers.onnx_patterns import find_patterns
from ..spec.attention import Attention
from ..spec.functions import ACTIVATION_FRACTION, FUNCTION_FRACTION
from ..spec.vector import Vector
from ..spec.vector_job import EPS_BITS, NORM_FRACTION
from .engines import results

__all__ = ["EngineOperations", "Run"]

MANTISSA_BITS, MAX_FRACTION = 16, 12
EXP_FRACTION = 10
ELEMENT_BITS = 30  # of a vector's element: bits below the sign that values may take
MOST_FRACTION, NORM_MOST_FRACTION = 16, 24
GAIN_BITS = 14
MOST_MULTIPLIER = 1 << 15
FUNCTIONS = {"layer norm": "layernorm", "RMS norm": "rmsnorm", "GELU": "gelu", "SiLU": "silu", "sigmoid": "sigmoid"}
SIGMOID_FRACTION = 15


@dataclass(frozen=True)
class Run:
    """One job: of the pattern ``name``, on ``build``; how many results and scores were clamped."""

    name: str
    build: Any
    job: Any
    saturated: int


class EngineOperations:
    """``operations`` for :func:`.onnx_run.run`: what an engine has of the patterns of ``graph``.

    Attention: q, k and v in int8 codes with a scale for each token, scores and softmax in the engine's integers. Norms and
    activations: int32 elements with as many fraction bits as the largest value leaves, up to 24 and 16. Attention with a mask or
    bias that is not a causal constant is left to the host. ``score``: as the attention engine has it. ``execute(build, job,
    operands)`` gives ``y`` and ``saturated``; the golden model if it is None. ``jobs``: a :class:`Run` for each job.
    """

    def __init__(self, graph, score="two_pass", execute=None):
        self.jobs, self._score, self._constants, self._execute = [], score, graph.nodes.constants, execute or results
        self.operations = {}
        for pattern in find_patterns(graph.nodes):
            if pattern.op == "attention" and not pattern.detail:
                self.operations[pattern.output] = pattern.inputs, self._taken(pattern, self._attention)
            elif pattern.op in FUNCTIONS and not pattern.detail:
                self.operations[pattern.output] = pattern.inputs, self._taken(pattern, self._vector)

    @staticmethod
    def _taken(pattern, function):
        return lambda *inputs: function(pattern, *inputs)

    def _attention(self, pattern, q, k, v):
        """float32 softmax(q k scale) v of q [..., queries, d], k [..., d, keys], v [..., keys, d]; None for other shapes."""
        causal = pattern.said["causal"]
        if pattern.said["axis"] not in (-1, q.ndim - 1) or causal not in (None, (q.shape[-2], k.shape[-1])):
            return None
        if q.ndim < 2 or k.ndim != q.ndim or v.ndim != q.ndim or not q.shape[:-2] == k.shape[:-2] == v.shape[:-2] \
                or v.shape[-1] != q.shape[-1] or pattern.said["scale"] <= 0:
            return None
        if not all(array.size and np.isfinite(array).all() for array in (q, k, v)):
            return None
        lead, (queries, d), keys = q.shape[:-2], q.shape[-2:], v.shape[-2]
        heads = math.prod(lead)
        arrays = q.reshape(heads, queries, d), np.swapaxes(k, -1, -2).reshape(heads, keys, d), v.reshape(heads, keys, d)
        coded = [quantize_groups(array) for array in arrays]
        factor = pattern.said["scale"] * math.log2(math.e)
        scales = [scale[..., 0].astype(np.float64) for _, scale in coded]
        (q_scale, q_bits), (k_scale, k_bits), (v_scale, v_bits) = (
            mantissas(scale) for scale in (scales[0] * factor, scales[1], scales[2]))
        shift = q_bits + k_bits - EXP_FRACTION
        if not 17 <= shift <= 63:
            return None
        build = Attention(score=self._score, max_queries=queries, max_keys=keys, max_d=d, max_heads=heads)
        job = build.job(queries=queries, keys=keys, d=d, heads=heads, shift=shift, fraction=MAX_FRACTION,
                        causal=causal is not None)
        operands = {"q": coded[0][0], "k": coded[1][0], "v": coded[2][0], "q_scale": q_scale, "k_scale": k_scale,
                    "v_scale": v_scale}
        found = self._execute(build, job, operands)
        self.jobs.append(Run(pattern.output, build, job, found["saturated"]))
        y = found["y"].astype(np.float64) * 2.0 ** (16 - MAX_FRACTION - v_bits)
        return y.astype(np.float32).reshape(*lead, queries, d)

    def _vector(self, pattern, x):
        """float32 like ``x``: a norm of its last axis or an activation."""
        if not x.ndim or pattern.said.get("axis", -1) not in (-1, x.ndim - 1):
            return None
        rows = x.reshape(-1, x.shape[-1])
        function = FUNCTIONS[pattern.op]
        most = float(np.abs(rows).max(initial=0))
        limit = MOST_FRACTION
        if "epsilon" in pattern.said:  # the job's eps is epsilon * (k * 2**fraction)**2
            limit = min(NORM_MOST_FRACTION, (EPS_BITS - math.frexp(pattern.said["epsilon"] * rows.shape[1] ** 2)[1]) // 2)
        fraction = min(limit, ELEMENT_BITS - max(0, math.frexp(most)[1]))
        if not rows.size or fraction < 0 or not math.isfinite(most):
            return None
        build = Vector(function=function, max_m=len(rows), max_k=rows.shape[1])
        operands = {"x": np.rint(rows.astype(np.float64) * 2.0**fraction).astype(np.int32)}
        if function in ("layernorm", "rmsnorm"):
            made = self._norm(pattern, build, fraction, rows.shape, operands)
            if made is None:
                return None
            job, result = made
        else:
            wanted, result = (FUNCTION_FRACTION, SIGMOID_FRACTION) if function == "sigmoid" else 2 * (ACTIVATION_FRACTION,)
            job = build.job(m=len(rows), k=rows.shape[1], in_shift=max(0, fraction - wanted),
                            in_multiplier=min(1 << max(0, wanted - fraction), MOST_MULTIPLIER))
        found = self._execute(build, job, operands)
        self.jobs.append(Run(pattern.output, build, job, found["saturated"]))
        return (found["y"].astype(np.float64) * 2.0**-result).astype(np.float32).reshape(x.shape)

    def _norm(self, pattern, build, fraction, shape, operands):
        """``(job, fraction of the result)``; gain and bias go to the operands. None if they are not one for each element."""
        (m, k), parts = shape, []
        for name, default in (("gain", 1), ("bias", 0)):
            part = self._constants[pattern.said[name]] if pattern.said[name] else np.float32(default)
            if part.size not in (1, k) or part.size == k > 1 and part.shape[-1] != k or not np.isfinite(part).all():
                return None
            parts.append(np.broadcast_to(part.reshape(-1), (k,)).astype(np.float64))
        gain, bias = parts
        gain_bits = GAIN_BITS - max(0, math.frexp(float(np.abs(gain).max()))[1])
        result = min(MOST_FRACTION, ELEMENT_BITS - max(1, math.frexp(float(np.abs(bias).max()))[1]))
        operands["gamma"] = np.rint(gain * 2.0**gain_bits).astype(np.int16)
        operands["beta"] = np.rint(bias * 2.0**result).astype(np.int32)
        eps = round(pattern.said["epsilon"] * k * k * 4.0**fraction)
        return build.job(m=m, k=k, eps=eps, shift=NORM_FRACTION + gain_bits - result), result


def mantissas(scales):
    """``(int32 like scales, bits)``: 16-bit unsigned mantissas, scale about mantissa / 2**bits, the exponent shared by all."""
    most = float(scales.max(initial=0))
    bits = MANTISSA_BITS - math.frexp(most)[1] if most > 0 else MANTISSA_BITS
    return np.minimum(np.rint(scales * 2.0**bits), (1 << MANTISSA_BITS) - 1).astype(np.int32), bits
