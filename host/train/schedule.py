"""The offline schedule: before the first step, each product's data flow, pattern and sides, by the closed forms alone."""

from dataclasses import dataclass

from ...models.spec.errors import check_choice
from ...models.spec.nm_pattern import DENSE, check_pattern
from ...models.spec.nm_train_job import DATAFLOWS

__all__ = ["SCHEMES", "Choice", "LayerPlan", "Schedule", "schedule"]

SCHEMES = ("dense", "forward", "backward", "bdwp")
"""Which products take pruned weights: none, those of the forward pass, of the input gradient, or both (bidirectional)."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One product [m, k] x [k, n] as it will run. ``turned``: sides are exchanged, so that the result comes transposed."""

    m: int
    n: int
    k: int
    nnz: int
    group: int
    dataflow: str
    turned: bool
    cycles: int


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """A layer's products: ``forward``, ``backward`` (one a phase, None where it has no taps; empty for the first layer),
    ``weight``. ``forward_pattern`` and ``backward_pattern``: what its weights are pruned to."""

    forward: Choice
    backward: tuple
    weight: Choice
    forward_pattern: tuple
    backward_pattern: tuple

    @property
    def choices(self):
        return [self.forward, *(choice for choice in self.backward if choice), self.weight]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """``layers``: a :class:`LayerPlan` by name, for batches of ``batch``."""

    scheme: str
    nnz: int
    group: int
    batch: int
    layers: dict

    @property
    def cycles(self):
        """Of all products of a step, one after the other."""
        return sum(choice.cycles for plan in self.layers.values() for choice in plan.choices)

    def rows(self):
        """A dict a product, as JSON takes it."""
        rows = []
        for name, plan in self.layers.items():
            for phase, choices in (("forward", [plan.forward]), ("backward", plan.backward), ("weight", [plan.weight])):
                rows += [{"layer": name, "pass": phase, **vars(choice)} for choice in choices if choice]
        return rows


def schedule(network, machine, *, batch, scheme, nnz=2, group=8):
    """The :class:`Schedule` of steps with ``batch`` images: of both data flows, and of both sides where the operand can be had
    either way, the one with the fewest cycles; the first of equals.

    Forward groups lie along a layer's inputs, backward groups along its outputs; a direction stays dense where that number is
    no multiple of ``group``. The first layer is dense. ValueError for no scheme or pattern, or for a product too large.
    """
    scheme, (nnz, group) = check_choice("scheme", scheme, SCHEMES), check_pattern(nnz, group)
    layers = {}
    for name, layer in network.weighted.items():
        sparse = not layer.first
        forward = (nnz, group) if sparse and scheme in ("forward", "bdwp") and layer.inputs % group == 0 else DENSE
        backward = (nnz, group) if sparse and scheme in ("backward", "bdwp") and layer.outputs % group == 0 else DENSE
        window = layer.window(batch)
        pixels, k = layer.out_shape(batch)[0] * window.out_height * window.out_width, window.taps * layer.inputs
        back = (_of_phase(machine.array, layer, phase, batch, backward) for phase in ([] if layer.first else layer.phases(batch)))
        layers[name] = LayerPlan(
            forward=_fastest(machine.array, pixels, layer.outputs, k, *forward), forward_pattern=forward,
            backward=tuple(back), backward_pattern=backward,
            weight=_fastest(machine.array, layer.outputs, k, pixels, *DENSE, turn=layer.linear))
    return Schedule(scheme=scheme, nnz=nnz, group=group, batch=batch, layers=layers)


def _of_phase(array, layer, phase, batch, pattern):
    if phase.window is None:
        return None
    m = layer.map_shape(batch)[0] * phase.window.out_height * phase.window.out_width
    return _fastest(array, m, layer.inputs, phase.window.taps * layer.outputs, *pattern)


def _fastest(array, m, n, k, nnz, group, turn=False):
    best = None
    for turned in (False, True)[: 1 + turn]:
        rows, columns = (n, m) if turned else (m, n)
        for dataflow in DATAFLOWS:
            job = array.job(m=rows, n=columns, k=k, nnz=nnz, group=group, dataflow=dataflow)
            cycles = array.cycles(job)
            if best is None or cycles < best.cycles:
                best = Choice(m=rows, n=columns, k=k, nnz=nnz, group=group, dataflow=dataflow, turned=turned, cycles=cycles)
    return best
