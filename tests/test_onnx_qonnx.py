"""QONNX's quantisers against a transcription of their document in Python's fractions; weights through Quant to devices."""

import math
from fractions import Fraction

import numpy as np
import onnx
import pytest

from sparseloom.host.compiler import compile_graph
from sparseloom.host.golden import GoldenDevice
from sparseloom.host.runtime import Runtime
from sparseloom.models.formats.qonnx import ROUNDINGS, Quantiser, quant_codes
from sparseloom.models.golden.onnx_int8 import Int8
from sparseloom.models.golden.onnx_run import run
from sparseloom.models.graph import GroupedForm
from sparseloom.models.importers import load
from sparseloom.models.importers.onnx_check import describe_operators
from sparseloom.models.spec.sparse_chain import SparseChain
from sparseloom.models.spec.ternary import TernaryEngine

RNG = np.random.default_rng(3)
K, N = 32, 6
INPUT = {"x": ("float32", (2, K))}
# the document's table: numbers, then what each mode makes of them
NUMBERS = ["5.5", "2.5", "1.6", "1.1", "1.0", "-1.0", "-1.1", "-1.6", "-2.5", "-5.5"]
TABLE = {
    "ROUND": [6, 2, 2, 1, 1, -1, -1, -2, -2, -6], "CEIL": [6, 3, 2, 2, 1, -1, -1, -1, -2, -5],
    "FLOOR": [5, 2, 1, 1, 1, -1, -2, -2, -3, -6], "UP": [6, 3, 2, 2, 1, -1, -2, -2, -3, -6],
    "DOWN": [5, 2, 1, 1, 1, -1, -1, -1, -2, -5], "HALF_UP": [6, 3, 2, 1, 1, -1, -1, -2, -3, -6],
    "HALF_DOWN": [5, 2, 2, 1, 1, -1, -1, -2, -2, -5],
}  # fmt: skip


def rounded(x, mode):
    """A fraction by a rounding mode, by comparisons alone."""
    below = math.floor(x)
    rest, away = x - below, below + 1 if x > 0 else below
    toward = below if x > 0 else math.ceil(x)
    half = {"ROUND": below + below % 2, "HALF_UP": away, "HALF_DOWN": toward}
    if rest == 0:
        return below
    if mode in half:
        return half[mode] if rest == Fraction(1, 2) else below + (rest > Fraction(1, 2))
    return {"CEIL": below + 1, "FLOOR": below, "UP": away, "DOWN": toward}[mode]


def transcribed(x, scale, zero, bits, signed, narrow, mode):
    """The document's Quant on fractions: divide, add, clamp, round, subtract, multiply. All of them exact here."""
    q = Fraction(x) / Fraction(scale) + Fraction(zero)
    if signed and bits == 1:
        q = 1 if q >= 0 else -1
    else:
        least = (-(2 ** (bits - 1)) + narrow) if signed else 0
        most = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
        q = rounded(min(max(q, least), most), mode)
    return float((q - Fraction(zero)) * Fraction(scale))


def quant(tools, constants, opset=17, **said):
    node = tools.node("Quant", ["x", "s", "z", "b"], ["y"], domain=tools.QONNX, **said)
    return tools.make_model([node], {"x": ("float32", (64,))}, ["y"], constants, opset=opset)


def test_the_documents_table():
    for mode, want in TABLE.items():
        assert [rounded(Fraction(x), mode) for x in NUMBERS] == want
        assert ROUNDINGS[mode](np.float32(NUMBERS)).tolist() == want


@pytest.mark.parametrize("mode", TABLE)
@pytest.mark.parametrize("bits, signed, narrow", [(1, 1, 0), (1, 0, 0), (2, 1, 1), (2, 1, 0), (3, 0, 1), (4, 1, 0), (4, 0, 0),
                                                  (8, 1, 1)])
