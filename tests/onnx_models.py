"""Small ONNX models by ``onnx.helper``, and their results by onnxruntime, for the tests of the importer and the interpreter."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

__all__ = ["QONNX", "make_model", "node", "reference"]

QONNX = "qonnx.custom_op.general"
TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "uint8": TensorProto.UINT8, "int8": TensorProto.INT8,
         "int32": TensorProto.INT32, "bool": TensorProto.BOOL, "float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE}
IR_VERSION = 10

node = helper.make_node


def make_model(nodes, inputs, outputs, constants=(), opset=17, as_nodes=False):
    """The bytes of a model. ``inputs``: ``{name: (type, shape)}``; ``outputs``: names; ``constants``: ``{name: array}``.

    A TensorProto among the constants is stored as it is; with ``as_nodes`` they are Constant nodes."""
    tensors = [value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value), name)
               for name, value in dict(constants).items()]
    if as_nodes:
        nodes = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in tensors] + list(nodes)
    graph = helper.make_graph(
        nodes, "test", [helper.make_tensor_value_info(name, TYPES[kind], shape) for name, (kind, shape) in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs], [] if as_nodes else tensors)
    domains = {each.domain for each in nodes} - {""}
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in sorted(domains))]
    return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION).SerializeToString()


def reference(content, inputs, fused=False):
    """The outputs by onnxruntime, a list; each operator as it stands unless ``fused``."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)
