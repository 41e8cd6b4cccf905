"""What runs each operator of an ONNX graph, for ``check``: engines, the host, or nothing, and then what to use instead."""

from collections import Counter

from .onnx_match import ATTENTION, HOST, VECTOR
from .onnx_patterns import find_patterns
from .onnx_support import operator_of

__all__ = ["describe_operators"]

COMPUTED = "a product of two computed values outside attention"


def describe_operators(nodes):
    """A dict for each kind of operation: op, number, runs_on, reason; for each refused node: also node and nearest.

    ``runs_on``: "attention engine", "vector engine", "layer" (its matrix is a layer of the graph), "host", "unsupported".
    """
    refused, patterns = [], find_patterns(nodes)
    inside = {id(node) for pattern in patterns for node in pattern.nodes}
    for node in nodes.nodes:
        operator = operator_of(node)
        if reason := operator.refuses(node, nodes):
            refused.append({"op": node.op, "number": 1, "runs_on": "unsupported", "reason": reason, "node": node.name,
                            "nearest": operator.nearest or operator.form})
            inside.add(id(node))
    rows = Counter((pattern.op, pattern.runs_on, pattern.detail) for pattern in patterns)
    for node in nodes.nodes:
        if node.layer:
            rows[node.op, "layer", ""] += 1
        elif id(node) not in inside:
            rows[node.op, HOST, COMPUTED if node.op in ("MatMul", "MatMulInteger") else ""] += 1
    order = {ATTENTION: 0, VECTOR: 1, "layer": 2, HOST: 3}
    made = [{"op": op, "number": number, "runs_on": runs_on, "reason": reason} for (op, runs_on, reason), number in rows.items()]
    return sorted(made, key=lambda row: order[row["runs_on"]]) + refused
