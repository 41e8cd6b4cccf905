"""The two-stage search on the closed forms of our engines, against trying everything; DSP slices against measured rows."""

import itertools

import pytest

from sparseloom.models.spec.attention import Attention
from sparseloom.models.spec.moe_linear import MoeLinear
from sparseloom.models.spec.ternary import TernaryEngine
from sparseloom.models.zoo.vit_shapes import M3VIT_TINY, SHAPES
from sparseloom.perfmodel.cost.kernels import cost, dsp, measured
from sparseloom.perfmodel.cost.resources import UnknownCost
from sparseloom.perfmodel.vit_search import attention_kernel, best_of_all, ladder, search, spaces


@pytest.mark.parametrize("budget", [300, 1850, 3413])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_search_finds_the_best_there_is(shape, budget):
    found, best = search(shape, budget), best_of_all(shape, budget)
    assert found.cycles == best.cycles and found.dsp <= budget
    assert found == search(shape, budget)


def test_kernels_are_whole_images():
    kernel = attention_kernel(M3VIT_TINY, "two_pass", (1, 4, 32))
    build = Attention(p=4, d_lanes=32, score="two_pass", max_queries=129, max_keys=129, max_d=64, max_heads=3)
    assert kernel.cycles == 12 * build.cycles(build.job(queries=129, keys=129, d=64, heads=3)) and kernel.dsp == dsp(build)
    assert attention_kernel(M3VIT_TINY, "two_pass", (3, 4, 32)).dsp == 3 * kernel.dsp
    assert len([genes for space in spaces(M3VIT_TINY) for genes in itertools.product(*space)]) == 3 * 8 * 4


def test_rungs_get_larger_and_faster():
    rungs = ladder(M3VIT_TINY, 64)
    assert len(rungs) >= 5
    assert all(a.dsp < b.dsp and a.cycles > b.cycles for a, b in itertools.pairwise(rungs))


def test_slices_are_those_that_were_measured():
    rows = [row for row in measured() if row["engine"] in ("attention", "moe_linear")]
    assert len(rows) >= 2
    for row in rows:
        assert dsp(row["spec"]) == row["counts"]["dsp"] == cost(row["spec"]).dsp
        assert cost(row["spec"]).basis == "yosys" and "synth_xilinx" in row["command"]


@pytest.mark.parametrize("build", [Attention(score="shiftmax"), Attention(bits=16), MoeLinear(), TernaryEngine(),
                                   MoeLinear(target="dsp48e2", gelu=False)], ids=str)
def test_what_was_not_measured_is_unknown(build):
    with pytest.raises(UnknownCost):
        dsp(build)
    with pytest.raises(UnknownCost):
        cost(build)
