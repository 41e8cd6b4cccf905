"""ONNX and QONNX files as graphs: their operators in order, their constants, and the layers that those make.

The file is parsed by the ``onnx`` package, after :mod:`.onnx_wire` has walked it; its tensors may lie in files beside it. A
layer's name: the weight's own, or, where an exporter numbered the weights, the path of the node that multiplies by it.
"""

from pathlib import Path

from ..graph import Graph, Node, Nodes, Value
from ..graph.nodes import first_fault
from ..spec.errors import InputError
from .onnx_layers import find_layers
from .onnx_tensor import DTYPES, as_text, read_tensor, stored_bytes
from .onnx_wire import check_wire

__all__ = ["load_onnx"]

MIN_OPSET = 7
MAX_TEXT = 1024
MAX_MODEL_NAME = 128
EXPORTERS = ("", "main_graph", "torch_jit", "torch-jit-export", "graph")  # names that say nothing of the model
OWN_DOMAINS = ("", "ai.onnx")
# kinds of attributes by number; those of graphs (bodies of If and Loop) are left out, and so are types
FLOAT, INT, TEXT, TENSOR, GRAPH, FLOATS, INTS, TEXTS, TENSORS = 1, 2, 3, 4, 5, 6, 7, 8, 9


def load_onnx(path, data, float_weights=None):
    """The Graph of the file ``data`` at ``path``, with its ``nodes``. InputError if the file is unsound.

    ``float_weights``: "int8" to take float matrices as int8 codes with a scale for each row, rounded to the nearest; None to list
    them as unsupported.
    """
    model = parse(data, path)
    nodes, nbytes = read_nodes(model, path)
    layers, products = find_layers(nodes, nbytes, path, float_weights)
    nodes = Nodes(nodes=[with_layer(node, products.get(at, "")) for at, node in enumerate(nodes.nodes)], inputs=nodes.inputs,
                  outputs=nodes.outputs, constants=nodes.constants, opset=nodes.opset)
    name = as_text(model.graph.name)
    return Graph(
        name=name if name not in EXPORTERS and len(name) <= MAX_MODEL_NAME and name.isprintable() else Path(path).stem,
        layers=layers,
        source=str(path),
        metadata={"opset": nodes.opset, "producer": clip(model.producer_name), "ir_version": model.ir_version,
                  "properties": {clip(entry.key): as_text(entry.value) for entry in model.metadata_props}},
        nodes=nodes,
    )


def parse(data, path):
    import onnx  # here, so that the package is needed for such files only
    from google.protobuf.message import DecodeError

    check_wire(data, path)
    try:
        return onnx.ModelProto.FromString(bytes(data))
    except DecodeError as error:
        raise InputError(path, "file", "be an ONNX model", str(error).partition("\n")[0]) from None


def read_nodes(model, path):
    """The model's :class:`Nodes`, and the bytes of each constant as stored. InputError for a value that is not there or given
    twice, for an old version, and for sparse tensors."""
    graph, constants, nbytes = model.graph, {}, {}
    opset = max((entry.version for entry in model.opset_import if entry.domain in OWN_DOMAINS), default=0)
    if opset < MIN_OPSET:
        raise InputError(path, "opset", f"be {MIN_OPSET} or later: convert the file", opset or "none")
    if len(graph.sparse_initializer):
        raise InputError(path, "sparse_initializer", "be absent: store the tensors dense", len(graph.sparse_initializer))
    for tensor in graph.initializer:
        name = text(tensor.name, path, "name of a tensor")
        add(constants, name, read_tensor(tensor, name, path), path)
        nbytes[name] = stored_bytes(tensor, constants[name])
    nodes, counts = [], {}
    for proto in graph.node:
        op, domain = text(proto.op_type, path, "operator"), text(proto.domain, path, "domain", empty=True)
        at = counts[op] = counts.get(op, -1) + 1
        name = clip(proto.name) or f"{op}_{at}"
        where = f"{path}: {name}"
        if op == "Constant" and domain in OWN_DOMAINS and len(proto.output) == 1:
            value = text(proto.output[0], path, "name of a tensor")
            add(constants, value, constant(proto, where, path), path)
            nbytes[value] = stored_bytes(proto.attribute[0].t, constants[value])
            continue
        nodes.append(Node(
            name=name, op=op, domain="" if domain in OWN_DOMAINS else domain,
            inputs=[text(value, where, "name of an input", empty=True) for value in proto.input],
            outputs=[text(value, where, "name of an output", empty=True) for value in proto.output],
            attributes=dict(read_attributes(proto, where, path)),
        ))  # fmt: skip
    inputs = [read_value(value, path) for value in graph.input if value.name not in constants]
    outputs = [text(value.name, path, "name of an output") for value in graph.output]
    fault = first_fault(nodes, [value.name for value in inputs], constants, outputs)
    if fault:
        raise InputError(path, *fault)
    return Nodes(nodes=nodes, inputs=inputs, outputs=outputs, constants=constants, opset=opset), nbytes