def test_quant(mode, bits, signed, narrow, onnx_tools, tmp_path):
    """Scales are powers of two and inputs short, so that float32's operations are exact, as fractions' are: equality."""
    x = (RNG.integers(-400, 400, 64) / 16).astype(np.float32)
    for scale, zero in ((0.5, 0), (0.125, 3), (2.0, -1)):
        constants = {"s": np.float32(scale), "z": np.float32(zero), "b": np.float32(bits)}
        (tmp_path / "m").write_bytes(quant(onnx_tools, constants, signed=signed, narrow=narrow, rounding_mode=mode))
        have = run(load(tmp_path / "m"), {"x": x})["y"]
        want = [transcribed(float(each), scale, zero, bits, signed, narrow, mode) for each in x]
        assert have.dtype == np.float32 and have.tolist() == want


@pytest.mark.parametrize("mode", TABLE)
def test_clamp_and_rounding_in_either_order(mode):
    """QONNX clamps first. Limits are whole and every mode keeps order and whole numbers, so the order cannot be seen."""
    x, three = np.linspace(-9, 9, 1801, dtype=np.float32), Quantiser(bits=3, rounding=mode)
    assert three.limits == (-4, 3)
    np.testing.assert_array_equal(quant_codes(x, 1, 0, three), np.clip(ROUNDINGS[mode](x), -4, 3))


@pytest.mark.parametrize("said, message", [
    ({"bits": 2.5}, "bit width must be a whole number of 1..32, got 2.5"), ({"bits": 0}, "bit width must be"),
    ({"bits": float("nan")}, "bit width must be"), ({"bits": 4, "rounding": "ODD"}, "rounding_mode must be one of ROUND"),
])
def test_quantisers_that_are_none(said, message):
    with pytest.raises(ValueError, match=message):
        Quantiser(**said)


def weights(tools, values, scale, zero=0.0, bits=2, op="Quant", **said):
    """y = x Q(w): ``values`` [k, n]."""
    constants = {"w": values, "s": np.float32(scale), "z": np.float32(zero), "b": np.float32(bits)}
    inputs = ["w", "s", "z", "b"] if op == "Quant" else ["w", "s"]
    constants = {name: value for name, value in constants.items() if name in inputs}
    nodes = [tools.node(op, inputs, ["q"], domain=tools.QONNX, **said), tools.node("MatMul", ["x", "q"], ["y"])]
    return tools.make_model(nodes, INPUT, ["y"], constants)


FLOATS = RNG.normal(size=(K, N)).astype(np.float32)
PER_COLUMN = (2.0 ** RNG.integers(-3, 0, (1, N))).astype(np.float32)


def form(bits, header="scale"):
    return GroupedForm(bits=bits, scale_group=K, header=header)


@pytest.mark.parametrize("scale, said, bits, kind, form", [
    (0.5, {"narrow": 1}, 2, "ternary", None), (PER_COLUMN, {"narrow": 1}, 2, "grouped", form(2)),
    (0.5, {}, 2, "grouped", form(2)),
    (PER_COLUMN, {}, 4, "grouped", form(4)), (0.25, {}, 5, "grouped", form(8)),
    (0.25, {"zero": 3}, 3, "grouped", form(3, "zero")),
    (0.25, {"signed": 0, "zero": 4}, 4, "grouped", form(4, "zero")), (0.01, {}, 8, "grouped", form(8)),
    (0.5, {"op": "BipolarQuant"}, 1, "ternary", None), (PER_COLUMN, {"op": "BipolarQuant"}, 1, "grouped", form(2)),
    (0.5, {}, 1, "grouped", form(2)), (0.25, {"rounding_mode": "half_up"}, 4, "grouped", form(4)),
])
def test_quant_weights_are_layers(scale, said, bits, kind, form, onnx_tools, tmp_path):
    (tmp_path / "m").write_bytes(weights(onnx_tools, FLOATS, scale, bits=bits, **said))
    graph = load(tmp_path / "m")
    layer, = graph.layers
    assert (layer.name, layer.shape, layer.runs_on, layer.weight.kind, layer.weight.form) == ("w", (N, K), "engine", kind, form)
    weight = layer.weight.load()
    dense = weight.scale * weight.trits if kind == "ternary" else weight.dequantise()
    eye = np.eye(K, dtype=np.float32)
    np.testing.assert_array_equal(np.concatenate([run(graph, {"x": eye[at : at + 2]})["y"] for at in range(0, K, 2)]), dense.T)


