"""Matrices of ONNX files become layers: their weights equal what onnxruntime multiplies by, their names tell the role."""

from functools import partial

import numpy as np
import pytest
from onnx import TensorProto, helper

from sparseloom.models.golden.onnx_run import run
from sparseloom.models.graph import GroupedForm
from sparseloom.models.importers import load

K, N = 48, 10
RNG = np.random.default_rng(0)
W = RNG.normal(size=(K, N)).astype(np.float32)
CODES = RNG.integers(-127, 128, (K, N)).astype(np.int8)
SMALL = RNG.integers(-8, 8, (K, N)).astype(np.int8)
UNSIGNED = RNG.integers(0, 256, (K, N)).astype(np.uint8)
SCALE = np.float32(0.0625)
SCALES = (2.0 ** RNG.integers(-6, 0, N)).astype(np.float32)
BLOCKS = (2.0 ** RNG.integers(-6, 0, (K // 16, N))).astype(np.float32)
FLOAT, INT4 = {"x": ("float32", (3, K))}, TensorProto.INT4


def int4(name, array):
    return helper.make_tensor(name, INT4, array.shape, array.reshape(-1).tolist())


def matmul(tools, nodes, constants, weight="w", **options):
    """A model of y = x w, ``nodes`` making w."""
    return tools.make_model([*nodes, tools.node("MatMul", ["x", weight], ["y"])], FLOAT, ["y"], constants, **options)


def qdq(tools, codes, scale, zero=None, opset=21, **said):
    names = ["q", "s"] + ([] if zero is None else ["z"])
    constants = {"q": codes, "s": scale} | ({} if zero is None else {"z": zero})
    return matmul(tools, [tools.node("DequantizeLinear", names, ["w"], **said)], constants, opset=opset)


def turned(tools):
    nodes = [tools.node("DequantizeLinear", ["q", "s"], ["v"], axis=0), tools.node("Transpose", ["v"], ["w"], perm=[1, 0])]
    return matmul(tools, nodes, {"q": np.ascontiguousarray(CODES.T), "s": SCALES})


def cast(tools, zero=False):
    nodes = [tools.node("Cast", ["q"], ["c"], to=1)]
    nodes += [tools.node("Sub", ["c", "z"], ["d"])] if zero else []
    nodes += [tools.node("Mul", ["d" if zero else "c", "s"], ["w"])]
    return matmul(tools, nodes, {"q": CODES, "s": SCALES} | ({"z": np.float32(3)} if zero else {}))


def gemm(tools, trans):
    weight = np.ascontiguousarray(CODES.T) if trans else CODES
    nodes = [tools.node("DequantizeLinear", ["q", "s"], ["w"], axis=1 - trans),
             tools.node("Gemm", ["x", "w", "b"], ["y"], transB=trans, alpha=0.5)]
    return tools.make_model(nodes, FLOAT, ["y"], {"q": weight, "s": SCALES, "b": np.ones(N, np.float32)})


def integer(tools, zero=True):
    """As a runtime quantises a product on the fly: codes, integer product, cast, times both scales."""
    nodes = [tools.node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
             tools.node("MatMulInteger", ["xq", "q", "xz", *(["z"] if zero else [])], ["i"]),
             tools.node("Cast", ["i"], ["c"], to=1), tools.node("Mul", ["xs", "s"], ["ss"]),
             tools.node("Mul", ["c", "ss"], ["y"])]
    constants = {"q": UNSIGNED if zero else CODES, "s": SCALES} | ({"z": np.uint8(131)} if zero else {})
    return tools.make_model(nodes, FLOAT, ["y"], constants)


def qlinear(tools):
    nodes = [tools.node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
             tools.node("QLinearMatMul", ["xq", "xs", "xz", "q", "s", "z", "ys", "yz"], ["yq"]),
             tools.node("DequantizeLinear", ["yq", "ys", "yz"], ["y"])]
    constants = {"xs": np.float32(0.03), "xz": np.uint8(120), "q": CODES, "s": SCALE, "z": np.int8(2), "ys": np.float32(0.5)}
    return tools.make_model(nodes, FLOAT, ["y"], constants | {"yz": np.uint8(128)})


FORM8 = GroupedForm(bits=8, scale_group=K)
ZERO8 = GroupedForm(bits=8, scale_group=K, header="zero")
CASES = {
    "QDQ, one scale": (partial(qdq, codes=CODES, scale=SCALE), CODES * SCALE, FORM8, "int8 QDQ"),
    "QDQ, a scale a column": (partial(qdq, codes=CODES, scale=SCALES, axis=1), CODES * SCALES, FORM8, "int8 QDQ"),
    "QDQ, negative axis, zeros": (partial(qdq, codes=CODES, scale=SCALES, zero=np.arange(N, dtype=np.int8), axis=-1),
                                  (CODES - np.arange(N)) * SCALES, ZERO8, "int8 QDQ"),
    "QDQ, uint8": (partial(qdq, codes=UNSIGNED, scale=SCALE, zero=np.uint8(200)), (UNSIGNED - 200.0) * SCALE, ZERO8, "uint8 QDQ"),
    "QDQ, blocks": (partial(qdq, codes=CODES, scale=BLOCKS, axis=0, block_size=16), CODES * np.repeat(BLOCKS, 16, 0),
                    GroupedForm(bits=8, scale_group=16), "int8 QDQ"),
    "QDQ, int4 in nibbles": (partial(qdq, codes=int4("q", SMALL), scale=BLOCKS, axis=0, block_size=16),
                             SMALL * np.repeat(BLOCKS, 16, 0), GroupedForm(bits=4, scale_group=16), "int8 QDQ"),
    "QDQ, codes of four bits in int8": (partial(qdq, codes=SMALL, scale=SCALE), SMALL * SCALE, GroupedForm(bits=4, scale_group=K),
                                        "int8 QDQ"),
    "QDQ, transposed": (turned, CODES * SCALES, FORM8, "int8 QDQ"),
    "cast and scaled": (cast, CODES * SCALES, FORM8, "int8, scaled"),
    "cast, less a zero point, scaled": (partial(cast, zero=True), (CODES - 3.0) * SCALES, ZERO8, "int8, scaled"),
    "Gemm": (partial(gemm, trans=0), CODES * SCALES, FORM8, "int8 QDQ"),
    "Gemm, transB": (partial(gemm, trans=1), CODES * SCALES, FORM8, "int8 QDQ"),
    "MatMulInteger": (integer, (UNSIGNED - 131.0) * SCALES, ZERO8, "uint8 MatMulInteger"),
    "MatMulInteger, no zero point": (partial(integer, zero=False), CODES * SCALES, FORM8, "int8 MatMulInteger"),
    "QLinearMatMul": (qlinear, (CODES - 2.0) * SCALE, ZERO8, "int8 QLinearMatMul"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_quantised_matrices(case, onnx_tools, tmp_path):
    make, want, form, name = CASES[case]
    content = make(onnx_tools)
    (tmp_path / "m").write_bytes(content)
    graph = load(tmp_path / "m")
    layer, = graph.on("engine")
    assert (layer.op, layer.shape, layer.format, layer.weight.form) == ("linear", (N, K), name, form)
    weight = layer.weight.load()
    np.testing.assert_array_equal(weight.dequantise(), want.T.astype(np.float32))
    assert weight.form == form and [node.layer for node in graph.nodes.nodes if node.layer] == [layer.name]
    x = RNG.normal(size=(3, K)).astype(np.float32)
    (have,), (expected,) = run(graph, {"x": x}).values(), onnx_tools.reference(content, {"x": x})
    # float32 sums in another order than onnxruntime's: seven digits, a few of them lost to cancellation.
    np.testing.assert_allclose(have, expected, rtol=1e-5, atol=1e-5)


def test_bytes_are_those_of_the_file(onnx_tools, tmp_path):
    (tmp_path / "m").write_bytes(qdq(onnx_tools, int4("q", SMALL), BLOCKS, axis=0, block_size=16))
    layer, = load(tmp_path / "m").on("engine")
    assert layer.nbytes == K * N // 2 + 4 * BLOCKS.size


@pytest.mark.parametrize("as_nodes", [False, True])
def test_float_matrices_on_request(as_nodes, onnx_tools, tmp_path):
    (tmp_path / "m").write_bytes(matmul(onnx_tools, [], {"w": W}, as_nodes=as_nodes))
    layer, = load(tmp_path / "m").layers
    assert layer.runs_on == "unsupported" and layer.reason.startswith("float weights: compress first")
    graph = load(tmp_path / "m", float_weights="int8")
    weight = graph["w"].weight.load()
    # Half a step of int8 is the bound from theory; a thousandth for the float32 scale.
    np.testing.assert_allclose(weight.dequantise(), W.T, atol=np.abs(W).max() / 127 / 2 * 1.001)
    assert np.abs(weight.integers()).max(axis=1).tolist() == [127] * N
    with pytest.raises(ValueError, match="float_weights must be one of int8, got 'int4'"):
        load(tmp_path / "m", float_weights="int4")


@pytest.mark.parametrize("make, reason", [
    (partial(qdq, codes=CODES, scale=np.ones(K, np.float32), axis=0), "a scale or zero point for each input cannot"),
    (partial(qdq, codes=CODES.astype(np.int32) * 300, scale=SCALE), "take more than 8 bits"),
])
def test_matrices_that_no_engine_takes(make, reason, onnx_tools, tmp_path):
    (tmp_path / "m").write_bytes(make(onnx_tools))
    layer, = load(tmp_path / "m").on("unsupported")
    assert reason in layer.reason


def test_patches_are_a_product(onnx_tools, tmp_path):
    weight = RNG.normal(size=(7, 3, 4, 5)).astype(np.float32)
    node = onnx_tools.node("Conv", ["x", "p.weight", "b"], ["y"], strides=[4, 5])
    constants = {"p.weight": weight, "b": np.ones(7, np.float32)}
    content = onnx_tools.make_model([node], {"x": ("float32", (2, 3, 9, 10))}, ["y"], constants)
    (tmp_path / "m").write_bytes(content)
    graph = load(tmp_path / "m", float_weights="int8")
    assert graph["p.weight"].shape == (7, 60) and graph.nodes.nodes[0].layer == "p.weight"
    x = RNG.normal(size=(2, 3, 9, 10)).astype(np.float32)
    have = run(graph, {"x": x}, linear=lambda name, x: x @ weight.reshape(7, -1).T)["y"]
    # float32 sums in another order than onnxruntime's: seven digits, a few of them lost to cancellation.
    np.testing.assert_allclose(have, onnx_tools.reference(content, {"x": x})[0], rtol=1e-5, atol=1e-5)


def test_a_convolution_stays_on_the_host(onnx_tools, tmp_path):
    node = onnx_tools.node("Conv", ["x", "w"], ["y"], strides=[1, 2])
    constants = {"w": np.ones((2, 3, 2, 2), np.float32)}
    (tmp_path / "m").write_bytes(onnx_tools.make_model([node], {"x": ("float32", (2, 3, 9, 10))}, ["y"], constants))
    layer, = load(tmp_path / "m").layers
    assert (layer.op, layer.runs_on, layer.reason) == ("convolution", "host", "convolutions stay on the host")


def test_names_tell_the_role(onnx_tools, tmp_path):
    """The weight's name; else the path of the node; else the name of the bias that is added; tied weights are one layer."""
    node, square = onnx_tools.node, np.ones((4, 4), np.float32)
    nodes = [
        node("MatMul", ["x", "block.0.fc.weight"], ["a"], name="/block.0/fc/MatMul"),
        node("MatMul", ["a", "onnx::MatMul_7"], ["b"], name="/block.0/attention/key/MatMul"),
        node("MatMul", ["b", "val_9"], ["c"], name="node_MatMul_3"),
        node("Add", ["c", "block.0.out.bias"], ["d"]),
        node("MatMul", ["d", "12"], ["e"]),
        node("MatMul", ["e", "block.0.fc.weight"], ["f"]),
        node("MatMul", ["f", "a/b\\c"], ["g"]),
        node("Gather", ["table", "at"], ["h"]),
    ]
    constants = {"block.0.fc.weight": square, "onnx::MatMul_7": 2 * square, "val_9": 3 * square, "12": 4 * square,
                 "a/b\\c": square, "block.0.out.bias": square[0], "table": np.ones((9, 4), np.float32)}
    inputs = {"x": ("float32", (2, 4)), "at": ("int64", (3,))}
    (tmp_path / "m").write_bytes(onnx_tools.make_model(nodes, inputs, ["g", "h"], constants))
    graph = load(tmp_path / "m")
    assert [(layer.name, layer.op) for layer in graph.layers] == [
        ("block.0.fc.weight", "linear"), ("block.0.attention.key.weight", "linear"), ("block.0.out.weight", "linear"),
        ("MatMul_3.weight", "linear"), ("a.b.c", "linear"), ("table", "embedding"), ("block.0.out.bias", "vector")]
    assert graph.nodes.nodes[5].layer == "block.0.fc.weight"


def test_external_data_beside_the_file(onnx_tools, tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"skip" + W.tobytes())
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=W.shape, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "weights.bin"), ("offset", "4"), ("length", str(W.nbytes))):
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "m").write_bytes(matmul(onnx_tools, [], {"w": tensor}))
    graph = load(tmp_path / "m")
    np.testing.assert_array_equal(graph.nodes.constants["w"], W)


@pytest.mark.parametrize("dtype, field, values, want", [
    (TensorProto.INT8, "int32_data", [-128, 127], np.int8([-128, 127])),
    (TensorProto.UINT64, "uint64_data", [1, 1 << 63], np.uint64([1, 1 << 63])),
    (TensorProto.FLOAT16, "int32_data", [0x3C00, 0xBC00], np.float16([1, -1])),
    (TensorProto.BOOL, "int32_data", [1, 0], np.array([True, False])),
    (TensorProto.BFLOAT16, "int32_data", [0x3F80, 0xC000], np.float32([1, -2])),
    (TensorProto.INT4, "int32_data", [0x8F], np.int8([-1, -8])),
    (TensorProto.DOUBLE, "double_data", [0.5, 2.0], np.float64([0.5, 2])),
    (TensorProto.UINT4, "raw_data", b"\x8f", np.uint8([15, 8])),
])
def test_tensor_storage(dtype, field, values, want, onnx_tools, tmp_path):
    tensor = TensorProto(name="w", data_type=dtype, dims=[2])
    if field == "raw_data":
        tensor.raw_data = values
    else:
        getattr(tensor, field).extend(values)
    content = onnx_tools.make_model([onnx_tools.node("Identity", ["x"], ["y"])], FLOAT, ["y"], {"w": tensor})
    (tmp_path / "m").write_bytes(content)
    found = load(tmp_path / "m").nodes.constants["w"]
    assert found.dtype == want.dtype
    np.testing.assert_array_equal(found, want)
