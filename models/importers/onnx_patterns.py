"""Groups of ONNX operators that are one operation of an engine: attention, norms, activations."""

import math

from .onnx_attention import attention
from .onnx_match import HOST, VECTOR, Pattern, base, close, number, only_axis, other, source, uses

__all__ = ["find_patterns"]

CUBE = 0.044715  # of the tanh form
TANH_DETAIL = "the engine's GELU is the erf form, which is within 4.8e-4 of it"


def find_patterns(nodes):
    """Every :class:`Pattern` of ``nodes``, in order; a node belongs to one at most."""
    found, taken = [], set()
    for node in nodes.nodes:
        make = ANCHORS.get(node.op) if not node.domain and node.outputs and node.outputs[0] else None
        pattern = make(nodes, node) if make else None
        if pattern is not None and pattern.output and taken.isdisjoint(map(id, pattern.nodes)):
            found.append(pattern)
            taken.update(map(id, pattern.nodes))
    return tuple(found)


def layer_norm(nodes, node):
    if node.attributes.get("axis", -1) != -1 or any(name not in nodes.constants for name in node.inputs[1:] if name):
        return Pattern("layer norm", HOST, (node,), (node.input(0),), node.outputs[0], "not over the last axis by constants")
    said = {"axis": -1, "epsilon": node.attributes.get("epsilon", 1e-5), "gain": node.input(1), "bias": node.input(2)}
    return Pattern("layer norm", VECTOR, (node,), (node.input(0),), node.outputs[0], said=said)


def norm(nodes, node):
    """x less its mean, over the root of its mean square and a small number; without the mean it is an RMS norm."""
    chain = [node]
    add = source(nodes, node.input(0), chain)
    epsilon = [value for name in add.inputs if (value := number(nodes, name)) is not None] if add and add.op == "Add" else []
    if len(epsilon) != 1:
        return None
    mean = next((found for name in add.inputs if (found := source(nodes, name, chain)) is not None), None)
    axis = only_axis(nodes, mean) if mean is not None and mean.op == "ReduceMean" else None
    square = source(nodes, mean.input(0), chain) if axis is not None else None
    if square is None or not (square.op == "Pow" and close(number(nodes, square.input(1)), 2)
                              or square.op == "Mul" and base(nodes, square.input(0)) == base(nodes, square.input(1))):
        return None
    chain += [add, mean, square]
    centred = base(nodes, square.input(0))
    less = source(nodes, square.input(0), chain)
    average = source(nodes, less.input(1), chain) if less is not None and less.op == "Sub" else None
    is_layer = average is not None and average.op == "ReduceMean" and only_axis(nodes, average) == axis \
        and base(nodes, average.input(0)) == base(nodes, less.input(0))
    chain += [less, average] if is_layer else []
    output = divided(nodes, node.outputs[0], centred, chain)
    if output is None:
        return None
    said = {"axis": axis, "epsilon": epsilon[0], "gain": "", "bias": ""}
    for op, part in (("Mul", "gain"), ("Add", "bias")):
        after = [use for use in uses(nodes, output, op) if other(use, output) in nodes.constants]
        if len(nodes.consumers.get(output, ())) == len(after) == 1:
            chain.append(after[0])
            said[part] = other(after[0], output)
            output = after[0].outputs[0]
    x = base(nodes, less.input(0)) if is_layer else centred
    return Pattern("layer norm" if is_layer else "RMS norm", VECTOR, tuple(chain), (x,), output, said=said)


def divided(nodes, root, centred, chain):
    """The value centred / root, or centred * (1 / root), None if there is none; its nodes are added to ``chain``."""
    by = [use for use in uses(nodes, root, "Div") if use.input(1) == root] + uses(nodes, root, "Reciprocal")
    if len(by) != 1:
        return None
    chain.append(by[0])
    if by[0].op == "Div" and base(nodes, by[0].input(0)) == centred:
        return by[0].outputs[0]
    inverse = by[0].outputs[0]
    times = [use for use in uses(nodes, inverse, "Mul") if base(nodes, other(use, inverse)) == centred]
    if not times or by[0].op == "Div" and not close(number(nodes, by[0].input(0)), 1):
        return None
    chain.append(times[0])
    return times[0].outputs[0]


