"""From a graph to a plan: which layers an engine build takes and why not the others, their tiles, their packed weights."""

from dataclasses import dataclass

from ..models.graph import Layer
from .families import family_of
from .plan import LayerPlan, Plan

__all__ = ["Placement", "compile_graph", "outline", "place"]


@dataclass(frozen=True)
class Placement:
    """Where a layer runs: ``where`` is ``engine``, ``host`` or ``unsupported``, ``reason`` why it is not the engine."""

    layer: Layer
    where: str
    reason: str = ""


def place(graph, build):
    """A :class:`Placement` of every layer of ``graph`` on an engine ``build``. Reads shapes alone, no weights."""
    family = family_of(build)
    placements = []
    for layer in graph.layers:
        where, reason = layer.runs_on, layer.reason
        if where == "engine" and layer.weight.kind != family.kind:
            where, reason = "unsupported", f"{build.name} takes {family.kind} weights, these are {layer.weight.kind}"
        elif where == "engine" and layer.k > family.most_inputs(build):
            where, reason = "unsupported", f"sums over more than {family.most_inputs(build)} inputs may not fit int32"
        placements.append(Placement(layer, where, reason))
    return placements


def compile_graph(graph, build, *, progress=None):
    """The program of a graph's engine layers: a :class:`Plan` with packed weights.

    Weights are read, checked and packed one layer at a time; ``progress()`` is called after each. Layers of the host or without
    support are left out: :func:`place` tells. InputError for weights that are not legal.
    """
    family = family_of(build)
    layers, stored = {}, {}
    for placement in place(graph, build):
        if placement.where != "engine":
            continue
        weight = placement.layer.weight.load()
        layers[placement.layer.name] = LayerPlan(placement.layer.name, weight.n, weight.k, weight.scale)
        plan = Plan(build, layers)
        for tile in plan.tiles(placement.layer.name):
            stored[tile.name] = family.pack(build, family.cut(weight, tile.rows, tile.columns))
        if progress:
            progress()
    return Plan(build, layers, stored, graph.source or graph.name)


def outline(graph, build):
    """The plan without weights, from shapes alone: enough for tiles, beats, bytes and cycles."""
    taken = [placement.layer for placement in place(graph, build) if placement.where == "engine"]
    layers = {layer.name: LayerPlan(layer.name, layer.n, layer.k, 1.0) for layer in taken}
    return Plan(build, layers, source=graph.source or graph.name)
