"""Groups of ONNX operators that are one operation of an engine: attention, norms, activations."""

import math
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Pattern", "find_patterns"]

SAME = ("Cast", "Identity", "Dropout")  # operators that change no value here
MASKING = (*SAME, "Add", "Mul", "Div", "Sub", "Where")  # between scores and softmax: scale and mask
GUARDS = (*SAME, "IsNaN", "Where", "Mul")  # between softmax and values: rows of which nothing is seen
MAX_STEPS = 8
CLOSE = 1e-3
HIDDEN = -1e4  # a score that is so much lower is no score
MASKED = "a mask or bias is added to its scores: the engine has causal, window and block masks"
VECTOR, ATTENTION, HOST = "vector engine", "attention engine", "host"


@dataclass(frozen=True, eq=False)
class Pattern:
    """``op`` of ``nodes``, from the values ``inputs`` to ``output``; ``detail`` in words.

    ``said``: of a norm ``epsilon`` and the names of the constants ``gain`` and ``bias``, "" for none; of attention ``scale``, the
    factor between product and softmax, and ``causal``, whether a constant mask hides later keys.
    """

    op: str
    runs_on: str
    nodes: tuple
    inputs: tuple[str, ...]
    output: str
    detail: str = ""
    said: dict = field(default_factory=dict)


def find_patterns(nodes):
    """Every :class:`Pattern` of ``nodes``, in order; a node belongs to one at most."""
    found, taken = [], set()
    for node in nodes.nodes:
        make = ANCHORS.get(node.op) if not node.domain and len(node.outputs) > 0 else None
        pattern = make(nodes, node) if make else None
        if pattern is not None and taken.isdisjoint(map(id, pattern.nodes)):
            found.append(pattern)
            taken.update(map(id, pattern.nodes))
    return tuple(found)


def source(nodes, name, chain):
    """The node that computes ``name``, behind operators that change no value; those are added to ``chain``."""
    for _ in range(MAX_STEPS):
        node = nodes.producers.get(name)
        if node is None or node.op not in SAME:
            return node
        chain.append(node)
        name = node.input(0)
    return None


