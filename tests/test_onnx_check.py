"""Operations that engines have are recognised among ONNX's operators; ``check`` tells what runs where, or what to use."""

import json
import math

import numpy as np
import pytest

from sparseloom.cli import main
from sparseloom.models.golden.onnx_int8 import Int8
from sparseloom.models.golden.onnx_run import run
from sparseloom.models.golden.onnx_workload import workload
from sparseloom.models.importers import load
from sparseloom.models.importers.onnx_check import describe_operators
from sparseloom.models.importers.onnx_patterns import find_patterns
from sparseloom.models.importers.onnx_support import markdown

WIDTH, TOKENS = 8, 5
X = {"x": ("float32", (TOKENS, WIDTH))}
RNG = np.random.default_rng(5)
W = RNG.normal(size=(WIDTH, WIDTH)).astype(np.float32)
GAIN, BIAS = np.abs(W[0]) + 1, W[1]


def number(value):
    return np.float32(value)


class Chain:
    """Nodes one after another: each call appends one and names its result."""

    def __init__(self, tools, **constants):
        self.tools, self.nodes, self.constants = tools, [], dict(constants)

    def __call__(self, op, *inputs, **said):
        names = []
        for value in inputs:
            if not isinstance(value, str):
                name = f"c{len(self.constants)}"
                self.constants[name] = np.asarray(value)
                value = name
            names.append(value)
        self.nodes.append(self.tools.node(op, names, [f"v{len(self.nodes)}"], **said))
        return f"v{len(self.nodes) - 1}"

    def content(self, output, **options):
        return self.tools.make_model(self.nodes, X, [output], self.constants, **options)


def layer_norm(c, x="x", square="Pow", cast=False):
    centred = c("Sub", x, c("ReduceMean", x, axes=[-1]))
    centred = c("Cast", centred, to=1) if cast else centred
    squared = c("Pow", centred, number(2)) if square == "Pow" else c("Mul", centred, centred)
    root = c("Sqrt", c("Add", c("ReduceMean", squared, axes=[-1]), number(1e-6)))
    return c("Add", c("Mul", c("Div", centred, root), GAIN), BIAS)


def rms_norm(c, x="x"):
    root = c("Sqrt", c("Add", c("ReduceMean", c("Pow", x, number(2)), axes=[-1]), number(1e-6)))
    return c("Mul", c("Mul", x, c("Div", number(1), root)), GAIN)


def gelu(c, x="x", form=0):
    inner = c("Div", x, number(math.sqrt(2))) if form else c("Mul", x, number(math.sqrt(0.5)))
    plus = c("Add", c("Erf", inner), number(1))
    if form == 2:
        return c("Mul", c("Mul", x, number(0.5)), plus)
    return c("Mul", x, c("Mul", plus, number(0.5))) if form else c("Mul", c("Mul", x, plus), number(0.5))


def tanh_gelu(c, x="x"):
    cube = c("Mul", c("Pow", x, number(3)), number(0.044715))
    inner = c("Mul", c("Add", x, cube), number(math.sqrt(2 / math.pi)))
    return c("Mul", c("Mul", x, c("Add", c("Tanh", inner), number(1))), number(0.5))


def causal(tokens):
    return np.triu(np.full((tokens, tokens), -1e9, np.float32), 1)


def bias(tokens):
    return RNG.normal(size=(tokens, tokens)).astype(np.float32)


def attention(c, x="x", mask=None, guard=False, scale="Mul"):
    q, k, v = (c("MatMul", x, W * at) for at in (1, 2, 3))
    scores = c("MatMul", q, c("Transpose", k, perm=[1, 0]))
    scores = c(scale, scores, number(0.5)) if scale else scores
    scores = c("Add", scores, mask(TOKENS)) if mask else scores
    p = c("Softmax", scores, axis=-1)
    p = c("Where", c("IsNaN", p), number(0), p) if guard else p
    return c("MatMul", p, v)