@pytest.mark.parametrize("op, domain", [("Quant", "finn.custom_op.general"), ("Quant", "onnx.brevitas"),
                                        ("IntQuant", "qonnx.custom_op.general")])
def test_other_names_of_quant(op, domain, onnx_tools, tmp_path):
    content = weights(onnx_tools, FLOATS, 0.5, narrow=1)
    model = onnx.ModelProto.FromString(content)
    model.graph.node[0].op_type, model.graph.node[0].domain = op, domain
    (tmp_path / "m").write_bytes(model.SerializeToString())
    (tmp_path / "n").write_bytes(content)
    renamed, plain = load(tmp_path / "m"), load(tmp_path / "n")
    np.testing.assert_array_equal(renamed["w"].weight.load().trits, plain["w"].weight.load().trits)
    x = RNG.normal(size=(2, K)).astype(np.float32)
    np.testing.assert_array_equal(run(renamed, {"x": x})["y"], run(plain, {"x": x})["y"])


@pytest.mark.parametrize("scale, said, message", [
    (0.0, {}, "scale must be finite and above 0"), (-1.0, {}, "scale must be finite"), (float("nan"), {}, "scale must be finite"),
])
def test_scales_that_are_none(scale, said, message, onnx_tools, tmp_path):
    (tmp_path / "m").write_bytes(weights(onnx_tools, FLOATS, scale, **said))
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "m")


@pytest.mark.parametrize("said, reason", [
    ({"bits": 12}, "take more than 8 bits"), ({"zero": 0.5}, "a zero point must be a whole number, one is 0.5"),
])
def test_weights_that_no_engine_takes(said, reason, onnx_tools, tmp_path):
    (tmp_path / "m").write_bytes(weights(onnx_tools, FLOATS, 0.001, **{"bits": 4} | said))
    layer, = load(tmp_path / "m").layers
    assert layer.runs_on == "unsupported" and reason in layer.reason


@pytest.mark.parametrize("said, reason", [
    ({"rounding_mode": "ODD"}, "rounding_mode must be ROUND or"),
    ({"bits": 2.5}, "bit width must be a whole number of 1..32, got 2.5"),
])
def test_nodes_that_are_refused(said, reason, onnx_tools, tmp_path):
    (tmp_path / "m").write_bytes(weights(onnx_tools, FLOATS, 0.5, **said))
    row, = [row for row in describe_operators(load(tmp_path / "m").nodes) if row["runs_on"] == "unsupported"]
    assert row["op"] == "Quant" and reason in row["reason"] and row["nearest"].startswith("Quant with constant scale")


@pytest.mark.parametrize("build, said", [(TernaryEngine(rows=2, lanes=5), {"narrow": 1}), (SparseChain(chains=1), {"bits": 4})])
def test_a_product_on_the_golden_device(build, said, onnx_tools, tmp_path):
    """The whole way: file, graph, plan, device; the graph runs with its product there and equals the engine's arithmetic here."""
    (tmp_path / "m").write_bytes(weights(onnx_tools, FLOATS, 0.5, **said))
    graph = load(tmp_path / "m")
    runtime = Runtime(GoldenDevice(build), compile_graph(graph, build))
    x = RNG.normal(size=(2, K)).astype(np.float32)
    device, here, plain = (run(graph, {"x": x}, linear=linear)["y"] for linear in (runtime.linear, Int8(graph).linear, None))
    # Engine scales have 16-bit mantissas.
    np.testing.assert_allclose(device, here, rtol=1e-3, atol=1e-3 * np.abs(plain).max())
    # What int8 activations cost; the engine itself is held to the line above.
    np.testing.assert_allclose(device, plain, atol=0.03 * np.abs(plain).max())
    assert len(runtime.calls) == 1 and not np.array_equal(device, plain)


