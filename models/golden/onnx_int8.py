"""The products of a graph in an engine's arithmetic: int8 codes, exact integer sums, one multiplication by the scales."""

import numpy as np

from ..formats.quantize import quantize_groups
from .onnx_products import integer_product

__all__ = ["Int8"]

CODES = 255


class Int8:
    """``linear``, ``coded`` and ``product`` for :func:`.onnx_run.run`: operands rounded to int8, sums exact.

    ``linear(name, x)``: x by absmax codes for each token, the weight as the graph's layer has it (int8 for each row, groups, or
    trits), each once loaded and kept. ``coded(name, codes, scale, zero)``: x in the file's own codes, so that nothing is rounded
    before the scales; unsigned codes q of zero z are for an engine q - 128, int8, and (128 - z) times the sums of the weights.
    ``product(a, b)``: a by codes for each row, b for each column. A float32 operand that is not finite is a ValueError.
    """

    def __init__(self, graph):
        self._layers = {layer.name: layer.weight for layer in graph.on("engine")}
        self._kept = {}

    def linear(self, name, x):
        """float32 [m, n]; KeyError for a layer that no engine takes."""
        return self._multiply(name, *quantize_groups(x))

    def coded(self, name, codes, scale, zero):
        """float32 [m, n] of integers [m, k]; ValueError for codes of more than 8 bits."""
        low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
        if high - low > CODES or low < -CODES or high > CODES:
            raise ValueError(f"codes must be of 8 bits, got {low}..{high}")
        return self._multiply(name, codes - zero, np.float32(scale))

    def _multiply(self, name, codes, scale):
        """float32: the integers times the layer's weights, exact sums in each of its groups, times ``scale``."""
        if name not in self._kept:
            self._kept[name] = self._layers[name].load()
        weight = self._kept[name]
        if weight.kind == "ternary":
            return integer_product(codes, weight.trits.T).astype(np.float32) * (scale * np.float32(weight.scale))
        if weight.order is not None:
            codes = codes[:, weight.order]
        integers, group, total = weight.integers(), weight.scale_group, 0
        for at, start in enumerate(range(0, weight.k, group)):
            part = slice(start, start + group)
            sums = integer_product(codes[:, part], integers[:, part].T).astype(np.float32) * weight.scale[:, at]
            if weight.offset is not None:
                sums = sums + codes[:, part].sum(axis=1, keepdims=True, dtype=np.int64).astype(np.float32) * weight.offset[:, at]
            total = total + sums
        return total * scale

    def product(self, a, b):
        """float32: the product of two float arrays, as NumPy's matmul has it."""
        left, left_scale = quantize_groups(a)
        turned = b[:, None] if b.ndim == 1 else b
        right, right_scale = quantize_groups(np.swapaxes(turned, -1, -2))
        sums = integer_product(left if a.ndim > 1 else left[None], np.swapaxes(right, -1, -2)).astype(np.float32)
        y = sums * (left_scale if a.ndim > 1 else left_scale[None]) * np.swapaxes(right_scale, -1, -2)
        y = y[..., 0, :] if a.ndim == 1 else y
        return y[..., 0] if b.ndim == 1 else y