VECTOR, ATTENTION = "vector engine", "attention engine"
PATTERNS = {
    "layer norm": (layer_norm, {}, "layer norm", VECTOR, 9),
    "layer norm, a product": (layer_norm, {"square": "Mul"}, "layer norm", VECTOR, 9),
    "layer norm, cast": (layer_norm, {"cast": True}, "layer norm", VECTOR, 10), "RMS norm": (rms_norm, {}, "RMS norm", VECTOR, 7),
    "GELU 0": (gelu, {}, "GELU", VECTOR, 5), "GELU 1": (gelu, {"form": 1}, "GELU", VECTOR, 5),
    "GELU 2": (gelu, {"form": 2}, "GELU", VECTOR, 5), "tanh": (tanh_gelu, {}, "GELU, tanh form", "host", 7),
    "SiLU": (lambda c: c("Mul", "x", c("Sigmoid", "x")), {}, "SiLU", VECTOR, 2),
    "SiLU of beta 1": (lambda c: c("Mul", "x", c("Sigmoid", c("Mul", "x", number(1)))), {}, "SiLU", VECTOR, 3),
    "sigmoid": (lambda c: c("Sigmoid", "x"), {}, "sigmoid", VECTOR, 1),
    "attention": (attention, {}, "attention", ATTENTION, 4), "causal": (attention, {"mask": causal}, "attention", ATTENTION, 5),
    "biased": (attention, {"mask": bias}, "attention", ATTENTION, 5),
    "guarded": (attention, {"guard": True}, "attention", ATTENTION, 6),
    "divided": (attention, {"scale": "Div"}, "attention", ATTENTION, 4),
    "scaled before": (attention, {"scale": ""}, "attention", ATTENTION, 3),
}  # fmt: skip


@pytest.mark.parametrize("case", PATTERNS)
def test_patterns(case, onnx_tools, tmp_path):
    """Recognised, with the right nodes; the graph gives what onnxruntime gives."""
    make, said, op, runs_on, count = PATTERNS[case]
    chain = Chain(onnx_tools)
    output = make(chain, **said)
    content = chain.content(output)
    (tmp_path / "m").write_bytes(content)
    graph = load(tmp_path / "m")
    pattern, = find_patterns(graph.nodes)
    assert (pattern.op, pattern.runs_on, len(set(pattern.nodes)), pattern.output) == (op, runs_on, count, output)
    assert bool(pattern.detail) == (case in ("tanh", "biased"))
    assert pattern.inputs == ("x",) or op == "attention" and len(pattern.inputs) == 3
    assert pattern.said.get("causal") == ((TOKENS, TOKENS) if case == "causal" else None)
    x = RNG.normal(size=(TOKENS, WIDTH)).astype(np.float32)
    # float32 sums in another order than onnxruntime's: seven digits, a few of them lost to cancellation.
    np.testing.assert_allclose(run(graph, {"x": x})[output], onnx_tools.reference(content, {"x": x})[0], rtol=1e-5, atol=1e-5)


def root_of(c, square):
    return c("Div", "x", c("Sqrt", c("Add", square, number(1e-6))))


def root_mean_square(c):
    return c("Sqrt", c("Add", c("ReduceMean", c("Pow", "x", number(2)), axes=[-1]), number(1e-6)))


NEAR = {
    "a norm of maxima": lambda c: root_of(c, c("ReduceMax", c("Pow", "x", number(2)), axes=[-1])),
    "a norm of cubes": lambda c: root_of(c, c("ReduceMean", c("Pow", "x", number(3)), axes=[-1])),
    "another slope": lambda c: c("Mul", c("Mul", "x", c("Add", c("Erf", c("Mul", "x", number(0.6))), number(1))), number(0.5)),
    "a half too little": lambda c: c("Mul", "x", c("Add", c("Erf", c("Mul", "x", number(math.sqrt(0.5)))), number(1))),
    "a softmax alone": lambda c: c("Softmax", "x", axis=-1),
    "a softmax times weights": lambda c: c("MatMul", c("Softmax", c("MatMul", "x", c("Transpose", "x", perm=[1, 0])), axis=-1),
                                           np.ones((TOKENS, 2), np.float32)),
    "a norm over the rows": lambda c: root_of(c, c("ReduceMean", c("Pow", "x", number(2)), axes=[0, 1])),
    "a root over x": lambda c: c("Div", root_mean_square(c), "x"),
    "another numerator": lambda c: c("Div", c("Neg", "x"), root_mean_square(c)),
    "a slope divided": lambda c: c("Mul", c("Mul", "x", c("Add", c("Erf", c("Div", number(math.sqrt(2)), "x")), number(1))),
                                   number(0.5)),
    "constants alone": lambda c: c("Erf", c("Mul", number(math.sqrt(0.5)), number(2))),
    "probabilities scaled": lambda c: c("MatMul", c("Mul", c("Softmax", c("MatMul", "x", c("Transpose", "x", perm=[1, 0])),
                                                             axis=-1), number(2)), c("Relu", "x")),
    "a root": lambda c: c("Sqrt", "x"), "a tanh": lambda c: c("Tanh", "x"),
}  # fmt: skip


