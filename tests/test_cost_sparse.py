"""The cost of the sparse chain engine: DSP slices as instanced, measured rows as they are, a formula judged on others."""

import subprocess
import sys
from dataclasses import replace

import pytest

from sparseloom.fpga.synth import synthesise
from sparseloom.hdl.engines import component
from sparseloom.hdl.export import export
from sparseloom.models.spec.presets import PRESETS
from sparseloom.models.spec.sparse_chain import SparseChain
from sparseloom.models.spec.ternary import TernaryEngine
from sparseloom.perfmodel.cost.resources import Resources, UnknownCost
from sparseloom.perfmodel.cost.sparse_chain import PARTS, PIECES, cost, dsp, estimate, held_out_error, measured, multipliers

ROWS = measured("xcup")
PACKED = SparseChain(chains=2, window=8, max_bits=4, target="dsp48e2")


def document_row(row):
    """A row of the table in the document: slices, then LUT a multiplier by part, then LUT and FF of the whole."""
    build, count = row["spec"], multipliers(row["spec"])
    parts = [row[part]["lut"] / count for part in PIECES]
    whole, registers = (row["engine"][name] / count for name in ("lut", "ff"))
    figures = " | ".join(f"{value:.0f}" for value in (*parts, whole - sum(parts), whole, registers))
    in_chains, scalers = row["lanes"]["dsp"], row["scale"]["dsp"]
    products = count * build.tokens / in_chains
    return f"| {build.chains}, {build.window}, {build.target} | {in_chains} + {scalers} | {products:.1f} | {figures} |"


@pytest.mark.rtl
def test_two_products_a_slice_with_all_registers_and_cascades():
    """The slices of the lanes, cell by cell: sixteen for two chains of eight products and two tokens."""
    made = synthesise(export(component(PACKED), "engine"), top="engine_lanes")
    slices = [cell for cell in made.netlist if cell["type"] == "DSP48E2"]
    assert len(slices) == made.resources.dsp == 2 * 8
    assert 2 * 8 * PACKED.tokens / len(slices) == 2.0
    registers = {name: {int(cell["parameters"][name], 2) for cell in slices}
                 for name in ("AREG", "ADREG", "DREG", "BREG", "MREG", "PREG")}
    assert registers == {"AREG": {1}, "ADREG": {1}, "DREG": {1}, "BREG": {2}, "MREG": {1}, "PREG": {1}}
    sources = {tuple(cell["connections"]["PCOUT"]) for cell in slices}
    cascaded = [cell for cell in slices if tuple(cell["connections"]["PCIN"]) in sources]
    first = [cell for cell in slices if set(cell["connections"]["PCIN"]) == {"0"}]
    assert (len(cascaded), len(first)) == (2 * 7, 2)


def test_rows_say_how_they_were_measured():
    assert len(ROWS) >= 8 and sum(row["held_out"] for row in ROWS) >= 2
    assert {(row["spec"].target, row["spec"].tokens) for row in ROWS} >= {("dsp48e2", 1), ("dsp48e2", 2), ("portable", 2)}
    assert {4, 16} <= {row["spec"].chains for row in ROWS} and {8, 32} == {row["spec"].window for row in ROWS}
    for row in ROWS:
        assert row["tool"].startswith("Yosys ") and "synth_xilinx -family xcup" in row["command"]
        for part in PARTS:
            assert set(row[part]) == set(Resources.names())


def test_a_measured_build_costs_what_was_measured():
    for row in ROWS:
        assert cost(row["spec"]) == Resources(**row["engine"], basis="yosys")


def test_slices_of_the_chains_apart_from_those_of_the_scalers():
    for row in ROWS:
        build = row["spec"]
        assert (row["lanes"]["dsp"], row["scale"]["dsp"]) == dsp(build)
        assert sum(dsp(build)) == row["engine"]["dsp"] == estimate(build).dsp
        products = multipliers(build) * build.tokens / row["lanes"]["dsp"]
        assert products == (build.tokens if build.target == "dsp48e2" else 1)
    assert dsp(PRESETS["flightllm-u280"].build()) == (256, 128)


def test_parts_are_most_of_an_engine():
    for row in ROWS:
        assert 0.6 < sum(row[part]["lut"] for part in PIECES) / row["engine"]["lut"] < 1


def test_the_formula_holds_on_rows_it_has_not_seen():
    assert 0 < held_out_error() <= 0.02


def test_the_document_quotes_the_table(root):
    """Rows of builds with two tokens, as ``docs/performance.md`` has them."""
    text = (root / "docs" / "performance.md").read_text()
    shown = [row for row in ROWS if document_row(row) in text]
    assert {(row["spec"].chains, row["spec"].window, row["spec"].target) for row in shown} == {
        (4, 32, "dsp48e2"), (4, 32, "portable"), (16, 8, "dsp48e2"), (16, 32, "dsp48e2")}


def test_an_unmeasured_build_is_an_estimate():
    build = SparseChain(chains=12, target="dsp48e2")
    small, middle, large = (cost(replace(build, chains=chains)) for chains in (4, 12, 16))
    assert (small.basis, middle.basis, large.basis) == ("yosys", "model", "yosys")
    assert small.lut < middle.lut < large.lut and small.ff < middle.ff < large.ff
    assert middle.dsp == 12 * (8 + 4)


@pytest.mark.parametrize("build, family, words", [
    (SparseChain(), "stratix", "family 'stratix'"),
    (SparseChain(chains=64, target="dsp48e2"), "xcup", "chains = 64"),
    (SparseChain(window=64, target="dsp48e2"), "xcup", "window = 64"),
    (SparseChain(codebook=True, target="dsp48e2"), "xcup", "codebook = True"),
    (SparseChain(target="ecp5"), "xcup", "target = 'ecp5'"),
    (SparseChain(tokens=1), "xcup", "target = 'portable' with tokens = 1"),
    (SparseChain(max_k=1024, target="dsp48e2"), "xcup", "max_k = 1024"),
    (TernaryEngine(), "xcup", "a TernaryEngine"),
])
def test_the_unknown_raises(build, family, words):
    with pytest.raises(UnknownCost, match=words):
        cost(build, family)


@pytest.mark.slow
@pytest.mark.rtl
def test_measuring_again_gives_what_ships(root):
    """The printed table: two products a slice, the counts that ship."""
    command = [sys.executable, root / "benchmarks" / "cost_sparse.py", "--check", "--chains", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 + 1
