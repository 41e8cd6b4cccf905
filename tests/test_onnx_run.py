"""Every ONNX operator of the interpreter against onnxruntime, on small models: integers equal, floats nearly so."""

import math

import numpy as np
import pytest

from sparseloom.models.golden.onnx_math import erf
from sparseloom.models.golden.onnx_products import integer_product
from sparseloom.models.golden.onnx_run import KERNELS, QONNX, run
from sparseloom.models.importers import load
from sparseloom.models.importers.onnx_support import OPERATORS
from sparseloom.models.spec.errors import InputError

CLOSE = {"rtol": 2e-5, "atol": 2e-6}


def f(*shape, seed=0, low=None):
    x = np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)
    return x if low is None else np.abs(x) + np.float32(low)


def i(*shape, low=-5, high=6, kind=np.int64):
    return np.random.default_rng([1, *shape]).integers(low, high, shape).astype(kind)


def q(*shape, kind=np.int8, seed=2):
    limits = np.iinfo(kind)
    return np.random.default_rng([seed, *shape]).integers(limits.min, limits.max + 1, shape).astype(kind)


def n(*values):
    return np.array(values, np.int64)


X = f(2, 3, 4)
WITH_NAN = np.array([1, np.nan, -np.inf, 2], np.float32)
CASES = [
    *[(op, [X], {}) for op in ("Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "Neg", "Reciprocal", "Relu", "Round", "Sigmoid",
                               "Sign", "Sin", "Tanh", "Softplus", "HardSwish", "Elu", "LeakyRelu", "HardSigmoid", "Identity",
                               "Shape", "Size", "Flatten", "Transpose", "Dropout")],
    ("Sqrt", [f(5, low=0.1)], {}), ("Log", [f(5, low=0.1)], {}), ("IsNaN", [WITH_NAN], {}), ("Not", [f(4) > 0], {}),
    ("Elu", [X], {"alpha": 0.3}), ("LeakyRelu", [X], {"alpha": 0.3}), ("HardSigmoid", [X], {"alpha": 0.3, "beta": 0.1}),
    ("Gelu", [10 * X], {}, 20), ("Gelu", [X], {"approximate": "tanh"}, 20),
    *[(op, [X, f(3, 1, seed=1)], {}) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "PRelu")],
    *[(op, [i(4, 5), i(5, low=-5, high=0)], {}) for op in ("Add", "Sub", "Mul", "Div", "Mod", "Max")],
    ("Mod", [X, f(4, low=0.5)], {"fmod": 1}), ("Mod", [i(20), i(20, low=1)], {"fmod": 1}),
    ("Pow", [f(5, low=0.1), f(5)], {}), ("Pow", [X, np.float32(2)], {}), ("Pow", [X, np.float32(3)], {}),
    *[(op, [i(4, 5), i(5)], {}) for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")],
    *[(op, [f(6) > 0, f(6, seed=3) > 0], {}) for op in ("And", "Or", "Xor")],
    ("Where", [f(3, 1) > 0, X, f(4)], {}), ("Clip", [X, np.float32(-0.5), np.float32(0.5)], {}), ("Clip", [X], {"max": 0.2}, 7),
    ("Softmax", [3 * X], {"axis": 1}), ("Softmax", [3 * X], {}), ("Softmax", [3 * X], {"axis": 1}, 11),
    ("LogSoftmax", [3 * X], {}),
    *[(op, [X], {"axes": [1, -1]}, 11) for op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2",
                                                  "ReduceSumSquare")],
    ("ReduceMean", [X, n(0, 2)], {"keepdims": 0}, 18), ("ReduceSum", [X], {"keepdims": 0}),
    ("ReduceSum", [X], {"noop_with_empty_axes": 1}), ("ReduceMax", [i(3, 4)], {"keepdims": 0}, 12),
    ("ArgMax", [i(4, 6, high=0)], {"axis": 1}), ("ArgMax", [i(4, 6, high=0)], {"axis": 0, "keepdims": 0, "select_last_index": 1}),
    ("ArgMin", [i(4, 6)], {"axis": -1}), ("CumSum", [X, np.int64(1)], {}),
    ("CumSum", [X, np.int64(-1)], {"exclusive": 1, "reverse": 1}),
    ("TopK", [f(3, 9), n(4)], {}), ("TopK", [i(3, 9).astype(np.float32), n(5)], {"axis": 1}),
    ("TopK", [f(5, 4), n(2)], {"axis": 0, "largest": 0}),
    *[("Cast", [100 * X], {"to": to}) for to in (1, 6, 7, 10, 11, 3)], ("Cast", [i(5)], {"to": 9}),
    ("Cast", [f(4) > 0], {"to": 1}),
    ("Reshape", [X, n(0, -1)], {}), ("Reshape", [X, n(4, 6)], {}), ("Flatten", [X], {"axis": 2}), ("Flatten", [X], {"axis": -1}),
    ("Squeeze", [f(1, 3, 1)], {}), ("Squeeze", [f(1, 3, 1), n(-1)], {}), ("Squeeze", [f(1, 3, 1)], {"axes": [0]}, 11),
    ("Unsqueeze", [X, n(0, -1)], {}), ("Unsqueeze", [X], {"axes": [1]}, 11), ("Transpose", [X], {"perm": [2, 0, 1]}),
    ("Shape", [X], {"start": 1}), ("Concat", [X, f(2, 5, 4), X], {"axis": -2}),
    ("Slice", [X, n(1, -3), n(9, -1), n(1, 2)], {}), ("Slice", [X, n(-1), n(-9), n(2), n(-2)], {}),
    ("Slice", [X, n(2), n(-(1 << 62)), n(1), n(-1)], {}), ("Slice", [X], {"starts": [1], "ends": [2], "axes": [2]}, 9),
    ("Split", [f(7, 2), n(3, 4)], {"outputs": 2}), ("Split", [f(6, 2)], {"outputs": 3}),
    ("Split", [f(2, 7)], {"axis": 1, "num_outputs": 3, "outputs": 3}, 18),
    ("Expand", [f(3, 1), n(2, 1, 4)], {}), ("Tile", [f(2, 3), n(2, 3)], {}), ("Gather", [X, n(2, -1, 0)], {"axis": 1}),
    ("Gather", [X, np.int64(-1)], {}), ("GatherElements", [f(3, 4), i(3, 2, low=-3, high=3)], {"axis": 0}),
    ("GatherND", [X, i(5, 2, low=-2, high=2)], {}), ("GatherND", [X, i(2, 5, 1, low=-2, high=3)], {"batch_dims": 1}),
    ("ScatterND", [f(4, 3), n(3, 1)[:, None], f(2, 3)], {}),
    ("ScatterND", [f(4, 3), n(1, 1)[:, None], f(2, 3)], {"reduction": "add"}, 18),
    ("ConstantOfShape", [n(2, 3)], {}), ("Range", [np.int64(2), np.int64(9), np.int64(3)], {}),
    ("Range", [np.float32(2), np.float32(0), np.float32(-0.5)], {}),
    ("Pad", [X, n(0, 1, 2, 1, 0, 0), np.float32(7)], {}), ("Pad", [X, n(0, 1, 2, 0, 0, 1)], {"mode": "edge"}),
    ("Pad", [X, n(0, 2, 1, 1, 0, 3)], {"mode": "reflect"}), ("Pad", [X, n(0, -1, 0, 0, 0, -1)], {}),
    ("Pad", [X, n(1, 2), None, n(2)], {}, 18),
    ("MatMul", [X, f(4, 5)], {}), ("MatMul", [f(4), f(3, 4, 2)], {}), ("MatMul", [f(5, 1, 2, 3), f(4, 3, 2)], {}),
    ("MatMul", [f(4), f(4)], {}),
    ("Gemm", [f(3, 4), f(4, 5), f(5)], {}),
    ("Gemm", [f(4, 3), f(5, 4), f(3, 1)], {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", [f(3, 4), f(4, 5)], {}),
    ("MatMulInteger", [q(2, 3, 40, kind=np.uint8), q(40, 5), np.uint8(7), np.int8(-3)], {}),
    ("MatMulInteger", [q(3, 400, kind=np.uint8), q(400, 5), np.uint8(128), q(5, seed=9)], {}),
    ("MatMulInteger", [q(3, 40, kind=np.uint8), q(40, 5, kind=np.uint8)], {}),
    ("QLinearMatMul", [q(3, 40, kind=np.uint8), np.float32(0.02), np.uint8(7), q(40, 5), np.float32(0.03), np.int8(-3),
                       np.float32(0.3), np.uint8(100)], {}),
    ("QLinearMatMul", [q(3, 40), np.float32(0.02), np.int8(7), q(40, 5), f(5, low=0.01), np.zeros(5, np.int8),
                       np.float32(9.0), np.int8(1)], {}),
    ("QuantizeLinear", [50 * X, np.float32(0.5), np.uint8(100)], {}), ("QuantizeLinear", [50 * X, np.float32(0.5)], {}),
    ("QuantizeLinear", [np.arange(-8, 8, 0.25, dtype=np.float32), np.float32(0.5), np.int8(1)], {}),
    ("QuantizeLinear", [50 * X, f(3, low=0.1), q(3)], {"axis": 1}), ("QuantizeLinear", [50 * X, f(2, 3, 2, low=0.1), q(2, 3, 2)],
                                                                    {"axis": -1, "block_size": 2}, 21),
    ("DequantizeLinear", [q(2, 3, 4), np.float32(0.5), np.int8(3)], {}),
    ("DequantizeLinear", [q(2, 3), f(3, low=0.1), q(3)], {"axis": 1}),
    ("DequantizeLinear", [q(5, kind=np.uint8), np.float32(0.5)], {}),
    ("DequantizeLinear", [i(5, kind=np.int32), np.float32(0.5)], {}),
    ("DequantizeLinear", [q(4, 6), f(2, 6, low=0.1), q(2, 6)], {"axis": 0, "block_size": 2}, 21),
    ("DynamicQuantizeLinear", [50 * X], {"outputs": 3}), ("DynamicQuantizeLinear", [f(9, low=0.5)], {"outputs": 3}),
    ("DynamicQuantizeLinear", [-f(9, low=0.5)], {"outputs": 3}),
    ("Conv", [f(2, 4, 9, 8), f(6, 4, 3, 2), f(6)], {"strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]}),
    ("Conv", [f(1, 4, 9, 8), f(8, 1, 3, 3)], {"group": 4, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", [f(1, 4, 9, 8), f(6, 2, 3, 3)], {"group": 2, "auto_pad": "SAME_LOWER"}),
    ("Conv", [f(2, 3, 11), f(4, 3, 5), f(4)], {"pads": [2, 1]}),
    ("Conv", [f(2, 3, 8, 12), f(5, 3, 4, 4), f(5)], {"strides": [4, 4]}),
    ("Conv", [f(1, 3, 9, 6), f(5, 3, 4, 3)], {"strides": [4, 3], "auto_pad": "VALID"}),
    ("ConvTranspose", [f(2, 4, 5, 3), f(4, 3, 4, 4), f(3)], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("ConvTranspose", [f(1, 4, 5, 3), f(4, 3, 3, 2)], {"group": 2, "strides": [2, 3], "output_padding": [1, 2],
                                                       "dilations": [2, 1]}),
    ("ConvTranspose", [f(1, 2, 5), f(2, 3, 3)], {"strides": [2]}),
    ("MaxPool", [f(2, 3, 9, 8)], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    ("MaxPool", [f(2, 3, 9)], {"kernel_shape": [3]}),
    ("AveragePool", [f(2, 3, 9, 8)], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    ("AveragePool", [f(2, 3, 9, 8)], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("GlobalAveragePool", [f(2, 3, 5, 4)], {}),
    ("BatchNormalization", [f(2, 3, 5), f(3), f(3), f(3), f(3, low=0.1)], {"epsilon": 1e-3}),
    ("InstanceNormalization", [f(2, 3, 5, 4), f(3), f(3, seed=5)], {}), ("LayerNormalization", [X, f(4), f(4, seed=5)], {}),
    ("LayerNormalization", [X, f(3, 4)], {"axis": 1, "epsilon": 1e-2}),
    ("Resize", [f(1, 2, 4, 5), None, np.array([1, 1, 2, 1.6], np.float32)], {}),
    ("Resize", [f(1, 2, 4, 5), None, None, n(1, 2, 7, 3)], {"mode": "linear"}),
    ("Resize", [f(1, 2, 4, 5), None, None, n(1, 2, 9, 3)], {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    ("Resize", [f(1, 2, 4, 5), None, None, n(1, 2, 9, 8)], {"mode": "cubic",
                                                       "coordinate_transformation_mode": "pytorch_half_pixel"}),
    ("Resize", [f(1, 2, 4, 5), None, None, n(1, 2, 9, 8)], {"mode": "cubic", "cubic_coeff_a": -0.5}),
    ("Resize", [f(1, 2, 4, 5), None, np.array([1, 1, 3, 2], np.float32)], {"nearest_mode": "floor",
                                                                             "coordinate_transformation_mode": "asymmetric"}),
    ("Resize", [f(1, 2, 4, 5), np.array([1, 1, 2, 3], np.float32)], {}, 10),
]  # fmt: skip


def made(tools, op, inputs, attributes, opset=17):
    """(content, fed inputs) of a model of one operator."""
    attributes = dict(attributes)
    count = attributes.pop("outputs", 2 if op == "TopK" else 1)
    names = ["" if value is None else f"x{at}" for at, value in enumerate(inputs)]
    fed = {name: np.asarray(value) for name, value in zip(names, inputs, strict=True) if name}
    outputs = [f"y{at}" for at in range(count)]
    kinds = {name: (value.dtype.name, value.shape) for name, value in fed.items()}
    return tools.make_model([tools.node(op, names, outputs, **attributes)], kinds, outputs, opset=opset), fed


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[2]}")
def test_operators(case, onnx_tools, tmp_path):
    content, fed = made(onnx_tools, *case)
    (tmp_path / "m").write_bytes(content)
    found = run(load(tmp_path / "m"), fed)
    want = onnx_tools.reference(content, fed)
    assert len(found) == len(want)
    for have, expected in zip(found.values(), want, strict=True):
        assert have.dtype == expected.dtype and have.shape == expected.shape
        if have.dtype.kind == "f":
            np.testing.assert_allclose(have, expected, **CLOSE)
        else:
            np.testing.assert_array_equal(have, expected)


def test_every_operator_of_the_table_is_tested_and_runs():
    table = {op for domain, op in OPERATORS if not domain}
    assert table == set(KERNELS) == {case[0] for case in CASES}
    assert {op for domain, op in OPERATORS if domain} == set(QONNX)


def test_a_wrong_kernel_would_be_seen(onnx_tools, tmp_path, monkeypatch):
    content, fed = made(onnx_tools, "Erf", [X], {})
    (tmp_path / "m").write_bytes(content)
    monkeypatch.setitem(KERNELS, "Erf", lambda call: np.tanh(call.need()))
    assert not np.allclose(run(load(tmp_path / "m"), fed)["y0"], onnx_tools.reference(content, fed)[0], **CLOSE)


def test_erf_against_the_standard_library():
    x = np.concatenate([np.linspace(-7, 7, 20001), [0, np.inf, -np.inf]])
    assert np.abs(erf(x) - [math.erf(each) for each in x]).max() < 2e-8  # beyond 4 it is taken as erf(4)
    assert np.abs(erf(x) - [math.erf(each) for each in x])[np.abs(x) <= 4].max() < 1e-11
    assert np.isnan(erf(np.float32(np.nan))) and erf(np.float32(-0.5)).dtype == np.float32


def test_integer_sums_are_exact_or_refused():
    a, b = np.full((1, 70000), 255), np.full((70000, 1), -255)
    assert integer_product(a, b).item() == -255 * 255 * 70000
    with pytest.raises(ValueError, match="may not fit"):
        integer_product(np.full((1, 4), 1 << 26), np.full((4, 1), 1 << 26))


@pytest.mark.parametrize("inputs, message", [
    ({}, r"input x0 must be given, got \[\]"),
    ({"x0": np.zeros((2, 3), np.int64)}, "input x0 must be of float32, got 'int64'"),
    ({"x0": np.zeros((2, 4), np.float32)}, r"input x0 must be of shape \[2, 3\], got \[2, 4\]"),
    ({"x0": np.zeros((2, 3), np.float32), "z": 1}, r"inputs must be among \['x0'\]"),
])
def test_inputs_that_are_refused(inputs, message, onnx_tools, tmp_path):
    (tmp_path / "m").write_bytes(made(onnx_tools, "Relu", [f(2, 3)], {})[0])
    with pytest.raises(InputError, match=message):
        run(load(tmp_path / "m"), inputs)


@pytest.mark.parametrize("op, inputs, attributes, message", [
    ("Add", [f(2, 3), f(4)], {}, "shape mismatch"),
    ("Gather", [X, n(9)], {}, "an index must be below 2, got 9..9"),
    ("Div", [i(3), i(3) * 0], {}, "an integer is divided by 0"),
    ("Expand", [f(1), n(1 << 40)], {}, "is more than 1000 elements"),
    ("ConstantOfShape", [n(1 << 20, 1 << 40)], {}, "is more than 1000 elements"),
    ("Tile", [f(40), n(1 << 50)], {}, "is more than 1000 elements"),
    ("MatMul", [f(40, 1), f(1, 40)], {}, "is more than 1000 elements"),
    ("Concat", [f(600), f(600)], {"axis": 0}, "keep within 1000 elements"),
    ("Range", [np.float32(0), np.float32(1e9), np.float32(1e-9)], {}, "is more than 1000 elements"),
    ("Pad", [f(3), n(0, 1 << 50)], {}, "is more than 1000 elements"),
    ("LSTM", [f(2, 2, 2)], {}, "no such operator is known"),
])
def test_nodes_that_cannot_run(op, inputs, attributes, message, onnx_tools, tmp_path):
    content, fed = made(onnx_tools, op, inputs, attributes)
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(InputError, match=f"node {op}_0 must .*{message}"):
        run(load(tmp_path / "m"), fed, limit=1000)
