"""Grouped weights on the sparse chain: float products near the dequantised, gates equal to golden, shifts that never clamp."""

import numpy as np
import pytest

import sparseloom
from sparseloom.host.checked import Checked
from sparseloom.host.compiler import outline
from sparseloom.host.families import engine_for
from sparseloom.host.grouped import GroupedLinear
from sparseloom.models.graph import Graph, GroupedForm, GroupedWeight, Layer, StoredWeight, TernaryWeight
from sparseloom.models.spec.errors import InputError

BUILD = sparseloom.SparseChain(chains=4, window=32, max_k=192, max_n=24, max_m=4)


def grouped(n, k, seed, bits=4, scale_group=32, kind="scale", nnz=1, group=1, order=False):
    draw = np.random.default_rng(seed)
    shape, parts = (n, -(-k // scale_group)), {}
    scale = (draw.random(shape, np.float32) + 0.1) * np.float32(0.02) * draw.choice([-1, 1], shape).astype(np.float32)
    if kind == "affine":
        parts["offset"] = (-scale * draw.integers(5, 11, shape)).astype(np.float32)
    if kind == "zero":
        parts["zero"] = draw.integers(0, 1 << bits, shape).astype(np.uint8)
    if kind == "codebook":
        parts["codebook"] = draw.permutation(np.arange(-120, 120, 15)).astype(np.int8)
    if nnz < group:
        kept = draw.permuted(np.broadcast_to(np.arange(group), (n, k // group, group)), axis=2) < nnz
        parts |= {"mask": kept.reshape(n, k), "nnz": nnz, "group": group}
    if order:
        parts["order"] = draw.permutation(k).astype(np.int32)
    codes = draw.integers(0, 1 << bits, (n, k), dtype=np.uint8)
    return GroupedWeight(codes=codes, bits=bits, scale=scale, scale_group=scale_group, **parts)


WEIGHTS = {
    "q4_0": grouped(19, 96, 1),
    "q4_1": grouped(24, 128, 2, kind="affine"),
    "q8_0": grouped(50, 64, 3, bits=8),
    "gptq": grouped(13, 192, 4, kind="zero", scale_group=64, order=True),
    "gptq8": grouped(5, 128, 5, bits=8, kind="zero", scale_group=128),
    "two bits, odd groups": grouped(7, 192, 6, bits=2, scale_group=96),
    "channel": grouped(9, 100, 7, bits=3, scale_group=100),
    "4:8": grouped(11, 160, 8, nnz=4, group=8),
    "4:16, zeros": grouped(8, 192, 9, kind="zero", nnz=4, group=16, scale_group=64),
    "1:4": grouped(6, 64, 10, nnz=1, group=4, bits=8),
}


def model(weights=WEIGHTS):
    return Graph(name="small", layers=[
        Layer(name=name, op="linear", shape=(w.n, w.k), format="x", nbytes=w.nbytes, weight=w) for name, w in weights.items()])


@pytest.fixture(scope="module")
def plan():
    return sparseloom.compile_graph(model(), BUILD)


def activations(name, m):
    return np.random.default_rng(len(name)).standard_normal((m, WEIGHTS[name].k)).astype(np.float32) * 3


@pytest.mark.parametrize("name", WEIGHTS)
def test_linear_is_the_product_of_what_is_quantised(plan, name):
    """The only losses are the int8 codes of x and the mantissas of both scales; integers in between are exact."""
    from sparseloom.models.formats.quantize import dequantize_groups, quantize_groups

    runtime, x, weight = sparseloom.Runtime(sparseloom.device("golden", BUILD), plan), activations(name, 5), WEIGHTS[name]
    order = np.arange(weight.k) if weight.order is None else weight.order
    group = plan.layers[name].form["x_group"]
    shown = np.empty_like(x)
    shown[:, order] = dequantize_groups(*quantize_groups(x[:, order], group), group)
    wanted = shown.astype(np.float64) @ weight.dequantise().astype(np.float64).T
    size = np.abs(shown) @ np.abs(weight.dequantise()).T
    got = runtime.linear(name, x)
    assert got.dtype == np.float32 and got.shape == wanted.shape
    assert (np.abs(got - wanted) <= size * 2.0**-12).all()
    assert runtime.calls[-1].receipt.saturations == 0


@pytest.mark.rtl
def test_gates_equal_golden_for_every_format(plan, tmp_path):
    sparseloom.save_plan(plan, tmp_path / "plan.safetensors")
    with sparseloom.device("sim", BUILD) as device:
        checked = Checked(sparseloom.Runtime(device, tmp_path / "plan.safetensors"), WEIGHTS)
        for name, weight in WEIGHTS.items():
            for m in (1, 7):
                checked.linear(name, activations(name, m))
                product = checked.products[-1]
                assert (product.compared, product.wrong) == (m * weight.n, 0), name
                assert product.receipt.cycles == plan.cycles(name, m)
                assert not product.receipt.saturations


def test_checked_sees_a_wrong_scale(plan):
    checked = Checked(sparseloom.Runtime(sparseloom.device("golden", BUILD), plan), WEIGHTS | {"q4_0": grouped(19, 96, 99)})
    checked.linear("q4_0", activations("q4_0", 2))
    assert checked.products[-1].wrong > 0


@pytest.mark.parametrize("name", ["q4_1", "q8_0", "4:8"])
def test_the_shift_holds_the_worst_activations(name):
    said, _, operand = GroupedLinear.prepare(BUILD, WEIGHTS[name])
    form, weight = said["form"], WEIGHTS[name]
    job = BUILD.job(n=min(weight.n, 24), k=weight.k, m=1, **form)
    part = {key: value[:24] for key, value in operand.items()}
    groups = np.full((1, job.x_groups), (1 << 16) - 1)
    for sign in (1, -1):
        x = np.where(weight.codes[:1].astype(int) * sign > (1 << (weight.bits - 1)) * sign, 127, -128).astype(np.int8)
        total = GroupedLinear.operands(part, x, groups)
        from sparseloom.models.golden.sparse_chain import matmul, round_shift
        assert round_shift(matmul(job, total), job.shift)[1] == 0


def test_outline_reads_forms_and_agrees_with_the_plan(plan):
    def explode():
        raise AssertionError("an outline must not read weights")

    layers = [Layer(name=name, op="linear", shape=(w.n, w.k), format="x", nbytes=1, weight=StoredWeight(
        kind="grouped", format="x", n=w.n, k=w.k, nbytes=1, read=explode, form=w.form))
        for name, w in WEIGHTS.items() if name != "gptq8"]
    lines = outline(Graph(name="g", layers=layers), BUILD)
    assert len(lines.layers) == 9
    for name in lines.layers:
        assert lines.cycles(name, 5) == plan.cycles(name, 5) > 0


@pytest.mark.parametrize("weight, words", [
    (grouped(4, 64, 1, scale_group=16), "scale_group must be a multiple of 32, got 16"),
    (grouped(4, 64, 1, nnz=1, group=16), "weights must keep at least 1 of 4, got '1:16'"),
    (grouped(4, 64, 1, kind="codebook"), "weights must have a build with codebook, got False"),
    (grouped(4, 64, 1, nnz=2, group=4, bits=8, kind="zero"), "zero must be 128 in N:M weights of 8 bits"),
])
def test_weights_that_do_not_fit_are_refused_by_name(weight, words):
    with pytest.raises(InputError) as error:
        sparseloom.compile_graph(model({"layer": weight}), BUILD)
    assert "small: layer, " in str(error.value) and words in str(error.value)


def test_rows_too_long_and_scales_that_lack(plan):
    placed, = sparseloom.place(model({"long": grouped(2, 224, 1)}), BUILD)
    assert (placed.where, placed.reason) == ("unsupported", "rows of more than 192 inputs do not fit this build")
    runtime = sparseloom.Runtime(sparseloom.device("golden", BUILD), plan)
    codes = np.zeros((2, 96), np.int8)
    for scale, words in ((None, "got None"), (np.ones((2, 4), np.int32), r"must be \[2, 3\], got \[2, 4\]"),
                         (np.full((2, 3), 1 << 16), "must be 0..65535, got 65536..65536"), (np.full((2, 3), -1), "got -1..-1")):
        with pytest.raises(ValueError, match=words):
            runtime.matmul("q4_0", codes, scale)


def test_forms():
    assert WEIGHTS["4:16, zeros"].form == GroupedForm(bits=4, scale_group=64, header="zero", nnz=4, group=16)
    assert WEIGHTS["q4_1"].form.header == "affine" and WEIGHTS["q8_0"].form.header == "scale"


def test_the_engine_for_a_model_is_the_one_that_takes_most():
    ternary = TernaryWeight(trits=np.zeros((3, 4), np.int8), scale=1.0)
    few = {"a": WEIGHTS["q4_0"], "b": ternary, "c": ternary}
    assert [engine_for(model(weights)) for weights in (WEIGHTS, few, {})] == ["sparse_chain", "ternary_engine", "ternary_engine"]
