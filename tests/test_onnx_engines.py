"""Operations of a graph in the engines' arithmetic: near their float twins, jobs legal, what an engine lacks left to the host."""

import numpy as np
import pytest

from sparseloom.host.compiler import compile_graph
from sparseloom.host.golden import GoldenDevice
from sparseloom.host.runtime import Runtime
from sparseloom.models.golden.onnx_engines import EngineOperations, mantissas
from sparseloom.models.golden.onnx_run import run
from sparseloom.models.importers import load
from sparseloom.models.importers.onnx_patterns import find_patterns
from sparseloom.models.spec.sparse_chain import SparseChain

HEADS, TOKENS, D, WIDTH = 3, 7, 8, 24
RNG = np.random.default_rng(11)
QKV = {name: ("float32", (HEADS, *size)) for name, size in (("q", (TOKENS, D)), ("k", (TOKENS, D)), ("v", (TOKENS, D)))}
ROWS = {"x": ("float32", (TOKENS, WIDTH))}
GAIN, BIAS = RNG.normal(1, 0.5, WIDTH).astype(np.float32), RNG.normal(size=WIDTH).astype(np.float32)


def attention(tools, scale=0.35, mask=None):
    node = tools.node
    nodes = [node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]), node("MatMul", ["q", "kt"], ["s"]), node("Mul", ["s", "c"], ["t"]),
             *([] if mask is None else [node("Add", ["t", "m"], ["u"])]),
             node("Softmax", ["t" if mask is None else "u"], ["p"], axis=-1),
             node("MatMul", ["p", "v"], ["y"])]
    constants = {"c": np.float32(scale)} | ({} if mask is None else {"m": mask})
    return tools.make_model(nodes, QKV, ["y"], constants)


def one(op, constants=(), **said):
    def make(tools):
        return tools.make_model([tools.node(op, ["x", *dict(constants)], ["y"], **said)], ROWS, ["y"], constants, opset=20)

    return make


def rms_norm(tools):
    node = tools.node
    nodes = [node("Mul", ["x", "x"], ["a"]), node("ReduceMean", ["a", "axes"], ["b"]), node("Add", ["b", "e"], ["c"]),
             node("Sqrt", ["c"], ["d"]), node("Div", ["x", "d"], ["f"]), node("Mul", ["f", "g"], ["y"])]
    constants = {"axes": np.int64([-1]), "e": np.float32(1e-5), "g": GAIN}
    return tools.make_model(nodes, ROWS, ["y"], constants, opset=18)


def silu(tools):
    return tools.make_model([tools.node("Sigmoid", ["x"], ["s"]), tools.node("Mul", ["x", "s"], ["y"])], ROWS, ["y"])


CASES = {
    "layer norm": (one("LayerNormalization", {"g": GAIN, "b": BIAS}, epsilon=1e-5), "vector", "layernorm", 2e-4),
    "layer norm, no bias": (one("LayerNormalization", {"g": GAIN}), "vector", "layernorm", 2e-4),
    "RMS norm": (rms_norm, "vector", "rmsnorm", 2e-4), "GELU": (one("Gelu"), "vector", "gelu", 2e-4),
    "SiLU": (silu, "vector", "silu", 2e-4), "sigmoid": (one("Sigmoid"), "vector", "sigmoid", 1e-4),
    "attention": (attention, "attention", None, 0.02),
}  # fmt: skip


def drawn(graph, size=1.0):
    return {value.name: (RNG.normal(size=value.shape) * size).astype(np.float32) for value in graph.nodes.inputs}


@pytest.mark.parametrize("size", [1e-3, 1.0, 300.0])
@pytest.mark.parametrize("case", CASES)
def test_operations(case, size, onnx_tools, tmp_path):
    """Near the float result, not equal to it; one legal job that clamps nothing, with its cycles."""
    make, engine, function, error = CASES[case]
    (tmp_path / "m").write_bytes(make(onnx_tools))
    graph = load(tmp_path / "m")
    inputs, engines = drawn(graph, min(size, 1.0) if engine == "attention" else size), EngineOperations(graph)
    plain, found = run(graph, inputs)["y"], run(graph, inputs, operations=engines.operations)["y"]
    assert found.dtype == np.float32 and found.shape == plain.shape
    assert 0 < np.abs(found - plain).max() <= error * max(1.0, np.abs(plain).max())
    job, = engines.jobs
    assert (job.build.name, getattr(job.build, "function", None), job.saturated) == (engine, function, 0)
    assert job.build.cycles(job.job) > 0


