"""The cost of training engines: measured rows as they are, a formula for arrays that is judged on one it has not seen."""

import importlib.util
from dataclasses import replace

import pytest

from sparseloom.models.spec.nm_presets import NM_PRESETS
from sparseloom.models.spec.nm_train import NmTrain
from sparseloom.perfmodel.cost.nm_train import FAMILY, HELD_OUT, PARTS, builds_to_measure, cost, held_out_error, measured
from sparseloom.perfmodel.cost.nm_train import estimate as by_formula
from sparseloom.perfmodel.cost.resources import Resources, UnknownCost
from sparseloom.perfmodel.training import TrainingMachine

ROWS = measured()
ARRAYS = [row for row in ROWS if row["engine"] == NmTrain.name]


def test_rows_say_how_they_were_measured():
    assert [row["spec"] for row in ROWS] == builds_to_measure() and len(ARRAYS) == 4
    for row in ROWS:
        assert row["tool"].startswith("Yosys ") and "synth_xilinx -family xcup" in row["command"] and row["family"] == FAMILY
        assert set(row["counts"]) == set(Resources.names()) and row["counts"]["lut"] > 0 and row["counts"]["ff"] > 0
    assert all(row["counts"]["dsp"] == row["spec"].rows * row["spec"].cols for row in ARRAYS)


def test_a_measured_build_costs_what_was_measured():
    for row in ROWS:
        assert cost(row["spec"]).counts() == row["counts"] and cost(row["spec"]).basis == "yosys"


@pytest.mark.parametrize("name", ["lut", "ff"])
def test_the_formula_on_an_array_that_it_has_not_seen(name):
    assert abs(held_out_error(name)) < 0.05
    (row,) = (row for row in ARRAYS if (row["spec"].rows, row["spec"].cols) == HELD_OUT)
    guess = by_formula(row["spec"])
    assert guess.basis == "model" and getattr(guess, name) == round(row["counts"][name] * (1 + held_out_error(name)))
    assert guess.dsp == row["counts"]["dsp"] and guess.bram == row["counts"]["bram"]


def test_a_pe_has_its_parts():
    for row in (row for row in ARRAYS if "parts" in row):
        assert set(row["parts"]) == set(PARTS) and row["parts"]["pe"]["dsp"] == row["parts"]["product"]["dsp"] == 1
        assert row["parts"]["adder"]["lut"] + row["parts"]["product"]["lut"] < row["parts"]["pe"]["lut"]


def test_what_nobody_knows_is_refused():
    build = ARRAYS[0]["spec"]
    others = [replace(build, slots=8), replace(build, words=1), replace(build, ws_rows=64), replace(build, max_k=1024)]
    for other in (*others, replace(builds_to_measure()[-1], map_words=4096)):
        with pytest.raises(UnknownCost, match="no cost is known for"):
            cost(other)
    with pytest.raises(UnknownCost, match="ecp5"):
        cost(build, "ecp5")


def test_arrays_of_the_presets_and_the_document(root):
    text = " ".join((root / "docs" / "performance.md").read_text().split())
    for preset in NM_PRESETS.values():
        array = TrainingMachine.of(preset).array
        found = cost(array)
        assert found.basis == "model" and found.dsp == array.rows * array.cols
        cells = f"{found.lut:,} | {found.ff:,} | {found.dsp:,} | {found.bram:,} |"
        assert f"| array of {array.rows} x {array.cols} (`model`) | {cells}" in text
    for row in ROWS:
        counts = row["counts"]
        assert f"| {counts['lut']:,} | {counts['ff']:,} | {counts['dsp']:,} | {counts['bram']:,} |" in text
    errors = [f"{100 * abs(held_out_error(name)):.1f} %" for name in ("lut", "ff")]
    assert f"off by {errors[0]} of the LUT and {errors[1]} of the FF" in text


@pytest.mark.rtl
@pytest.mark.slow
def test_the_table_is_what_yosys_says(root):
    spec = importlib.util.spec_from_file_location("bench_nm_train", root / "benchmarks" / "nm_train.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    rows = benchmark.cost([(2, 2)])
    assert [row["counts"] for row in rows] == [ARRAYS[0]["counts"]]
