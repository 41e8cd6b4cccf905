"""One step of N:M sparse training: forward, loss, backward, weight gradients, update, and the next step's pruned weights.

Forward products take weights pruned along their inputs, input gradients take weights pruned along their outputs (both from the
float32 master weights), weight gradients are dense. What passes between layers is bfloat16; logits, weight gradients, momentum
and master weights are float32.
"""

from dataclasses import dataclass

import numpy as np

from ...models.formats.bf16 import BF16
from ...models.golden.nm_load import phase_weights
from ...models.golden.nm_prune import keep_mask
from ...models.spec.errors import InputError
from .device import Operand
from .loss import cross_entropy
from .network import Conv, Flatten, Linear, Patches, Relu

__all__ = ["Outcome", "Packed", "Step", "patches"]

_FINITE = "stay finite (take a lower learning rate)"


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A layer's operands of the next step: ``forward``; ``backward``, one a phase (None without taps)."""

    forward: Operand
    backward: tuple


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a step leaves: new ``weights`` and ``momentum``, their :class:`Packed` operands, the ``loss`` before it."""

    weights: dict
    momentum: dict
    packed: dict
    loss: float


class Step:
    """Steps of a network on a device as a schedule has them. Nothing is kept here: each call takes and returns the state."""

    def __init__(self, network, schedule, device):
        self.network, self.schedule, self.device = network, schedule, device

    def pack(self, weights):
        """{name: :class:`Packed`} of master ``weights`` {name: float32 [outputs, kernel, kernel, inputs]}."""
        packed, prune = {}, self.device.prune
        for name, layer in self.network.weighted.items():
            plan, w = self.schedule.layers[name], weights[name]
            with self.device.within(name, "forward"):
                front = prune(w.reshape(len(w), -1), *plan.forward_pattern)
            with self.device.within(name, "backward"):
                phases = [] if layer.first else layer.phases(self.schedule.batch)
                back = tuple(phase.window and prune(phase_weights(w, phase), *plan.backward_pattern) for phase in phases)
            packed[name] = Packed(forward=front, backward=back)
        return packed

    def forward(self, packed, images):
        """(logits float32 [batch, classes], the input of each layer) of ``images`` bfloat16 [batch, height, width, channels]."""
        x, inputs = images, []
        for layer in self.network.layers:
            inputs.append(x)
            if isinstance(layer, Patches):
                x = patches(x, layer.size)
            elif isinstance(layer, Flatten):
                x = x.reshape(len(x), -1)
            elif isinstance(layer, Relu):
                x = _where_positive(x, x)
            else:
                with self.device.within(layer.name, "forward"):
                    x = self._forward_product(self.network.weighted[layer.name], packed[layer.name].forward, x)
        return x, inputs

    def _forward_product(self, place, operand, x):
        rows = self.device.rows(x.reshape(place.map_shape(len(x))), place.window(len(x)))
        dataflow = self.schedule.layers[place.name].forward.dataflow
        y = self.device.product(rows, operand, dataflow=dataflow, narrow=not place.last)
        return y if place.linear else y.reshape(place.out_shape(len(x)))

    def gradients(self, packed, inputs, gradient):
        """{name: float32 gradient of the weights} from the logits' ``gradient`` bfloat16 and what :meth:`forward` kept."""
        found, dy = {}, gradient
        for layer, x in zip(reversed(self.network.layers), reversed(inputs), strict=True):
            if isinstance(layer, Relu):
                dy = _where_positive(x, dy)
            elif isinstance(layer, Conv | Linear):
                place, batch = self.network.weighted[layer.name], len(x)
                x_map, dy_map = x.reshape(place.map_shape(batch)), dy.reshape(place.out_shape(batch))
                with self.device.within(layer.name, "weight"):
                    found[layer.name] = self._weight_gradient(place, x_map, dy_map, batch)
                if place.first:
                    break
                with self.device.within(layer.name, "backward"):
                    dy = self._input_gradient(place, packed[layer.name].backward, dy_map, x_map.shape, batch)
            dy = dy.reshape(x.shape)
        return found

    def _weight_gradient(self, place, x, dy, batch):
        choice, device = self.schedule.layers[place.name].weight, self.device
        left, right = (x, dy) if choice.turned else (dy, x)
        b = Operand.dense(device.columns(right, place.window(batch)))
        y = device.product(device.transposed(left), b, dataflow=choice.dataflow)
        return np.ascontiguousarray(y.T if choice.turned else y).reshape(place.shape)

    def _input_gradient(self, place, operands, dy, shape, batch):
        out, device = np.zeros(shape, BF16), self.device
        for phase, choice, operand in zip(place.phases(batch), self.schedule.layers[place.name].backward, operands, strict=True):
            if choice is not None:
                y = device.product(device.rows(dy, phase.window), operand, dataflow=choice.dataflow, narrow=True)
                part = out[:, phase.row :: phase.stride, phase.column :: phase.stride]
                part[:] = y.reshape(part.shape)
        return out

    def __call__(self, weights, momentum, packed, images, labels, rule):
        """The :class:`Outcome` of a step with a batch: ``images`` as :meth:`forward` takes them, integer ``labels``; ``rule``:
        the fields of ``NmUpdateJob`` but for n. InputError, with nothing changed, where loss or weights would not stay finite."""
        logits, inputs = self.forward(packed, images)
        loss, gradient, _ = cross_entropy(logits, labels)
        if not np.isfinite(loss):
            raise InputError("training", "loss", _FINITE, loss)
        found = self.gradients(packed, inputs, gradient)
        new, moved = {}, {}
        for name, g in found.items():
            keep = self._kept(packed[name].forward, weights[name]) if rule.get("pruned_decay") else None
            with self.device.within(name, "update"):
                new[name], moved[name] = self.device.update(weights[name], g, momentum[name], keep, **rule)
            if not (np.isfinite(new[name]).all() and np.isfinite(moved[name]).all()):
                raise InputError("training", f"weights of {name}", _FINITE, "NaN or infinity")
        # In the order of the layers, whatever the order of their updates.
        new, moved = ({name: part[name] for name in weights} for part in (new, moved))
        return Outcome(weights=new, momentum=moved, packed=self.pack(new), loss=loss)

    def _kept(self, operand, w):
        """bool of the shape of ``w``: what the forward pass kept."""
        if operand.group == 1:
            return np.ones(w.shape, bool)
        return keep_mask(operand.index, len(w), operand.k, operand.group).reshape(w.shape)


def _where_positive(x, values):
    """``values`` where x is above 0 or NaN, else 0: a NaN must not be lost."""
    with np.errstate(invalid="ignore"):
        return np.where(x <= 0, BF16.type(0), values)


def patches(images, size):
    """[batch, height / size, width / size, size * size * channels] of maps: squares as pixels, rows of a square one by one."""
    batch, height, width, channels = images.shape
    parts = images.reshape(batch, height // size, size, width // size, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(parts).reshape(batch, height // size, width // size, size * size * channels)