def number(nodes, name):
    """The constant number ``name``, None if it is none."""
    found = source(nodes, name, [])
    if found is not None:
        return None
    for _ in range(MAX_STEPS):
        array = nodes.constants.get(name)
        if array is not None:
            return float(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "fiu" else None
        if name not in nodes.producers:
            return None
        name = nodes.producers[name].input(0)
    return None


def close(value, want):
    return value is not None and abs(value - want) <= CLOSE * abs(want)


def uses(nodes, name, *ops):
    return [use for use in nodes.consumers.get(name, ()) if use.op in ops and not use.domain]


def other(node, name):
    """The other input of an operator of two."""
    return node.input(1) if node.input(0) == name else node.input(0)


def layer_norm(nodes, node):
    if node.attributes.get("axis", -1) != -1 or any(name not in nodes.constants for name in node.inputs[1:] if name):
        return Pattern("layer norm", HOST, (node,), (node.input(0),), node.outputs[0], "not over the last axis by constants")
    said = {"epsilon": float(node.attributes.get("epsilon", 1e-5)), "gain": node.input(1), "bias": node.input(2)}
    return Pattern("layer norm", VECTOR, (node,), (node.input(0),), node.outputs[0], said=said)


def norm(nodes, node):
    """x less its mean, over the root of its mean square and a small number; without the mean it is an RMS norm."""
    chain = [node]
    add = source(nodes, node.input(0), chain)
    if add is None or add.op != "Add":
        return None
    mean = next((found for name in add.inputs if (found := source(nodes, name, chain)) is not None), None)
    if mean is None or mean.op != "ReduceMean" or all(number(nodes, name) is None for name in add.inputs):
        return None
    square = source(nodes, mean.input(0), chain)
    if square is None or not (square.op == "Pow" and close(number(nodes, square.input(1)), 2)
                              or square.op == "Mul" and square.input(0) == square.input(1)):
        return None
    chain += [add, mean, square]
    centred = square.input(0)
    less = source(nodes, centred, chain)
    is_layer = less is not None and less.op == "Sub" and (found := source(nodes, less.input(1), chain)) is not None \
        and found.op == "ReduceMean" and found.input(0) == less.input(0)
    x = less.input(0) if is_layer else centred
    chain += [less, nodes.producers[less.input(1)]] if is_layer else []
    by = uses(nodes, node.outputs[0], "Div", "Reciprocal")
    if len(by) != 1:
        return None
    chain.append(by[0])
    output = by[0].outputs[0]
    if by[0].op == "Reciprocal" or close(number(nodes, by[0].input(0)), 1):
        times = uses(nodes, output, "Mul")
        if not times:
            return None
        chain.append(times[0])
        output = times[0].outputs[0]
    said = {"epsilon": next(value for name in add.inputs if (value := number(nodes, name)) is not None), "gain": "", "bias": ""}
    for op, part in (("Mul", "gain"), ("Add", "bias")):
        after = [use for use in uses(nodes, output, op) if other(use, output) in nodes.constants]
        if len(nodes.consumers.get(output, ())) == len(after) == 1:
            chain.append(after[0])
            said[part] = other(after[0], output)
            output = after[0].outputs[0]
    return Pattern("layer norm" if is_layer else "RMS norm", VECTOR, tuple(chain), (x,), output, said=said)


def gelu(nodes, node):
    """x/2 * (1 + erf(x / sqrt 2)); of Tanh, the approximation of it."""
    chain, tanh = [node], node.op == "Tanh"
    scaled = source(nodes, node.input(0), chain)
    if scaled is None or scaled.op not in ("Mul", "Div"):
        return None
    values = [number(nodes, name) for name in scaled.inputs]
    factor = math.sqrt(2 / math.pi) if tanh else math.sqrt(0.5)
    if not any(close(value, factor) or scaled.op == "Div" and close(value, 1 / factor) for value in values):
        return None
    chain.append(scaled)
    x = next(name for name, value in zip(scaled.inputs, values, strict=True) if value is None)
    if tanh:
        inner = nodes.producers.get(x)  # x + 0.044715 x^3
        if inner is None or inner.op != "Add":
            return None
        cube = next((found for name in inner.inputs if (found := nodes.producers.get(name)) is not None and found.op == "Mul"
                     and any(close(number(nodes, each), 0.044715) for each in found.inputs)), None)
        if cube is None:
            return None
        x = other(inner, cube.outputs[0])
        chain += [inner, cube]
    plus = [use for use in uses(nodes, node.outputs[0], "Add") if close(number(nodes, other(use, node.outputs[0])), 1)]
    if len(plus) != 1:
        return None
    chain.append(plus[0])
    output, done = plus[0].outputs[0], set()
    for _ in range(2):
        for use in uses(nodes, output, "Mul"):
            factor = other(use, output)
            half = nodes.producers.get(factor)
            if close(number(nodes, factor), 0.5):
                done.add("half")
            elif factor == x:
                done.add("x")
            elif half is not None and half.op == "Mul" and x in half.inputs and close(number(nodes, other(half, x)), 0.5):
                done |= {"half", "x"}
                chain.append(half)
            else:
                continue
            chain.append(use)
            output = use.outputs[0]
            break
    if done != {"half", "x"}:
        return None
    if tanh:
        return Pattern("GELU, tanh form", HOST, tuple(chain), (x,), output,
                       "the engine's GELU is the erf form, which is within 4.8e-4 of it")
    return Pattern("GELU", VECTOR, tuple(chain), (x,), output)


def plain_gelu(nodes, node):
    tanh = node.attributes.get("approximate", "none") == "tanh"
    detail = "the engine's GELU is the erf form, which is within 4.8e-4 of it" if tanh else ""
    op, runs_on = ("GELU, tanh form", HOST) if tanh else ("GELU", VECTOR)
    return Pattern(op, runs_on, (node,), (node.input(0),), node.outputs[0], detail)


def sigmoid(nodes, node):
    inputs, chain = [node.input(0)], [node]
    inner = nodes.producers.get(node.input(0))
    if inner is not None and inner.op == "Mul" and any(close(number(nodes, name), 1) for name in inner.inputs):
        inputs.append(next(name for name in inner.inputs if not close(number(nodes, name), 1)))  # x * sigmoid(1 * x)
    times = [use for use in uses(nodes, node.outputs[0], "Mul") if other(use, node.outputs[0]) in inputs]
    if len(times) == 1:
        x = other(times[0], node.outputs[0])
        chain += [inner, times[0]] if x != node.input(0) else [times[0]]
        return Pattern("SiLU", VECTOR, tuple(chain), (x,), times[0].outputs[0])
    return Pattern("sigmoid", VECTOR, (node,), (node.input(0),), node.outputs[0])


def attention(nodes, node):
    """softmax(q k^T, scaled and masked) v: two products of computed values with a softmax between."""
    before, after = [], []
    name, scores, masked, causal, scale = node.input(0), None, False, False, 1.0
    for _ in range(MAX_STEPS):
        step = nodes.producers.get(name)
        if step is None or step.domain:
            return None
        if step.op == "MatMul":
            scores = step
            break
        if step.op not in MASKING:
            return None
        before.append(step)
        computed = [each for each in step.inputs if number(nodes, each) is None and each not in nodes.constants]
        factors = [value for each in step.inputs if (value := number(nodes, each)) is not None]
        causal |= (mask := step.op == "Add" and any(is_causal(nodes.constants.get(each)) for each in step.inputs))
        divided = step.op == "Div" and number(nodes, step.input(1))
        plain = mask or step.op in SAME or divided or step.op == "Mul" and len(factors) == 1
        masked |= not plain
        scale *= 1 if mask or not plain or step.op in SAME else factors[0] if step.op == "Mul" else 1 / factors[0]
        name = next((each for each in computed if reaches(nodes, each)), "")
    values = values_of(nodes, node.outputs[0], after)
    if scores is None or values is None or scores.layer or values.layer:
        return None
    inputs = (scores.input(0), scores.input(1), values.input(1))
    return Pattern("attention", ATTENTION, (scores, *before, node, *after, values), inputs, values.outputs[0],
                   MASKED if masked else "", {"scale": scale, "causal": causal})


def is_causal(mask):
    """Whether a constant that is added to scores [queries, keys] hides from each query the later keys, and those alone."""
    if mask is None or mask.ndim < 2 or mask.dtype.kind != "f" or mask.size != mask.shape[-1] * mask.shape[-2]:
        return False
    queries, keys = mask.shape[-2:]
    later = np.arange(keys)[None, :] > np.arange(queries)[:, None] + keys - queries
    mask = mask.reshape(queries, keys)
    return bool(queries > 1 and (mask[later] <= HIDDEN).all() and (mask[~later] == 0).all() and later.any())


def reaches(nodes, name):
    """Whether a product of two values lies behind ``name``, with nothing but scales and masks between."""
    for _ in range(MAX_STEPS):
        step = nodes.producers.get(name)
        if step is None or step.op not in (*MASKING, "MatMul") or step.domain:
            return False
        if step.op == "MatMul":
            return not step.layer
        name = next((each for each in step.inputs if each in nodes.producers), "")
    return False


def values_of(nodes, name, chain):
    """The product of the softmax's output and the values, None if there is none; guards between are added to ``chain``."""
    for _ in range(MAX_STEPS):
        products = [use for use in uses(nodes, name, "MatMul") if use.input(0) == name]
        if products:
            return products[0] if products[0].input(1) not in nodes.constants else None
        guards = uses(nodes, name, *GUARDS)
        if not guards:
            return None
        chain += [guard for guard in guards if guard not in chain]
        name = next((guard for guard in guards if guard.op != "IsNaN"), guards[0]).outputs[0]
    return None


ANCHORS = {"LayerNormalization": layer_norm, "Sqrt": norm, "Erf": gelu, "Tanh": gelu, "Gelu": plain_gelu, "Sigmoid": sigmoid,
           "Softmax": attention}
