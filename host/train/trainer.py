"""A training: the recipe, the state, and the loop over batches in an order that a seed fixes."""

from dataclasses import asdict, dataclass, field, fields, replace
from math import isfinite

import numpy as np

from ...models.spec.errors import InputError, check_choice, check_int
from ...models.spec.nm_pattern import check_pattern
from .device import GoldenDevice
from .schedule import SCHEMES, schedule
from .step import Step

__all__ = ["RULES", "Recipe", "State", "Trainer"]

RULES = ("sgd", "lion")
_AT_MOST_ONE = ("momentum", "beta1", "beta2")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained: ``scheme`` with ``nnz`` of ``group``, batches of ``batch`` images, ``rule`` with its numbers.

    The learning rate rises to ``lr`` over ``warm`` steps and halves every ``halve`` epochs, whatever the length of the training,
    so that it can be resumed and go on longer. The decay of pruned weights rises to ``pruned_decay`` over ``pruned_rise`` steps.
    TypeError or ValueError for what is no recipe.
    """

    scheme: str = "bdwp"
    nnz: int = 2
    group: int = 8
    batch: int = 64
    seed: int = 1
    rule: str = "sgd"
    lr: float = 0.0625
    warm: int = 50
    halve: int = 4
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0
    pruned_decay: float = 0.0
    pruned_rise: int = 1

    def __post_init__(self):
        check_choice("scheme", self.scheme, SCHEMES), check_choice("rule", self.rule, RULES)
        check_pattern(self.nnz, self.group)
        for name, low, high in (("batch", 1, 4096), ("seed", 0, 2**63), ("warm", 1, 10**6), ("halve", 1, 10**6),
                                ("pruned_rise", 1, 10**6)):
            object.__setattr__(self, name, check_int(name, getattr(self, name), low, high))
        for name in (item.name for item in fields(self) if item.type is float):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise TypeError(f"{name} must be a number, got {value!r}")
            most = 1 if name in _AT_MOST_ONE else 1e6
            if not (isfinite(value) and 0 <= value <= most) or (name == "lr" and value == 0):
                raise ValueError(f"{name} must be {'above 0' if name == 'lr' else '0'} to {most:g}, got {value}")
            object.__setattr__(self, name, float(value))

    def update(self, step, epoch):
        """The fields of an update's job in a step of an epoch, both counted from 0."""
        numbers = ("momentum",) if self.rule == "sgd" else ("beta1", "beta2")
        lr = self.lr * min(1, (step + 1) / self.warm) * 0.5 ** (epoch // self.halve)
        pruned_decay = self.pruned_decay * min(1, (step + 1) / self.pruned_rise)
        return {"rule": self.rule, "lr": lr, "weight_decay": self.weight_decay, "pruned_decay": pruned_decay,
                **{name: getattr(self, name) for name in numbers}}


@dataclass(frozen=True, kw_only=True)
class State:
    """Everything that the next step depends on: master ``weights`` and ``momentum`` {name: float32}, steps done. ``losses``: of
    each step, float64; ``held``: (step, right answers among the held-out images) of each evaluation."""

    weights: dict
    momentum: dict
    step: int = 0
    losses: tuple = field(default=())
    held: tuple = field(default=())


class Trainer:
    """Trains ``network`` on ``data`` with ``device`` by ``recipe``; the same four give the same bits on any device.

    InputError where data and network do not fit, or a batch is larger than the data.
    """

    def __init__(self, network, data, device, recipe):
        self.network, self.data, self.device, self.recipe = network, data.checked(network), device, recipe
        if recipe.batch > len(data.labels):
            raise InputError(data.source, "batch", f"be at most {len(data.labels)}, the images for training", recipe.batch)
        self.schedule = self.scheduled(recipe.scheme)
        self._step = Step(network, self.schedule, device)
        # Evaluations are no part of a step and not booked: the golden models answer them, with the same bits.
        self._judge = Step(network, self.schedule, GoldenDevice(device.machine))
        self._packed = None, None

    def scheduled(self, scheme):
        """The schedule of this training under another scheme."""
        recipe = self.recipe
        try:
            return schedule(self.network, self.device.machine, batch=recipe.batch, scheme=scheme, nnz=recipe.nnz,
                            group=recipe.group)
        except ValueError as error:
            raise InputError(self.network.name, "products", "fit the array", str(error)) from None

    @property
    def epoch_steps(self):
        """Steps of an epoch: whole batches; the images left over change from epoch to epoch."""
        return len(self.data.labels) // self.recipe.batch

    def start(self):
        """The state before the first step."""
        weights = self.network.initial_weights(self.recipe.seed)
        return State(weights=weights, momentum={name: np.zeros_like(w) for name, w in weights.items()})

    def batch(self, step):
        """(images, labels) of a step."""
        epoch, place = divmod(step, self.epoch_steps)
        order = np.random.default_rng([self.recipe.seed, 1, epoch]).permutation(len(self.data.labels))
        chosen = order[place * self.recipe.batch : (place + 1) * self.recipe.batch]
        return self.data.images[chosen], self.data.labels[chosen]

    def advance(self, state):
        """The state one step later."""
        images, labels = self.batch(state.step)
        out = self._step(state.weights, state.momentum, self._operands(state), images, labels,
                         self.recipe.update(state.step, state.step // self.epoch_steps))
        self._packed = out.weights, out.packed
        return replace(state, weights=out.weights, momentum=out.momentum, step=state.step + 1, losses=(*state.losses, out.loss))

    def _operands(self, state):
        """The pruned weights: made right after the update that made the weights, or now if that was another trainer's."""
        weights, packed = self._packed
        return packed if weights is state.weights else self._step.pack(state.weights)

    def run(self, state, steps, *, evaluate=True):
        """Yield the state after each step until ``steps`` are done in all; evaluated at the end of each epoch and at the end."""
        while state.step < steps:
            state = self.advance(state)
            if evaluate and (state.step % self.epoch_steps == 0 or state.step == steps):
                state = self.judged(state)
            yield state

    def judged(self, state):
        """The state with an evaluation of it among ``held``."""
        return replace(state, held=(*(entry for entry in state.held if entry[0] != state.step), (state.step, self.right(state))))

    def right(self, state):
        """Right answers among the held-out images, with the forward pass's pruned weights."""
        packed, right = self._judge.pack(state.weights), 0
        # As many at a time as in a step: such jobs are known to fit the machine.
        for start in range(0, len(self.data.held_labels), self.recipe.batch):
            part = slice(start, start + self.recipe.batch)
            logits, _ = self._judge.forward(packed, self.data.held_images[part])
            right += int((logits.argmax(axis=1) == self.data.held_labels[part]).sum())
        return right

    def describe(self):
        """What a checkpoint must agree with: network, recipe, data."""
        return {"network": self.network.describe(), "network_digest": self.network.digest, "recipe": asdict(self.recipe),
                "data_digest": self.data.digest}