@pytest.mark.parametrize("scale, zero, said", [
    (0.05, 0, {"bits": 8}), (0.1, 3, {"bits": 6, "narrow": 1}), (0.04, 120, {"bits": 8, "signed": 0}),
])
def test_activations_in_the_files_own_codes(scale, zero, said, onnx_tools, tmp_path):
    """Both sides by Quant: the integers are those of the file, and the product is exact but for the scales' multiplication."""
    node, bits = onnx_tools.node, said.pop("bits")
    nodes = [node("Quant", ["x", "xs", "xz", "xb"], ["xq"], domain=onnx_tools.QONNX, **said),
             node("Quant", ["w", "s", "z", "b"], ["wq"], domain=onnx_tools.QONNX), node("MatMul", ["xq", "wq"], ["y"])]
    constants = {"xs": np.float32(scale), "xz": np.float32(zero), "xb": np.float32(bits), "w": FLOATS, "s": PER_COLUMN,
                 "z": np.float32(0), "b": np.float32(4)}
    (tmp_path / "m").write_bytes(onnx_tools.make_model(nodes, INPUT, ["y"], constants))
    graph, x = load(tmp_path / "m"), RNG.normal(size=(2, K)).astype(np.float32)
    int8, signed = Int8(graph), said.get("signed", 1)
    codes = [[round(transcribed(each, scale, zero, bits, signed, said.get("narrow", 0), "ROUND") / scale) for each in row]
             for row in (x.astype(np.float64) / 1).tolist()]
    want = (np.array(codes) @ graph["w"].weight.load().integers().T) * (PER_COLUMN.astype(np.float64) * np.float32(scale))
    exact = run(graph, {"x": x}, linear=int8.linear, coded=int8.coded)["y"]
    # Integers are exact; float32 scales and floats of the file against float64.
    np.testing.assert_allclose(exact, want, rtol=1e-6)
    np.testing.assert_allclose(run(graph, {"x": x})["y"], want, rtol=1e-4, atol=1e-5)
    assert np.abs(run(graph, {"x": x}, linear=int8.linear)["y"] - want).max() > 1e-3 * np.abs(want).max()  # rounded anew


def test_static_codes_of_dequantize_linear(onnx_tools, tmp_path):
    """QDQ on both sides, unsigned activations: integers of the file's codes, exact."""
    node = onnx_tools.node
    codes = RNG.integers(-127, 128, (K, N)).astype(np.int8)
    nodes = [node("QuantizeLinear", ["x", "xs", "xz"], ["q"]), node("DequantizeLinear", ["q", "xs", "xz"], ["f"]),
             node("DequantizeLinear", ["w", "s"], ["g"]), node("Gemm", ["f", "g", "c"], ["y"], alpha=0.5)]
    constants = {"xs": np.float32(0.02), "xz": np.uint8(110), "w": codes, "s": np.float32(0.125), "c": np.float32([1] * N)}
    content = onnx_tools.make_model(nodes, INPUT, ["y"], constants)
    (tmp_path / "m").write_bytes(content)
    graph, x = load(tmp_path / "m"), RNG.normal(size=(2, K)).astype(np.float32)
    activations = np.clip(np.rint(x / np.float32(0.02)) + 110, 0, 255).astype(int) - 110
    want = (activations @ codes.astype(int)) * (np.float64(np.float32(0.02)) * 0.125 * 0.5) + 1
    # Integers are exact; float32 scales against float64, onnxruntime all in float32.
    np.testing.assert_allclose(run(graph, {"x": x}, coded=Int8(graph).coded)["y"], want, rtol=1e-6)
    np.testing.assert_allclose(onnx_tools.reference(content, {"x": x})[0], want, rtol=1e-4, atol=1e-4)


def test_codes_of_more_than_eight_bits_are_refused(onnx_tools, tmp_path):
    (tmp_path / "m").write_bytes(weights(onnx_tools, FLOATS, 0.5))
    with pytest.raises(ValueError, match="codes must be of 8 bits, got 0..300"):
        Int8(load(tmp_path / "m")).coded("w", np.array([[0, 300]]), 1.0, 0)
