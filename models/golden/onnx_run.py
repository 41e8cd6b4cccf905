"""Runs a graph that has nodes: each ONNX operator from its definition, in NumPy; products may be taken over by the caller."""

from collections import Counter

import numpy as np

from ..spec.errors import InputError
from .onnx_call import Call
from .onnx_math import KERNELS as MATH
from .onnx_products import KERNELS as PRODUCTS
from .onnx_products import QONNX, quant_of, scaled_gemm
from .onnx_shapes import KERNELS as SHAPES
from .onnx_windows import KERNELS as WINDOWS
from .onnx_windows import cut_patches

__all__ = ["KERNELS", "QONNX", "run"]

KERNELS = MATH | PRODUCTS | SHAPES | WINDOWS
QONNX_DOMAINS = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas")
MAX_ELEMENTS = 1 << 28  # of one value
LIVE = 4  # times as many in all values that are still needed
FAULTS = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError)


def run(graph, inputs, *, linear=None, coded=None, product=None, operations=None, observe=None, limit=MAX_ELEMENTS):
    """``{output: array}`` of ``graph`` (with ``nodes``) for ``inputs``, arrays by name. Floats are float32, integer sums exact.

    ``linear(name, x)``: the product of ``x`` float32 [m, k] and the matrix of the graph's layer ``name``, in the place of float
    products (MatMul, Gemm, Conv of patches); ``coded(name, codes, scale, zero)``: the same where x is (codes - zero) * scale by a
    DequantizeLinear or Quant of one scale; ``product(a, b)``: of two values, float32, in the place of MatMul; None: NumPy's.
    ``operations``, ``{value: (names, function)}``: the value is ``function`` of the values of those names, unless that is None;
    then what its node gives. ``observe(node, inputs, outputs)`` is called after each node. ``limit``: elements of one value, four
    times as many of all.

    InputError for inputs that are not the model's, an operator that is not known, and inputs that an operator refuses.
    """
    nodes, where = graph.nodes, graph.source or graph.name
    values = dict(nodes.constants) | checked_inputs(nodes, inputs, where)
    operations, codes = operations or {}, {}
    left = Counter(name for node in nodes.nodes for name in node.inputs) + Counter(nodes.outputs)
    left += Counter(name for names, _ in operations.values() for name in names)
    live = 0
    with np.errstate(all="ignore"):
        for node in nodes.nodes:
            call = Call(node, [values[name] if name else None for name in node.inputs], nodes.opset, limit)
            try:
                names, function = operations.get(node.outputs[0] if node.outputs else "", ((), None))
                found = function(*(values[name] for name in names)) if function else None
                found = taken_over(call, linear, coded, product, codes) if found is None else found
                found = kernel_of(node)(call) if found is None else found
                if coded and (known := codes_behind(call)):
                    codes[node.outputs[0]] = known
            except FAULTS as error:
                rule = f"be able to run as {node.op}: {str(error).partition(chr(10))[0] or type(error).__name__}"
                raise InputError(where, f"node {node.name}", rule, shapes_of(call.inputs)) from None
            found = [np.asarray(each) for each in (found if isinstance(found, tuple) else (found,))]
            if len(found) < len([name for name in node.outputs if name]):
                raise InputError(where, f"node {node.name}", f"have at most {len(found)} outputs", list(node.outputs))
            if observe:
                observe(node, call.inputs, found)
            for name, each in zip(node.outputs, found, strict=False):
                if name and left[name]:
                    values[name], live = each, live + each.size
            for name in (*node.inputs, *names):
                left[name] -= 1
                if name and not left[name] and name in values:
                    live -= 0 if name in nodes.constants else values[name].size
                    del values[name]
                    codes.pop(name, None)
            if live > LIVE * limit or max((each.size for each in found), default=0) > limit:
                raise InputError(where, f"node {node.name}", f"keep within {limit} elements", shapes_of(found))
    return {name: values[name] for name in nodes.outputs}


def kernel_of(node):
    known = KERNELS if not node.domain else QONNX if node.domain in QONNX_DOMAINS else {}
    if node.op not in known:
        raise LookupError("no such operator is known")
    return known[node.op]


def shapes_of(arrays):
    return [None if each is None else f"{each.dtype}{list(each.shape)}" for each in arrays]


def checked_inputs(nodes, inputs, where):
    """The inputs as arrays of the model's types and shapes."""
    found = {}
    for value in nodes.inputs:
        if value.name not in inputs:
            raise InputError(where, f"input {value.name}", "be given", sorted(inputs))
        array = np.asarray(inputs[value.name])
        if array.dtype != value.dtype:
            raise InputError(where, f"input {value.name}", f"be of {value.dtype}", str(array.dtype))
        sizes = [size if isinstance(size, int) else None for size in value.shape or [None] * array.ndim]
        if len(sizes) != array.ndim or any(want not in (None, have) for want, have in zip(sizes, array.shape, strict=True)):
            raise InputError(where, f"input {value.name}", f"be of shape {list(value.shape)}", list(array.shape))
        found[value.name] = array
    if unknown := set(inputs) - set(found):
        raise InputError(where, "inputs", f"be among {sorted(found)}", sorted(unknown))
    return found


def codes_behind(call):
    """``(codes, scale, zero)`` of what the node makes, if it makes floats of codes with one scale and one whole zero point."""
    node = call.node
    if node.op == "DequantizeLinear" and not node.domain:
        found = call.need(0), call.need(1), np.zeros(1) if call.x(2) is None else call.x(2)
    elif node.op in ("Quant", "IntQuant") and node.domain in QONNX_DOMAINS:
        found = quant_of(call), call.need(1), call.need(2)
    else:
        return None
    if found[1].size != 1 or found[2].size != 1 or found[2].item() != np.rint(found[2].item()) or not np.isfinite(found[0]).all():
        return None
    return found[0].astype(np.int64), float(found[1].item()), int(found[2].item())


def taken_over(call, linear, coded, product, codes):
    """The node's result by the caller's products, None if they do not take it. ``codes``: :func:`codes_behind`, by value."""
    node = call.node
    if node.domain or node.op not in ("MatMul", "Gemm", "Conv"):
        return None
    if not node.layer:
        return product(call.need(0), call.need(1)) if product and node.op == "MatMul" else None
    if coded is not None and node.input(0) in codes and node.op != "Conv" and not call.said("transA", 0):
        x, scale, zero = codes[node.input(0)]
        y = np.asarray(coded(node.layer, x.reshape(-1, x.shape[-1]), scale, zero), np.float32).reshape(*x.shape[:-1], -1)
        return scaled_gemm(call, y, call.x(2)) if node.op == "Gemm" else y
    if linear is None:
        return None
    if node.op == "Conv":
        x, weight = call.need(0), call.need(1)
        patches = cut_patches(x, weight.shape[2:])
        y = np.moveaxis(tokens(linear, node.layer, patches), -1, 1)
        return y if call.x(2) is None else y + call.x(2).reshape(1, -1, 1, 1)
    if node.op == "Gemm":
        a = call.need(0).T if call.said("transA", 0) else call.need(0)
        return scaled_gemm(call, tokens(linear, node.layer, a), call.x(2))
    return tokens(linear, node.layer, call.need(0))


def tokens(linear, layer, x):
    """``linear`` on the last dimension of ``x``."""
    y = linear(layer, np.ascontiguousarray(x, np.float32).reshape(-1, x.shape[-1]))
    return np.asarray(y, np.float32).reshape(*x.shape[:-1], -1)
