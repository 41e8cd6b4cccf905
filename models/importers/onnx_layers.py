"""Which layers the constants of an ONNX graph make, by what uses them: matrices, embeddings, convolutions, vectors."""

import re

import numpy as np

from ..graph import Layer
from .files import check_name
from .onnx_matrix import CODES, Matrix, aligned, find_matrix, numeric
from .onnx_support import operator_of
from .onnx_weights import weight_of

__all__ = ["find_layers"]

# what exporters call weights that have no name of their own
NUMBERED = re.compile(r"(onnx::\w+?_\d+|val_\d+|\d+|_?const\w*)(_q|_quantized|_DequantizeLinear)?", re.IGNORECASE)
PRODUCT = re.compile(r"[/.]?(MatMul|Gemm|MatMulInteger|Conv|QLinearMatMul)(_\d+)?(_quant|_quantized)?$")
EMBEDDING_REASON, VECTOR_REASON = "rows are looked up on the host", "element-wise work stays on the host"
CONVOLUTION_REASON = "convolutions stay on the host"
CONVOLUTIONS = ("Conv", "ConvTranspose")
STORED = ("float16", "float32", "float64", "int8", "uint8")  # other constants are sizes and indices
BIAS = ".bias"
MAX_SCALE_STEPS = 3


def find_layers(nodes, nbytes, path, float_weights=None):
    """``(layers, products)``: the layers, and by the place of a node that multiplies by one its name.

    ``nbytes``: of each constant, as stored. InputError for a quantiser that is unsound.
    """
    layers, products, used, made = {}, {}, set(), {}
    for at, node in enumerate(nodes.nodes):
        matrix = product_matrix(nodes, node)
        if matrix is not None:
            key = matrix.source, matrix.values.shape, matrix.values.strides, matrix.form
            if key not in made:
                name = unique(role_of(nodes, node, matrix.source, path), layers)
                size = sum(nbytes[part] for part in dict.fromkeys(matrix.constants))
                weight, reason = weight_of(matrix, size, f"{path}: {name}", float_weights)
                layers[name] = Layer(name=name, op="linear", shape=matrix.values.shape, format=matrix.form, nbytes=size,
                                     weight=weight, reason=reason)
                made[key] = name
            products[at] = made[key]
            used.update(matrix.constants)
            continue
        rows = find_matrix(nodes, node.input(0)) if node.op == "Gather" and not node.attributes.get("axis", 0) else None
        if rows is not None and not used.issuperset(rows.constants) and nodes.constants[rows.source].dtype.name in STORED:
            name = unique(role_of(nodes, node, rows.source, path), layers)
            size = sum(nbytes[part] for part in dict.fromkeys(rows.constants))
            layers[name] = Layer(name=name, op="embedding", shape=rows.values.shape, format=rows.form, nbytes=size,
                                 reason=EMBEDDING_REASON)
            used.update(rows.constants)
    later = [name for node in nodes.nodes for name in node.inputs]
    for name in dict.fromkeys(later):
        array = nodes.constants.get(name)
        if array is None or name in used or array.size < 2 or array.dtype.name not in STORED:
            continue
        node = nodes.consumers[name][0]
        layer = unique(role_of(nodes, node, name, path), layers)
        op, reason = "vector", VECTOR_REASON
        operator = operator_of(node)
        if refusal := operator.refuses(node, nodes):
            op, reason = "other", f"{node.op}: {refusal}"
        elif node.op in CONVOLUTIONS and array.ndim > 1:
            op, reason = "convolution", CONVOLUTION_REASON
        form = f"{array.dtype.kind.upper()}{8 * array.dtype.itemsize}"
        layers[layer] = Layer(name=layer, op=op, shape=array.shape, format=form, nbytes=nbytes[name], reason=reason)
    return list(layers.values()), products