@pytest.mark.parametrize("case", NEAR)
def test_what_only_resembles_a_pattern(case, onnx_tools, tmp_path):
    chain = Chain(onnx_tools)
    (tmp_path / "m").write_bytes(chain.content(NEAR[case](chain)))
    nodes = load(tmp_path / "m").nodes
    assert find_patterns(nodes) == ()
    assert {row["runs_on"] for row in describe_operators(nodes)} <= {"host", "layer"}


def test_int8_attention_is_near_the_float_one(onnx_tools, tmp_path):
    """Operands of all products rounded to 8 bits: 1/127 of the largest of each row at most, and not equal."""
    chain = Chain(onnx_tools)
    output = attention(chain)
    (tmp_path / "m").write_bytes(chain.content(output))
    graph, x = load(tmp_path / "m", float_weights="int8"), RNG.normal(size=(TOKENS, WIDTH)).astype(np.float32) / 4
    int8 = Int8(graph)
    plain, rounded = run(graph, {"x": x})[output], run(graph, {"x": x}, linear=int8.linear, product=int8.product)[output]
    error = np.abs(rounded - plain).max() / np.abs(plain).max()
    assert 1e-4 < error < 0.05


def test_the_products_of_int8(onnx_tools, tmp_path):
    """Against the definition, number by number: codes by absmax, an integer sum, the scales."""
    product = Int8(load_identity(onnx_tools, tmp_path)).product
    for a, b in (((4, 6), (6, 3)), ((2, 4, 6), (2, 6, 3)), ((6,), (6, 3)), ((4, 6), (6,))):
        a, b = (RNG.normal(size=shape).astype(np.float32) for shape in (a, b))
        rows, columns = np.atleast_2d(a), b[:, None] if b.ndim == 1 else b
        scales = np.abs(rows).max(-1, keepdims=True) / np.float32(127), np.abs(columns).max(-2, keepdims=True) / np.float32(127)
        codes = np.rint(rows / scales[0]).astype(int), np.rint(columns / scales[1]).astype(int)
        want = (codes[0] @ codes[1]) * scales[0] * scales[1]
        # The integers are exact; their float32 scales are multiplied in another order.
        np.testing.assert_allclose(product(a, b), want.reshape(np.matmul(a, b).shape), rtol=1e-6)


def load_identity(tools, folder):
    (folder / "m").write_bytes(tools.make_model([tools.node("Identity", ["x"], ["y"])], X, ["y"]))
    return load(folder / "m")


def checked(path, capsys, *words):
    code = main(["check", str(path), "--json", *words])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if captured.out else None, captured.err


def test_check_of_a_float_file(onnx_tools, tmp_path, capsys):
    chain = Chain(onnx_tools)
    (tmp_path / "m").write_bytes(chain.content(gelu(chain, attention(chain, layer_norm(chain)))))
    code, result, err = checked(tmp_path / "m", capsys)
    assert code == 1 and "3 of 3 matrix products have no engine: its matrices are floats: --float-weights int8" in err
    code, result, err = checked(tmp_path / "m", capsys, "--float-weights", "int8")
    assert (code, err) == (0, "") and result["engine_layers"] == 3 and result["unsupported_operators"] == 0
    found = [(row["op"], row["number"], row["runs_on"]) for row in result["operators"] if row["runs_on"] != "host"]
    assert found == [("attention", 1, "attention engine"), ("layer norm", 1, "vector engine"), ("GELU", 1, "vector engine"),
                     ("MatMul", 3, "layer")]
    assert main(["check", str(tmp_path / "m"), "--float-weights", "int8"]) == 0
    assert "attention engine" in capsys.readouterr().out