@pytest.mark.parametrize("score", ["two_pass", "online"])
def test_the_scale_of_attention_counts(score, onnx_tools, tmp_path):
    """Twice the scale is another softmax, and the engine follows it."""
    results = []
    for scale in (0.2, 0.4):
        (tmp_path / "m").write_bytes(attention(onnx_tools, scale))
        graph = load(tmp_path / "m")
        # The file has it as float32.
        assert find_patterns(graph.nodes)[0].said["scale"] == pytest.approx(scale)
        inputs = {name: np.random.default_rng(ord(name)).normal(size=size).astype(np.float32) for name, (_, size) in QKV.items()}
        results.append((run(graph, inputs)["y"], run(graph, inputs, operations=EngineOperations(graph, score).operations)["y"]))
    (plain, found), (plain2, found2) = results
    assert np.abs(plain - plain2).max() > 0.1
    assert max(np.abs(found - plain).max(), np.abs(found2 - plain2).max()) < 0.02


def test_a_causal_constant_is_a_causal_job(onnx_tools, tmp_path):
    (tmp_path / "m").write_bytes(attention(onnx_tools, mask=np.triu(np.full((TOKENS, TOKENS), -np.inf, np.float32), 1)))
    graph = load(tmp_path / "m")
    engines, inputs = EngineOperations(graph), drawn(graph)
    found = run(graph, inputs, operations=engines.operations)["y"]
    assert [each.job.causal for each in engines.jobs] == [True]
    assert 0 < np.abs(found - run(graph, inputs)["y"]).max() < 0.03
    # int8 codes of the values: half a step of 1/127 of the largest.
    np.testing.assert_allclose(found[:, 0], inputs["v"][:, 0], atol=0.02)  # the first query sees the first key alone


@pytest.mark.parametrize("mask", [np.tril(np.full((TOKENS, TOKENS), -1e9, np.float32), -1),
                                  np.ones((TOKENS, TOKENS), np.float32)])
def test_attention_with_another_mask_is_left_to_the_host(mask, onnx_tools, tmp_path):
    (tmp_path / "m").write_bytes(attention(onnx_tools, mask=mask))
    graph = load(tmp_path / "m")
    engines = EngineOperations(graph)
    inputs = drawn(graph)
    assert engines.operations == {}
    np.testing.assert_array_equal(run(graph, inputs)["y"], run(graph, inputs, operations=engines.operations)["y"])


def test_values_that_no_element_holds_are_left_to_the_host(onnx_tools, tmp_path):
    (tmp_path / "m").write_bytes(one("Gelu")(onnx_tools))
    graph = load(tmp_path / "m")
    (tmp_path / "a").write_bytes(attention(onnx_tools, scale=-1.0))
    negative = load(tmp_path / "a")
    inputs, engines = drawn(negative), EngineOperations(negative)
    run(negative, inputs, operations=engines.operations)
    run(negative, inputs | {"q": inputs["q"] * np.float32(np.nan)}, operations=engines.operations)
    assert engines.jobs == []
    for value in (1e12, np.inf, np.nan):
        x, engines = np.full((TOKENS, WIDTH), value, np.float32), EngineOperations(graph)
        np.testing.assert_array_equal(run(graph, {"x": x}, operations=engines.operations)["y"], run(graph, {"x": x})["y"])
        assert engines.jobs == []


def test_mantissas():
    found, bits = mantissas(np.array([0.75, 0.1, 0.0]))
    assert found.tolist() == [49152, 6554, 0] and bits == 16
    assert mantissas(np.zeros(2))[0].tolist() == [0, 0] and mantissas(np.array([1 - 2**-20]))[0].tolist() == [65535]


def test_a_block_on_engines_alone(onnx_tools, tmp_path):
    """Norm, product, GELU, product and the rest: with products by the golden device too, near the float block."""
    node = onnx_tools.node
    nodes = [node("LayerNormalization", ["x", "g", "b"], ["n"]), node("MatMul", ["n", "w1"], ["h"]), node("Gelu", ["h"], ["a"]),
             node("MatMul", ["a", "w2"], ["o"]), node("Add", ["o", "x"], ["y"])]
    weights = {"w1": RNG.normal(size=(WIDTH, 48)), "w2": RNG.normal(size=(48, WIDTH))}
    constants = {"g": GAIN, "b": BIAS} | {name: (value / 5).astype(np.float32) for name, value in weights.items()}
    (tmp_path / "m").write_bytes(onnx_tools.make_model(nodes, ROWS, ["y"], constants, opset=20))
    graph = load(tmp_path / "m", float_weights="int8")
    build = SparseChain(chains=2)
    runtime, engines, inputs = Runtime(GoldenDevice(build), compile_graph(graph, build)), EngineOperations(graph), drawn(graph)
    plain, found = run(graph, inputs)["y"], run(graph, inputs, linear=runtime.linear, operations=engines.operations)["y"]
    assert 1e-5 < np.abs(found - plain).max() < 0.02 * np.abs(plain).max()
    assert [each.build.name for each in engines.jobs] == ["vector", "vector"] and len(runtime.calls) == 2