def constant(proto, where, path):
    """The array of a Constant node."""
    import numpy as np

    values = dict(read_attributes(proto, where, path))
    if len(values) != 1:
        raise InputError(where, "attributes", "be one value", sorted(values))
    (name, value), = values.items()
    kinds = {"value": None, "value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if name not in kinds or (name == "value") != isinstance(value, np.ndarray):
        raise InputError(where, f"attribute {name}", "be a value, value_float, value_int or a list of them", type(value).__name__)
    try:
        return value if name == "value" else np.asarray(value, kinds[name])
    except (TypeError, ValueError, OverflowError):
        raise InputError(where, f"attribute {name}", "be numbers", type(value).__name__) from None


def read_attributes(proto, where, path):
    """``(name, value)`` of a node's attributes. Graphs and types are left out: no operator that has them is taken."""
    for attribute in proto.attribute:
        name, kind = text(attribute.name, where, "name of an attribute"), attribute.type
        if attribute.ref_attr_name:
            raise InputError(where, f"attribute {name}", "have a value of its own", attribute.ref_attr_name)
        if kind == FLOAT:
            yield name, attribute.f
        elif kind == INT:
            yield name, attribute.i
        elif kind == TEXT:
            yield name, bytes(attribute.s).decode(errors="replace")
        elif kind == TENSOR:
            yield name, read_tensor(attribute.t, f"{clip(proto.name) or clip(proto.op_type)}.{name}", path)
        elif kind == FLOATS:
            yield name, tuple(attribute.floats)
        elif kind == INTS:
            yield name, tuple(attribute.ints)
        elif kind == TEXTS:
            yield name, tuple(bytes(value).decode(errors="replace") for value in attribute.strings)


def read_value(value, path):
    """An input of the model."""
    name = text(value.name, path, "name of an input")
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type not in DTYPES:
        raise InputError(path, f"type of input {name}", f"be a tensor of {', '.join(DTYPES.values())}", kind.elem_type)
    sizes = None
    if kind.HasField("shape"):
        sizes = tuple(size.dim_value if size.HasField("dim_value") and size.dim_value >= 0 else clip(size.dim_param) or None
                      for size in kind.shape.dim)
    return Value(name=name, dtype=DTYPES[kind.elem_type], shape=sizes)


def text(value, where, field, empty=False):
    """A name out of the file; InputError unless it can be printed on a line and is not too long."""
    if isinstance(value, bytes):  # so protobuf gives what is no UTF-8
        raise InputError(where, field, "be UTF-8", value[:16])
    if len(value) > MAX_TEXT or not value.isprintable() or not (value or empty):
        raise InputError(where, field, f"be 1..{MAX_TEXT} printable characters", value)
    return value


def clip(value):
    """What can be printed of a text that is for people alone."""
    return "".join(letter for letter in as_text(value[:MAX_TEXT]) if letter.isprintable())


def add(constants, name, array, path):
    if name in constants:
        raise InputError(path, "a tensor", "have a name of its own", name)
    constants[name] = array


def with_layer(node, layer):
    if not layer:
        return node
    return Node(name=node.name, op=node.op, domain=node.domain, inputs=node.inputs, outputs=node.outputs,
                attributes=node.attributes, layer=layer)