@pytest.mark.parametrize("op, domain, attributes, reason, nearest", [
    ("LSTM", "", {"hidden_size": 8}, "recurrent layers have no engine", "MatMul, Add, Sigmoid and Tanh, a step at a time"),
    ("If", "", {}, "it runs a graph within the graph", "no subgraphs: export without control flow"),
    ("Einsum", "", {"equation": "ij->ji"}, "its products are not taken apart", "Transpose, MatMul"),
    ("Reluu", "", {}, "no operator of that name is in the table", "Relu"),
    ("Gelu", "com.microsoft", {}, "domain 'com.microsoft' is not known", "Gelu"),
    ("MultiThreshold", "qonnx.custom_op.general", {}, "of QONNX, Quant, IntQuant and BipolarQuant are taken", "Quant"),
    ("Resize", "", {"mode": "linear", "antialias": 1}, "antialias must be 0, this has 1",
     "Resize with coordinate_transformation_mode half_pixel"),
    ("MaxPool", "", {"kernel_shape": [2, 2, 2]}, "1 or 2 dimensions are taken, this has 3",
     "MaxPool of 2 dimensions with ceil_mode 0"),
    ("Conv", "", {"auto_pad": "ODD"}, "auto_pad must be NOTSET or VALID or SAME_UPPER", "Conv of 2 dimensions"),
])
def test_check_of_what_is_not_supported(op, domain, attributes, reason, nearest, onnx_tools, tmp_path, capsys):
    node = onnx_tools.node(op, ["x"], ["y"], name="the/node", domain=domain, **attributes)
    (tmp_path / "m").write_bytes(onnx_tools.make_model([node], X, ["y"]))
    code, result, err = checked(tmp_path / "m", capsys)
    assert code == 1 and f"node the/node: {op} is not supported ({reason}" in err and f"nearest: {nearest}" in err
    row, = result["operators"]
    assert (row["node"], row["op"], row["runs_on"], row["nearest"]) == ("the/node", op, "unsupported", nearest)
    assert row["reason"].startswith(reason) and result["unsupported_operators"] == 1


def test_many_refused_nodes_are_one_line(onnx_tools, tmp_path, capsys):
    nodes = [onnx_tools.node("Reluu", ["x"], [f"y{at}"]) for at in range(9)]
    (tmp_path / "m").write_bytes(onnx_tools.make_model(nodes, X, ["y0"]))
    code, result, err = checked(tmp_path / "m", capsys)
    assert code == 1 and "; and 6 nodes more" in err and len(result["operators"]) == 9


def test_the_documents_table_is_that_of_the_code(root):
    assert markdown() in (root / "docs" / "onnx.md").read_text(), "write markdown() of onnx_support into docs/onnx.md"


def test_the_workload_of_a_block(onnx_tools, tmp_path):
    """Sizes and multiply-accumulates by hand: five tokens of width 8, one head of 8, a convolution and a product on the host."""
    chain = Chain(onnx_tools)
    y = gelu(chain, attention(chain, layer_norm(chain)))
    maps = chain("Reshape", y, np.array([1, 1, TOKENS, WIDTH]))
    chain("Conv", maps, np.ones((2, 1, 3, 3), np.float32))
    chain("MatMul", "x", chain("Transpose", "x", perm=[1, 0]))
    (tmp_path / "m").write_bytes(chain.content(y))
    graph = load(tmp_path / "m", float_weights="int8")
    found = workload(graph, {"x": RNG.normal(size=(TOKENS, WIDTH)).astype(np.float32)})
    assert [(each.op, each.sizes, each.macs) for each in found if each.runs_on != "host" or each.macs] == [
        ("layer norm", {"m": 5, "k": 8}, 0), *3 * [("linear", {"m": 5, "n": 8, "k": 8}, 320)],
        ("attention", {"heads": 1, "queries": 5, "keys": 5, "d": 8}, 400), ("GELU", {"elements": 40}, 0),
        ("convolution", {"elements": 2 * 3 * 6}, 2 * 3 * 6 * 9), ("product", {"elements": 25}, 200)]
    assert [each.op for each in found if each.runs_on == "host" and not each.macs] == ["Transpose", "Reshape", "Transpose"]