def product_matrix(nodes, node):
    """The Matrix [n, k] that ``node`` multiplies by, None if it multiplies by none."""
    if node.domain:
        return None
    if node.op == "MatMul":
        found = find_matrix(nodes, node.input(1))
        if found is None:
            return None if find_matrix(nodes, node.input(0)) is None else usable(find_matrix(nodes, node.input(0)))
        return usable(found.T) if find_matrix(nodes, node.input(0)) is None else None
    if node.op == "Gemm":
        found = find_matrix(nodes, node.input(1))
        return None if found is None else usable(found if node.attributes.get("transB", 0) else found.T)
    if node.op == "MatMulInteger":
        return integer_matrix(nodes, node, node.input(1), node.input(3), later_scale(nodes, node))
    if node.op == "QLinearMatMul":
        return integer_matrix(nodes, node, node.input(3), node.input(5), numeric(nodes, node.input(4)))
    return patches(nodes, node) if node.op == "Conv" else None


def usable(found):
    """Codes without a scale are integers that ONNX would not multiply with floats."""
    return None if found.kind == CODES and found.scale is None else found


def integer_matrix(nodes, node, name, zero, scale):
    found = find_matrix(nodes, name)
    if found is None or found.kind != CODES or found.scale is not None or zero and numeric(nodes, zero) is None:
        return None
    shape = found.values.shape
    made = {"scale": aligned(np.ones(1, np.float32) if scale is None else scale, shape)}
    made["zero"] = aligned(numeric(nodes, zero), shape) if zero else None
    if made["scale"] is None or zero and made["zero"] is None:
        return None
    form = f"{found.values.dtype.name} {node.op}"
    return Matrix(kind=CODES, source=found.source, values=found.values, form=form, **made,
                  constants=(*found.constants, *([zero] if zero else []))).T


def later_scale(nodes, node):
    """The constant that the integers are multiplied by: cast, then times (scale of the activations x scale of the weights)."""
    name = node.outputs[0]
    for _ in range(MAX_SCALE_STEPS):
        for use in nodes.consumers.get(name, ()):
            if use.op == "Cast" and len(nodes.consumers[name]) == 1:
                name = use.outputs[0]
                break
            if use.op == "Mul" and len(use.inputs) == 2:
                other = use.inputs[1] if use.inputs[0] == name else use.inputs[0]
                factors = nodes.producers.get(other)
                names = factors.inputs if factors is not None and factors.op == "Mul" else (other,)
                return next((numeric(nodes, name) for name in names if numeric(nodes, name) is not None), None)
        else:
            return None
    return None


def patches(nodes, node):
    """The matrix of a convolution whose windows do not overlap: a product of patches, as vision transformers embed them."""
    weight, said = nodes.constants.get(node.input(1)), node.attributes
    if weight is None or weight.ndim != 4 or not weight.size or weight.dtype.kind != "f" or weight.shape[2:] == (1, 1):
        return None
    plain = (said.get("group", 1) == 1 and not any(said.get("pads", ())) and set(said.get("dilations", (1,))) == {1}
             and tuple(said.get("strides", (1, 1))) == weight.shape[2:] and said.get("auto_pad", "NOTSET") in ("NOTSET", "VALID"))
    if not plain:
        return None
    name, form = node.input(1), f"F{8 * weight.dtype.itemsize}"
    return Matrix(kind="float", source=name, values=weight.reshape(len(weight), -1), form=form, constants=(name,))


def role_of(nodes, node, source, path):
    """The layer's name: the weight's own, or, if the weight has but a number, that of the bias which is added to the product, or
    the path of the node."""
    name = source
    if NUMBERED.fullmatch(source) and node.outputs:
        adds = [use for use in nodes.consumers.get(node.outputs[0], ()) if use.op == "Add"]
        added = [name for use in adds for name in use.inputs if name in nodes.constants]
        biases = [name.removesuffix(BIAS) for name in added if name.endswith(BIAS)]
        path_of = PRODUCT.sub("", node.name) if "/" in node.name else ""
        name = f"{path_of or (biases or [node.name])[0]}.weight"
    name = re.sub(r"[/\\.]+", ".", name).strip(".") or "weight"
    return check_name(name, path, "name of a layer")


def unique(name, layers):
    """``name``, or the first of ``name.1``, ``name.2`` that no layer has."""
    if name not in layers:
        return name
    number = next(number for number in range(1, len(layers) + 2) if f"{name}.{number}" not in layers)
    return f"{name}.{number}"
