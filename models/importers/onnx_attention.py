"""Attention among ONNX operators: two products of computed values with a softmax between."""

import numpy as np

from .onnx_match import ATTENTION, MAX_STEPS, Pattern, is_same, number, uses

__all__ = ["attention"]

BETWEEN = ("Add", "Mul", "Div", "Sub", "Where")  # scores and softmax: scale and mask
HIDDEN = -1e4  # a score that is so much lower is no score
MASKED = "a mask or bias is added to its scores: the engine has causal, window and block masks"


def attention(nodes, node):
    """The :class:`Pattern` softmax(q k scale + mask) v around the Softmax ``node``, None if there is none."""
    before, after = [], []
    name, masked, causal, scale = node.input(0), False, None, 1.0
    for _ in range(MAX_STEPS):
        step = nodes.producers.get(name)
        if step is None or step.domain or not (step.op in ("MatMul", *BETWEEN) or is_same(step)):
            return None
        if step.op == "MatMul":
            break
        before.append(step)
        factor = factor_of(nodes, step)
        mask = next((shape for each in step.inputs if (shape := causal_shape(nodes.constants.get(each)))), None)
        if step.op == "Add" and mask and causal is None:
            causal = mask
        elif factor is None:
            masked = True
        scale *= 1.0 if factor is None else factor
        name = next((each for each in step.inputs if reaches(nodes, each)), "")
    else:
        return None
    values = values_of(nodes, node.outputs[0], after)
    if values is None or step.layer or values.layer:
        return None
    axis = node.attributes.get("axis", -1 if nodes.opset >= 13 else 1)
    said = {"axis": axis if isinstance(axis, int) else 0, "scale": scale, "causal": causal}
    inputs = (step.input(0), step.input(1), values.input(1))
    return Pattern("attention", ATTENTION, (step, *before, node, *after, values), inputs, values.outputs[0],
                   MASKED if masked else "", said)


def factor_of(nodes, step):
    """What a step multiplies scores by; None if it does something else."""
    if is_same(step):
        return 1.0
    values = [number(nodes, name) for name in step.inputs]
    if len(values) != 2:
        return None
    if step.op == "Mul" and values.count(None) == 1:
        return next(value for value in values if value is not None)
    if step.op == "Div" and values[0] is None and values[1]:
        return 1 / values[1]
    return None


def causal_shape(mask):
    """The shape [queries, keys] of a constant that, added to scores, hides from each query the later keys, and those alone."""
    if mask is None or mask.ndim < 2 or mask.dtype.kind != "f" or mask.size != mask.shape[-1] * mask.shape[-2]:
        return None
    queries, keys = mask.shape[-2:]
    later = np.arange(keys)[None, :] > np.arange(queries)[:, None] + keys - queries
    mask = mask.reshape(queries, keys)
    hides = queries > 1 and later.any() and (mask[later] <= HIDDEN).all() and (mask[~later] == 0).all()
    return (queries, keys) if hides else None


def reaches(nodes, name):
    """Whether a product of two values lies behind ``name``, with nothing but scales and masks between."""
    for _ in range(MAX_STEPS):
        step = nodes.producers.get(name)
        if step is None or step.domain:
            return False
        if step.op == "MatMul":
            return not step.layer
        if step.op not in BETWEEN and not is_same(step):
            return False
        name = next((each for each in step.inputs if each in nodes.producers), "")
    return False


def values_of(nodes, name, chain):
    """The product of the softmax's output and the values, None if there is none.

    Between them may be a guard that makes 0 of NaN, where a query sees nothing; its operators are added to ``chain``.
    """
    for _ in range(MAX_STEPS):
        products = [use for use in uses(nodes, name, "MatMul") if use.input(0) == name]
        if products:
            return products[0] if products[0].input(1) not in nodes.constants else None
        same = [use for use in nodes.consumers.get(name, ()) if is_same(use)]
        tests = uses(nodes, name, "IsNaN")
        guards = [use for use in uses(nodes, name, "Where") if tests and use.input(0) == tests[0].outputs[0]
                  and use.input(2) == name and number(nodes, use.input(1)) == 0]
        if not same and not guards:
            return None
        chain += [tests[0], guards[0]] if guards else [same[0]]
        name = chain[-1].outputs[0]
    return None
