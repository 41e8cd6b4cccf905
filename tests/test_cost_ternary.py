"""The cost model of the ternary engine: measured rows as they are, a formula judged on rows it has not seen, errors elsewhere."""

import subprocess
import sys
from dataclasses import replace

import pytest

from sparseloom.models.spec.ternary import TernaryEngine
from sparseloom.perfmodel.cost.resources import Resources, UnknownCost
from sparseloom.perfmodel.cost.ternary import PARTS, cost, estimate, held_out_error, measured

FAMILIES = ("xcup", "ecp5")
ROWS = [row for family in FAMILIES for datapath in ("tree", "table") for row in measured(family, datapath)]


def test_rows_say_how_they_were_measured():
    assert len(ROWS) >= 80
    for row in ROWS:
        assert row["tool"].startswith("Yosys ") and "synth_" in row["command"]
        assert set(row["dot"]) == set(row["engine"]) == set(Resources.names())


def test_a_measured_build_costs_what_was_measured():
    for row in ROWS:
        for part in PARTS:
            assert cost(row["spec"], row["family"], part) == Resources(**row[part], basis="yosys")


@pytest.mark.parametrize("datapath, rows, limit", [
    ("tree", 4, 15), ("tree", 16, 15), ("tree", 32, 15), ("table", 16, 9), ("table", 32, 9)])
def test_luts_a_lane_on_ultrascale_plus(datapath, rows, limit):
    build = TernaryEngine(rows=rows, lanes=20, datapath=datapath)
    dot = cost(build, "xcup", "dot")
    assert dot.basis == "yosys" and dot.dsp == 0
    assert dot.lut <= limit * rows * build.lanes


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("part", PARTS)
def test_the_formula_holds_on_rows_it_has_not_seen(family, part):
    assert sum(row["held_out"] for row in ROWS if row["family"] == family) >= 8
    assert 0 < held_out_error(family, part) <= 0.05


def test_multipliers_and_block_memories_are_exact():
    for row in ROWS:
        for part in PARTS:
            formula = estimate(row["spec"], row["family"], part)
            wanted = tuple(row[part][name] for name in ("dsp", "bram", "uram"))
            assert (formula.dsp, formula.bram, formula.uram) == wanted, row["build"]


def test_an_unmeasured_build_is_an_estimate():
    build = TernaryEngine(rows=24, lanes=20)
    small, middle, large = cost(replace(build, rows=16)), cost(build), cost(replace(build, rows=32))
    assert (small.basis, middle.basis, large.basis) == ("yosys", "model", "yosys")
    assert small.lut < middle.lut < large.lut and small.ff < middle.ff < large.ff


@pytest.mark.parametrize("build, family, part, words", [
    (TernaryEngine(), "stratix", "engine", "family 'stratix'"),
    (TernaryEngine(rows=64), "xcup", "engine", "rows = 64"),
    (TernaryEngine(rows=4, lanes=320), "ecp5", "dot", "lanes = 320"),
    (TernaryEngine(datapath="table", max_n=64), "xcup", "dot", "max_n = 64"),
    (TernaryEngine(read_latency=4), "xcup", "engine", "read_latency = 4"),
    (TernaryEngine(), "xcup", "half", "part must be one of dot, engine"),
    ("tree", "xcup", "engine", "a str"),
])
def test_the_unknown_raises(build, family, part, words):
    with pytest.raises(UnknownCost, match=words):
        cost(build, family, part)


def test_sums_keep_the_weaker_basis():
    counts = dict.fromkeys(Resources.names(), 2)
    total = Resources(**counts, basis="yosys") + Resources(**counts, basis="model")
    assert total == Resources(**dict.fromkeys(counts, 4), basis="model")


@pytest.mark.slow
@pytest.mark.rtl
def test_measuring_again_gives_what_ships(root):
    """Every build of the printed table, in both families: the same counts, and within the limits."""
    done = subprocess.run([sys.executable, root / "benchmarks" / "cost.py", "--check"], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 + 12
