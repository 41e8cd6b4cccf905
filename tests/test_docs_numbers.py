"""Figures that the README quotes and that need no gates are computed anew: a change that moves one must move the README."""

import json
import re

import pytest

import sparseloom
from sparseloom.host.compiler import outline
from sparseloom.models.spec.boards import BOARDS
from sparseloom.models.zoo import MODELS
from sparseloom.perfmodel.cost.ternary import TABLE as COSTS

ROWS = {128: 4, 512: 16}
LANES = 20
MODEL = "kjv-matmulfree"


@pytest.fixture(scope="module")
def readme(root):
    return " ".join((root / "README.md").read_text().split())


@pytest.fixture(scope="module")
def plan():
    return outline(sparseloom.load_model(MODELS[MODEL].path), sparseloom.TernaryEngine(rows=ROWS[512], lanes=LANES))


@pytest.mark.parametrize("datapath", ["tree", "table"])
def test_cycles_and_useful_stream_fractions(readme, datapath):
    cells = []
    for rows in ROWS.values():
        build = sparseloom.TernaryEngine(rows=rows, lanes=LANES, datapath=datapath)
        assert 8 * build.beat_bytes in ROWS
        for size in (256, 1024):
            job = build.job(k=size, n=size)
            cycles = build.cycles(job)
            cells.append(f"{cycles:,}, {build.useful_fraction(job, cycles)['stream']:.1%}".replace("%", " %"))
    assert f"| {datapath} | {' | '.join(cells)} |" in readme


def test_the_model_on_an_engine(readme, plan):
    cycles = sum(plan.cycles(name, 1) for name in plan.layers)
    weights = sum(layer.n * layer.k for layer in plan.layers.values())
    useful = weights / (plan.build.rows * plan.build.lanes * cycles)
    assert f"{weights / 1e6:.2f} M ternary weights, 512-bit tree | {cycles:,} cycles, {100 * useful:.1f} % useful" in readme


@pytest.mark.parametrize("name", ["kv260", "u280"])
def test_tokens_a_second(readme, plan, name):
    board = BOARDS[name]
    cycles = sum(plan.cycles(layer, 1) for layer in plan.layers)
    nbytes = sum(plan.nbytes(layer, 1)["w"] for layer in plan.layers)
    engine, memory = board.clock.value / cycles, board.bandwidth.value / nbytes
    assert f"| {engine:,.0f} by one engine, {memory:,.0f} by memory |" in readme


def test_perplexities(readme):
    scores = MODELS[MODEL].results()["scores"]
    for words, score in (("ternary, as shipped", "ternary"), ("float, same shape", "float"),
                         ("interpolated Kneser-Ney bigram", "bigram")):
        assert f"| {words} | {scores[score]['test']['perplexity']:.2f} |" in readme


def test_gates_a_lane(readme):
    columns = [("tree", "xcup"), ("table", "xcup"), ("tree", "ecp5"), ("table", "ecp5")]
    quoted = {}
    for rows, cells in re.findall(r"\| (\d+) \(\d+ bit\) ((?:\| [\d.]+ LUT, [\d.]+ FF ){4})\|", readme):
        quoted |= {(int(rows), *column): cell.strip() for column, cell in zip(columns, cells.split("|")[1:], strict=True)}
    assert len(quoted) == 12
    compared = 0
    for row in json.loads(COSTS.read_text()):
        build, place = row["build"], (row["build"]["rows"], row["build"]["datapath"], row["family"])
        if place in quoted and build == {"datapath": place[1], "rows": place[0], "lanes": LANES}:
            lut, ff = (row["dot"][name] / (place[0] * LANES) for name in ("lut", "ff"))
            assert quoted[place] == f"{lut:.1f} LUT, {ff:.1f} FF", place
            compared += 1
    assert compared == 12