def gelu(nodes, node):
    """x/2 * (1 + erf(x / sqrt 2)); of Tanh, the approximation of it."""
    chain, tanh = [node], node.op == "Tanh"
    scaled = source(nodes, node.input(0), chain)
    x = argument(nodes, scaled, math.sqrt(2 / math.pi) if tanh else math.sqrt(0.5))
    if x is None:
        return None
    chain.append(scaled)
    if tanh:
        inner = nodes.producers.get(x)  # x + 0.044715 x^3
        cube = next((found for name in inner.inputs if (found := nodes.producers.get(name)) is not None and found.op == "Mul"
                     and any(close(number(nodes, each), CUBE) for each in found.inputs)), None) if inner else None
        if cube is None or inner.op != "Add":
            return None
        x = other(inner, cube.outputs[0])
        chain += [inner, cube]
    plus = [use for use in uses(nodes, node.outputs[0], "Add") if close(number(nodes, other(use, node.outputs[0])), 1)]
    if len(plus) != 1:
        return None
    chain.append(plus[0])
    output = halved(nodes, plus[0].outputs[0], x, chain)
    if output is None:
        return None
    if tanh:
        return Pattern("GELU, tanh form", HOST, tuple(chain), (x,), output, TANH_DETAIL)
    return Pattern("GELU", VECTOR, tuple(chain), (x,), output)


def argument(nodes, scaled, factor):
    """The value x of a node that computes ``factor`` * x, None if it does not."""
    if scaled is None or scaled.domain or len(scaled.inputs) != 2:
        return None
    first, second = (number(nodes, name) for name in scaled.inputs)
    if scaled.op == "Mul" and first is None and close(second, factor) or scaled.op == "Div" and first is None \
            and close(second, 1 / factor):
        return scaled.input(0)
    return scaled.input(1) if scaled.op == "Mul" and second is None and close(first, factor) else None


def halved(nodes, output, x, chain):
    """The value output * x / 2, multiplied in any order, None if there is none; its nodes are added to ``chain``."""
    left = {"half", "x"}
    while left:
        for use in uses(nodes, output, "Mul"):
            factor = other(use, output)
            half = nodes.producers.get(factor)
            if "half" in left and close(number(nodes, factor), 0.5):
                done = {"half"}
            elif "x" in left and factor == x:
                done = {"x"}
            elif left == {"half", "x"} and half is not None and half.op == "Mul" and x in half.inputs \
                    and close(number(nodes, other(half, x)), 0.5):
                done = {"half", "x"}
                chain.append(half)
            else:
                continue
            left -= done
            chain.append(use)
            output = use.outputs[0]
            break
        else:
            return None
    return output


def plain_gelu(nodes, node):
    tanh = node.attributes.get("approximate", "none") == "tanh"
    op, runs_on = ("GELU, tanh form", HOST) if tanh else ("GELU", VECTOR)
    return Pattern(op, runs_on, (node,), (node.input(0),), node.outputs[0], TANH_DETAIL if tanh else "")


def sigmoid(nodes, node):
    """Sigmoid, or x * Sigmoid(x), or x * Sigmoid(1 * x)."""
    name, chain = node.input(0), [node]
    inner = nodes.producers.get(name)
    within = argument(nodes, inner, 1.0) if inner is not None and inner.op == "Mul" else None
    for use in uses(nodes, node.outputs[0], "Mul"):
        x = other(use, node.outputs[0])
        if x in (name, within):
            chain += [inner, use] if x == within else [use]
            return Pattern("SiLU", VECTOR, tuple(chain), (x,), use.outputs[0])
    return Pattern("sigmoid", VECTOR, (node,), (name,), node.outputs[0])


ANCHORS = {"LayerNormalization": layer_norm, "Sqrt": norm, "Erf": gelu, "Tanh": gelu, "Gelu": plain_gelu, "Sigmoid": sigmoid,
           "Softmax": attention}
