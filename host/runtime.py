"""Runs the matrix products of a planned model on a device. NumPy, safetensors and Python 3.10 are enough: it runs on boards."""

from dataclasses import dataclass

import numpy as np

from .container import load_plan
from .device import Receipt
from .families import family_of
from .plan import Plan

__all__ = ["Call", "Runtime"]

MOST_SCALE = (1 << 16) - 1
"""Of an activation scale that devices multiply by."""


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

    def matmul(self, name, codes, scale=None):
        """The integers of a layer, int32 [m, n], for codes int8 [m, k]; exact. ValueError for another layer or shape.

        ``scale``: of 16 bits, int32 [m, groups], for layers whose activations have scales (:meth:`linear` makes both).
        """
        if name not in self.plan.layers:
            raise ValueError(f"layer must be one of the plan's {len(self.plan.layers)}, got {name!r}")
        layer, codes = self.plan.layers[name], np.asarray(codes)
        if codes.dtype != np.int8 or codes.ndim != 2 or codes.shape[1] != layer.k or not len(codes):
            raise ValueError(f"codes of {name} must be int8 [m, {layer.k}], got {codes.dtype} {list(codes.shape)}")
        groups = family_of(self.plan.build).x_groups(layer)
        if groups and np.shape(scale) != (len(codes), groups) or not groups and scale is not None:
            wanted = f"[{len(codes)}, {groups}]" if groups else "absent"
            raise ValueError(f"scale of {name} must be {wanted}, got {None if scale is None else list(np.shape(scale))}")
        if groups and not (0 <= np.min(scale) and np.max(scale) <= MOST_SCALE):
            raise ValueError(f"scale of {name} must be 0..{MOST_SCALE}, got {np.min(scale)}..{np.max(scale)}")
        y = np.zeros((len(codes), layer.n), np.int32)
        total = Receipt(self.device.basis)
        for tokens, steps in self.plan.rounds(name, len(codes)):
            for operand, columns in {tile.operand: tile.columns for tile, _ in steps}.items():
                self.device.write(operand, codes[tokens, columns], scale if scale is None else scale[tokens])
            total += self.device.run(step for _, step in steps)
            for tile, step in steps:
                y[tokens, tile.rows] += self.device.read(step.result)
        self.calls.append(Call(name, len(codes), total))
        return y

    def linear(self, name, x, matmul=None):
        """A layer on float32 ``x`` [m, k]: quantised as its family has it, multiplied on the device, float32 [m, n].

        ``matmul`` stands for :meth:`matmul` if somebody wants to see the integers.
        """
        layer, product = self.plan.layers[name], matmul or self.matmul
        return family_of(self.plan.build).linear(layer, self.plan.vectors(name), np.asarray(x, np.float32),
                                                 lambda codes, scale: product(name, codes, scale))

    def scale(self, name):
        """A layer's weight scale: its output is ``matmul(name, codes) * scale`` over the scale of the codes."""
        return self.plan.layers[name].scale
