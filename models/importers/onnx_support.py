"""The ONNX operators that are taken, in which forms, and what runs them: one table, of which the documents' is made.

``check`` asks it, and names for an operator that is not taken the nearest form that is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from ..formats.qonnx import ROUNDINGS, Quantiser
from .onnx_matrix import QONNX_DOMAINS

__all__ = ["OPERATORS", "Operator", "markdown", "operator_of"]

QONNX = QONNX_DOMAINS[0]
TO_ENGINE = "an engine if the matrix is a constant that it takes; in attention, its engine"


def always(node, nodes):
    return ""


@dataclass(frozen=True)
class Operator:
    """``op`` of ``domain``: what runs it, its forms in words, and ``refuses(node, nodes)``: why a node is not taken, "" if it is.

    ``nearest``: the form to use in the place of a refused one.
    """

    op: str
    runs_on: str = "host"
    form: str = ""
    refuses: Callable = always
    nearest: str = ""
    domain: str = ""


def choice(**allowed):
    """A refusal of attributes that have other values than ``allowed``; the first one is the default."""

    def refuses(node, nodes):
        for name, values in allowed.items():
            value = node.attributes.get(name, values[0])
            if value not in values:
                return f"{name} must be {' or '.join(map(str, values))}, this has {value!r}"
        return ""

    return refuses


def both(*refusals):
    return lambda node, nodes: next((reason for refuses in refusals if (reason := refuses(node, nodes))), "")


def outputs(most):
    def refuses(node, nodes):
        used = [name for name in node.outputs[most:] if name]
        return f"only the first {most} outputs are computed, this has {used[0]!r} too" if used else ""

    return refuses


def constant_inputs(*places):
    """A refusal of inputs, by place, that are computed."""

    def refuses(node, nodes):
        for at in places:
            if node.input(at) and node.input(at) not in nodes.constants:
                return f"input {at} must be a constant, {node.input(at)!r} is computed"
        return ""

    return refuses


def dimensions(*allowed):
    """A refusal of convolutions and pools of other numbers of dimensions, by their weights or window."""

    def refuses(node, nodes):
        weight, window = nodes.constants.get(node.input(1)), node.attributes.get("kernel_shape", ())
        rank = weight.ndim - 2 if weight is not None else len(window) if isinstance(window, tuple) else 0
        return f"{' or '.join(map(str, allowed))} dimensions are taken, this has {rank}" if rank and rank not in allowed else ""

    return refuses


PADS = choice(auto_pad=("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"))
ROUNDING = choice(rounding_mode=(*ROUNDINGS, *(name.lower() for name in ROUNDINGS)))
def whole_bits(node, nodes):
    """A refusal of bit widths that are no widths."""
    bits = nodes.constants.get(node.input(3))
    try:
        Quantiser(bits=float(bits.item())) if bits is not None and bits.size == 1 else None
    except (TypeError, ValueError, OverflowError) as error:
        return str(error)
    return ""


ELEMENTWISE = ("Abs And Ceil Equal Erf Exp Floor Greater GreaterOrEqual IsNaN Less LessOrEqual Log Max Min Neg Not Or Pow "
               "Reciprocal Round Sign Sqrt Tanh Where Add Sub Mul Div Mod Xor Softplus Elu LeakyRelu HardSigmoid HardSwish Clip "
               "PRelu Relu Sum Mean Sin Cos").split()
SHAPES = ("Shape Size Reshape Flatten Squeeze Unsqueeze Transpose Concat Slice Split Expand Tile Gather GatherElements GatherND "
          "ScatterND ConstantOfShape Range Cast Identity Dropout").split()
REDUCTIONS = "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL2 ReduceSumSquare ArgMax ArgMin CumSum TopK".split()

TABLE = [
    Operator("MatMul", TO_ENGINE, "float; weights as they are, QDQ, cast and scaled, or QONNX"),
    Operator("Gemm", TO_ENGINE, "as MatMul, with alpha, beta, transA, transB and a bias"),
    Operator("MatMulInteger", TO_ENGINE, "int8 or uint8, zero points of one number or one a row or column; exact"),
    Operator("QLinearMatMul", TO_ENGINE, "int8 or uint8, scales as of MatMulInteger's zero points; exact sums"),
    Operator("Softmax", "the attention engine between two products, else the host", "any axis"),
    Operator("LayerNormalization", "the vector engine", "first output alone", outputs(1), "LayerNormalization with one output"),
    Operator("Gelu", "the vector engine", "erf form; the tanh form on the host", choice(approximate=("none", "tanh"))),
    Operator("Sigmoid", "the vector engine; x * Sigmoid(x) is its SiLU"),
    Operator("QuantizeLinear", form="a scale, one an index of an axis, or blocks; to 4, 8 or 16 bits",
             refuses=choice(precision=(0,)), nearest="QuantizeLinear with precision 0"),
    Operator("DequantizeLinear", form="a scale, one an index of an axis, or blocks; from 4 to 32 bits"),
    Operator("DynamicQuantizeLinear", form="to uint8"),
    Operator("Quant", form="bits, zero point and scale are constants; every rounding mode", domain=QONNX,
             refuses=both(ROUNDING, constant_inputs(1, 2, 3), whole_bits),
             nearest="Quant with constant scale, zero point and bits"),
    Operator("IntQuant", form="as Quant", domain=QONNX, refuses=both(ROUNDING, constant_inputs(1, 2, 3), whole_bits),
             nearest="Quant with constant scale, zero point and bits"),
    Operator("BipolarQuant", form="+scale where x >= 0, else -scale", domain=QONNX),
    Operator("Conv", form="1 or 2 dimensions, groups; on an engine if it cuts patches (stride = window, no padding)",
             refuses=both(PADS, dimensions(1, 2)), nearest="Conv of 2 dimensions"),
    Operator("ConvTranspose", form="1 or 2 dimensions, groups, explicit padding",
             refuses=both(choice(auto_pad=("NOTSET",), output_shape=((),)), dimensions(1, 2)), nearest="ConvTranspose with pads"),
    Operator("MaxPool", form="1 or 2 dimensions, one output, floor",
             refuses=both(choice(ceil_mode=(0,), storage_order=(0,)), PADS, dimensions(1, 2), outputs(1)),
             nearest="MaxPool of 2 dimensions with ceil_mode 0"),
    Operator("AveragePool", form="1 or 2 dimensions, floor", refuses=both(choice(ceil_mode=(0,)), PADS, dimensions(1, 2)),
             nearest="AveragePool of 2 dimensions with ceil_mode 0"),
    Operator("GlobalAveragePool"),
    Operator("BatchNormalization", form="inference", refuses=both(choice(training_mode=(0,)), outputs(1)),
             nearest="BatchNormalization with training_mode 0"),
    Operator("InstanceNormalization"),
    Operator("Resize", form="nearest, linear or cubic, any axes, without regions",
             refuses=choice(mode=("nearest", "linear", "cubic"), antialias=(0,), exclude_outside=(0,),
                            keep_aspect_ratio_policy=("stretch",), coordinate_transformation_mode=(
                                "half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")),
             nearest="Resize with coordinate_transformation_mode half_pixel"),
    Operator("Pad", form="constant, edge or reflect", refuses=choice(mode=("constant", "edge", "reflect"))),
    Operator("LogSoftmax", form="any axis"),
    *(Operator(op, form="element by element, spread over shapes as NumPy does") for op in ELEMENTWISE),
    *(Operator(op, form="shapes and indices") for op in SHAPES),
    *(Operator(op, form="any axes") for op in REDUCTIONS),
]  # fmt: skip
OPERATORS = {(operator.domain, operator.op): operator for operator in TABLE}
CONTROL = "no subgraphs: export without control flow"
# operators that are met and not taken: (why, nearest supported form)
OTHERS = {
    **dict.fromkeys(("If", "Loop", "Scan"), ("it runs a graph within the graph", CONTROL)),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), (
        "recurrent layers have no engine", "MatMul, Add, Sigmoid and Tanh, a step at a time")),
    **dict.fromkeys(("Attention", "MultiHeadAttention", "QAttention", "GroupQueryAttention"), (
        "attention in one operator is not taken apart", "MatMul, Softmax, MatMul")),
    "FusedMatMul": ("it joins operators", "Transpose, MatMul, Mul"),
    "MatMulNBits": ("its layout is a runtime's own", "DequantizeLinear with block_size, then MatMul"),
    "MatMulIntegerToFloat": ("it joins operators", "MatMulInteger, Cast, Mul"),
    "DynamicQuantizeMatMul": ("it joins operators", "DynamicQuantizeLinear, MatMulInteger, Cast, Mul"),
    "QGemm": ("it joins operators", "DequantizeLinear, Gemm, QuantizeLinear"),
    **dict.fromkeys(("SkipLayerNormalization", "EmbedLayerNormalization"), ("it joins operators", "Add, LayerNormalization")),
    **dict.fromkeys(("SimplifiedLayerNormalization", "RMSNormalization"), (
        "it is not in the table", "Pow, ReduceMean, Add, Sqrt, Div, Mul")),
    **dict.fromkeys(("FastGelu", "BiasGelu", "QuickGelu"), ("it joins operators", "Add, Gelu")),
    **dict.fromkeys(("QLinearConv", "ConvInteger"), (
        "integer convolutions have no engine", "DequantizeLinear, Conv, QuantizeLinear")),
    "Einsum": ("its products are not taken apart", "Transpose, MatMul"),
    **dict.fromkeys(("Trunc", "MultiThreshold", "FloatQuant", "XnorPopcountMatMul", "Im2Col"), (
        "of QONNX, Quant, IntQuant and BipolarQuant are taken", "Quant")),
}  # fmt: skip
UNKNOWN = "no operator of that name is in the table"


def operator_of(node):
    """The :class:`Operator` of a node. One that refuses it, with the nearest form, if it is not in the table."""
    domain = QONNX if node.domain in QONNX_DOMAINS else node.domain
    if found := OPERATORS.get((domain, node.op)):
        return found
    reason, nearest = OTHERS.get(node.op, (UNKNOWN, ""))
    if not nearest:
        near = get_close_matches(node.op, [op for _, op in OPERATORS], 1)
        nearest = near[0] if near else "operators of the table in docs/onnx.md"
    if reason == UNKNOWN and ("", node.op) in OPERATORS:
        reason = f"domain {node.domain!r} is not known"
    return Operator(node.op, "unsupported", "", lambda node, nodes: reason, nearest, node.domain)


def markdown():
    """The table as the documents show it: operators of the same forms share a row."""
    rows = {}
    for operator in TABLE:
        rows.setdefault((operator.runs_on, operator.form), []).append(operator)
    lines = ["| operator | forms | runs on |", "|---|---|---|"]
    for (runs_on, form), operators in rows.items():
        names = ", ".join(f"`{operator.op}`{' (QONNX)' if operator.domain else ''}" for operator in operators)
        lines.append(f"| {names} | {form or 'all'} | {runs_on} |")
    return "\n".join(lines)
