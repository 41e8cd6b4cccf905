"""From a graph to a plan: which layers an engine build takes and why not the others, their tiles, their packed weights."""

from contextlib import contextmanager
from dataclasses import dataclass

from ..models.graph import Layer
from ..models.spec.errors import InputError
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
        elif where == "engine":
            reason = family.refuses(build, layer)
            where = "unsupported" if reason else where
        placements.append(Placement(layer, where, reason))
    return placements


def compile_graph(graph, build, *, x_group=None, progress=None):
    """The program of a graph's engine layers: a :class:`Plan` with packed weights.

    ``x_group``: columns that share an activation scale, 0 for a whole token, None for the family's choice. Weights are read,
    checked and packed one layer at a time; ``progress()`` is called after each. Layers of the host or without support are left
    out: :func:`place` tells. InputError for weights that are not legal.
    """
    family = family_of(build)
    layers, stored = {}, {}
    for placement in place(graph, build):
        if placement.where != "engine":
            continue
        weight = placement.layer.weight.load()
        name = placement.layer.name
        with named(graph, name):
            said, vectors, operand = family.prepare(build, weight, x_group)
        layers[name] = LayerPlan(name, weight.n, weight.k, **said)
        stored |= {f"{name}/{vector}": array for vector, array in vectors.items()}
        plan = Plan(build, layers)
        for tile in plan.tiles(name):
            stored[tile.name] = family.pack(build, plan.job(name, tile, 1), family.cut(operand, tile.rows, tile.columns))
        if progress:
            progress()
    return Plan(build, layers, stored, graph.source or graph.name)


def outline(graph, build):
    """The plan without weights, from shapes and forms alone: enough for tiles, beats, bytes and cycles."""
    family, layers = family_of(build), {}
    for placement in place(graph, build):
        if placement.where == "engine":
            layer = placement.layer
            with named(graph, layer.name):
                layers[layer.name] = LayerPlan(layer.name, layer.n, layer.k, form=family.form(build, layer.weight))
    return Plan(build, layers, source=graph.source or graph.name)


@contextmanager
def named(graph, layer):
    """An InputError from inside names the graph's file and the layer."""
    try:
        yield
    except InputError as error:
        raise InputError(graph.source or graph.name, f"{layer}, {error.field}", error.rule, error.value) from None
