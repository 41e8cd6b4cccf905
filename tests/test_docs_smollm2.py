"""Figures of SmolLM2 that the pages quote and that need neither the model nor gates, computed anew from its shapes."""

import json
import re

import pytest

from sparseloom.host.compiler import outline
from sparseloom.models.graph import Graph, GroupedForm, Layer, StoredWeight
from sparseloom.models.spec.boards import BOARDS
from sparseloom.models.spec.sparse_chain import SparseChain
from sparseloom.models.zoo.llama_config import HEAD, LlamaConfig
from sparseloom.perfmodel.published.llm import published

SHAPES, _ = LlamaConfig(layers=30, width=576, inner=1536, heads=9, kv_heads=3, vocabulary=49152, context=8192, rope_base=1e5,
                        eps=1e-5).shapes()
FORMS = {"Q4_1 as shipped": {"bits": 4, "header": "affine"}, "8 bits, rounded": {"bits": 8},
         "3 bits, rounded": {"bits": 3, "header": "zero"}}
"""Of the blocks' matrices; the head is Q8_0."""


def plan_of(weights, chains=16):
    layers = []
    for name, (n, k) in SHAPES.items():
        form = GroupedForm(scale_group=32, **({"bits": 8} if name == HEAD else FORMS[weights]))
        weight = StoredWeight(kind="grouped", format="x", n=n, k=k, nbytes=1, read=list, form=form)
        layers.append(Layer(name=name, op="linear", shape=(n, k), format="x", nbytes=1, weight=weight))
    return outline(Graph(name="shapes", layers=layers), SparseChain(chains=chains))


def token(plan):
    """``(cycles, bytes of weights)`` of a decode token."""
    return sum(plan.cycles(name, 1) for name in SHAPES), sum(plan.nbytes(name, 1)["w"] for name in SHAPES)


@pytest.fixture(scope="module")
def pages(root):
    return {name: " ".join((root / name).read_text().split()) for name in ("README.md", "docs/smollm2.md")}


@pytest.fixture(scope="module")
def rows(root):
    return json.loads((root / "docs" / "figures" / "smollm2.json").read_text())


def test_whole_passes(pages):
    plan = plan_of("Q4_1 as shipped")
    cycles, _ = token(plan)
    prefill = sum(plan.cycles(name, 1 if name == HEAD else 64) for name in SHAPES)
    outputs = sum(n for name, (n, _) in SHAPES.items() if name != HEAD)
    head = SHAPES[HEAD][0]
    assert len(SHAPES) == 211
    for page in pages.values():
        assert f"{cycles:,}" in page and f"{prefill:,}" in page
        assert f"{outputs + head:,}" in page and f"{64 * outputs + head:,}" in page
    assert f"| {outputs + head:,} | 0 | {cycles:,} | {cycles:,} | 99.5 % of the stream |" in pages["docs/smollm2.md"]
    assert f"| {64 * outputs + head:,} | 0 | {prefill:,} | {prefill:,} | 98.6 % of the multipliers |" in pages["docs/smollm2.md"]


def test_the_table_beside_others(pages):
    theirs, = published(system="Torch2RISCV-accelerator", model="SmolLM2-135M", metric="decode_throughput")
    page, bounds = pages["docs/smollm2.md"], []
    assert f"{theirs.clock_mhz:.0f} MHz, whole decode | {theirs.value} | `published`, board |" in page
    _, nbytes = token(plan_of("Q4_1 as shipped"))
    ceiling = f"{BOARDS['kv260'].bandwidth.value / nbytes:.1f}"
    assert f"over the {nbytes / 1e6:.1f} MB of weights of a token | {ceiling} | `analytic` |" in page
    for chains in (16, 8, 4):
        cycles, _ = token(plan_of("Q4_1 as shipped", chains))
        bounds.append(f"{theirs.clock_mhz * 1e6 / cycles:.1f}")
        assert f"{32 * chains} bits, {theirs.clock_mhz:.0f} MHz: {cycles:,} cycles | {bounds[-1]} | `exact` cycles" in page
    assert f"{theirs.value} `published`" in pages["README.md"] and f"{ceiling} if its DDR4's" in pages["README.md"]
    assert f"{bounds[0]}, {bounds[1]} and {bounds[2]} by our weight stream" in pages["README.md"]


def test_rows_of_the_figure(pages, rows):
    assert len(rows) == 4
    for row in rows:
        assert token(plan_of(row["weights"])) == (row["cycles"], row["bytes"])
        assert row["passage"] == "gpl-3-512" and set(row["basis"].values()) == {"measured", "exact"}
        cells = (f"| {row['weights']} | {row['activations']} | {row['perplexity']:.2f} | {100 * row['top1']:.1f} % | "
                 f"{row['kl']:.4f} | {row['bytes'] / 1e6:.1f} | {row['cycles']:,} |")
        assert cells in pages["docs/smollm2.md"], cells
    assert len(re.findall(r"\| [\d.]+ \| [\d.]+ % \| [\d.]+ \| [\d.]+ \| [\d,]+ \|", pages["docs/smollm2.md"])) == len(rows)
