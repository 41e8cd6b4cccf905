"""What one run of a graph asks of engines and host, operation by operation with its sizes: for estimates of whole models."""

import math
from dataclasses import dataclass

from ..importers.onnx_patterns import find_patterns
from .onnx_run import run

__all__ = ["Operation", "workload"]

PRODUCTS = ("MatMul", "MatMulInteger", "QLinearMatMul", "Gemm")
CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclass(frozen=True, kw_only=True)
class Operation:
    """``op`` is "linear" (sizes m, n, k), "attention" (heads, queries, keys, d; heads of all images), "layer norm", "RMS norm"
    (m rows of k), "GELU", "SiLU", "sigmoid" (elements), "convolution", "product" (macs, on the host) or an ONNX operator
    (elements of its result, on the host). ``name``: the layer's, or a node's. ``macs``: multiply-accumulates."""

    op: str
    name: str
    runs_on: str
    sizes: dict[str, int]
    macs: int = 0


def workload(graph, inputs, **options):
    """Every :class:`Operation` of a run of ``graph`` (with nodes) on ``inputs``, in order. ``options`` as :func:`.onnx_run.run`
    takes them; InputError as there."""
    shapes = {}
    patterns = find_patterns(graph.nodes)
    last = {id(graph.nodes.producers[pattern.output]): pattern for pattern in patterns}
    inside = {id(node) for pattern in patterns for node in pattern.nodes}
    found = []

    def see(node, given, made):
        for name, value in zip((*node.inputs, *node.outputs), (*given, *made), strict=False):
            if name and value is not None:
                shapes[name] = value.shape
        if id(node) in last:
            found.append(of_pattern(last[id(node)], shapes))
        elif id(node) not in inside:
            found.append(of_node(graph, node, given, made))

    run(graph, inputs, observe=see, **options)
    return found


def of_pattern(pattern, shapes):
    name = pattern.nodes[-1].name
    x = shapes[pattern.inputs[0]]
    if pattern.op == "attention":
        keys, width = shapes[pattern.inputs[1]][-1], shapes[pattern.inputs[2]][-1]
        out = shapes[pattern.output]
        sizes = {"heads": math.prod(out[:-2]), "queries": out[-2], "keys": keys, "d": x[-1]}
        macs = math.prod(out[:-1]) * keys * (x[-1] + width)
        return Operation(op=pattern.op, name=name, runs_on=pattern.runs_on, sizes=sizes, macs=macs)
    if pattern.op in ("layer norm", "RMS norm"):
        return Operation(op=pattern.op, name=name, runs_on=pattern.runs_on, sizes={"m": math.prod(x[:-1]), "k": x[-1]})
    return Operation(op=pattern.op, name=name, runs_on=pattern.runs_on, sizes={"elements": math.prod(x)})


def of_node(graph, node, given, made):
    out = made[0].shape
    elements = {"elements": math.prod(out)}
    if node.layer:
        layer = graph[node.layer]
        sizes = {"m": math.prod(out) // layer.n, "n": layer.n, "k": layer.k}
        return Operation(op="linear", name=node.layer, runs_on=layer.runs_on, sizes=sizes, macs=math.prod(sizes.values()))
    if node.op in CONVOLUTIONS and not node.domain:
        weight, x = given[1].shape, given[0].shape
        # a place of the result (of the input, if transposed) meets one weight of each of its channels and window
        macs = math.prod(out) * math.prod(weight[1:]) if node.op == "Conv" else math.prod(x) * math.prod(weight[1:])
        return Operation(op="convolution", name=node.name, runs_on="host", sizes=elements, macs=macs)
    if node.op in PRODUCTS and not node.domain:
        k = given[0].shape[-1] if given[0].ndim else 1
        return Operation(op="product", name=node.name, runs_on="host", sizes=elements, macs=math.prod(out) * k)
    return Operation(op=node.op, name=node.name, runs_on="host", sizes=elements)
