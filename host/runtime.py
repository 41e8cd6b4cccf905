"""Runs the matrix products of a planned model on a device. NumPy, safetensors and Python 3.10 are enough: it runs on boards."""

from dataclasses import dataclass

import numpy as np

from .container import load_plan
from .device import Receipt
from .plan import Plan

__all__ = ["Call", "Runtime"]


@dataclass(frozen=True)
class Call:
    """One matrix product: the layer, its tokens, and what the device says it cost."""

    layer: str
    m: int
    receipt: Receipt


class Runtime:
    """A plan (or the file of one) on a device, whichever it is: the same code drives simulated gates, NumPy and boards.

    ``calls`` lists every product since the start, in order. InputError if the plan is for another build than the device's.
    """

    def __init__(self, device, plan):
        self.device = device
        self.plan = plan if isinstance(plan, Plan) else load_plan(plan)
        self.calls = []
        device.load(self.plan)

    def matmul(self, name, codes):
        """The integers of a layer, int32 [m, n], for codes int8 [m, k]; exact. ValueError for another layer or shape."""
        if name not in self.plan.layers:
            raise ValueError(f"layer must be one of the plan's {len(self.plan.layers)}, got {name!r}")
        layer, codes = self.plan.layers[name], np.asarray(codes)
        if codes.dtype != np.int8 or codes.ndim != 2 or codes.shape[1] != layer.k or not len(codes):
            raise ValueError(f"codes of {name} must be int8 [m, {layer.k}], got {codes.dtype} {list(codes.shape)}")
        y = np.zeros((len(codes), layer.n), np.int32)
        total = Receipt(self.device.basis)
        for tokens, steps in self.plan.rounds(name, len(codes)):
            for operand, columns in {tile.operand: tile.columns for tile, _ in steps}.items():
                self.device.write(operand, codes[tokens, columns])
            total += self.device.run(step for _, step in steps)
            for tile, step in steps:
                y[tokens, tile.rows] += self.device.read(step.result)
        self.calls.append(Call(name, len(codes), total))
        return y

    def scale(self, name):
        """A layer's weight scale: its output is ``matmul(name, codes) * scale`` over the scale of the codes."""
        return self.plan.layers[name].scale
