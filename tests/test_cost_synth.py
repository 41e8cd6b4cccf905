"""Counting cells, synthesis by Yosys of a small engine, and the harness for placing."""

import json
import re

import pytest

from sparseloom.fpga import place as place_module
from sparseloom.fpga.place import harness, place
from sparseloom.fpga.synth import count, count_routes, synthesise
from sparseloom.fpga.yosys import SynthesisFailed, run_yosys
from sparseloom.hdl.engines import component
from sparseloom.hdl.export import Design, Port, export
from sparseloom.models.spec.ternary import TernaryEngine

ADDER = """module adder(input clk, input [7:0] a, input [7:0] b, output reg [8:0] y);
  always @(posedge clk) y <= a + b;
endmodule
"""


def adder(text=ADDER):
    ports = (Port("clk", "input", 1, "clock"), Port("a", "input", 8, "a"), Port("b", "input", 8, "b"),
             Port("y", "output", 9, "y"))
    return Design("adder", text, ports)


def test_counts_by_hand():
    cells = {"LUT1": 1, "LUT2": 2, "LUT6": 3, "LUT6_2": 1, "INV": 4, "SRL16E": 2, "RAM32M16": 2, "RAM64M": 1, "RAM32X1D": 1,
             "FDRE": 10, "FDSE": 1, "CARRY4": 3, "DSP48E2": 2, "RAMB18E2": 3, "RAMB36E2": 2, "URAM288": 1, "MUXF7": 9, "BUFG": 1}
    counted = count(cells).counts()
    assert counted == {"lut": 11 + 24, "lut_memory": 2 + 16 + 4 + 2, "lut_route": 0, "ff": 11, "dsp": 2, "bram": 7, "uram": 1}
    lattice = count({"LUT4": 5, "CCU2C": 4, "TRELLIS_DPR16X4": 2, "TRELLIS_FF": 7, "DP16KD": 3, "MULT18X18D": 1, "PFUMX": 2})
    assert (lattice.lut, lattice.lut_memory, lattice.ff, lattice.bram, lattice.dsp) == (25, 12, 7, 3, 1)


def test_unknown_cells_are_not_left_out():
    with pytest.raises(SynthesisFailed, match="LUT9, MYSTERY"):
        count({"LUT6": 1, "MYSTERY": 2, "LUT9": 1})


def test_carry_places_without_a_lut_of_their_own():
    """Bits 10 and 11 come from LUTs; 10 selects two places, 20 comes from a register, "0" is constant."""
    netlist = [
        {"type": "LUT2", "connections": {"O": [10], "I0": [1], "I1": [2]}},
        {"type": "INV", "connections": {"O": [11], "I": [3]}},
        {"type": "FDRE", "connections": {"Q": [20]}},
        {"type": "CARRY4", "connections": {"S": [20, 10, 11, "0"]}},
        {"type": "CARRY4", "connections": {"S": [10, "0", "0", "1"]}},
    ]
    assert count_routes(netlist) == 2


@pytest.mark.rtl
def test_synthesis_of_an_adder():
    made = synthesise(adder(), "xcup")
    assert made.resources.ff == 9 and made.resources.lut == 8
    assert made.cells["FDRE"] == 9 and "-family xcup" in made.command and made.tool.startswith("Yosys 0.")


def test_errors_are_one_line():
    with pytest.raises(ValueError, match="family must be one of xcup, xcu, xc7, ecp5, got 'stratix'"):
        synthesise(adder(), "stratix")
    with pytest.raises(SynthesisFailed, match="ERROR") as failed:
        synthesise(adder("module adder(input clk; endmodule"))
    assert "\n" not in str(failed.value)
    with pytest.raises(SynthesisFailed, match="took more than 0.2 s"):
        run_yosys(ADDER, ["synth_xilinx -top adder"], results=[], seconds=0.2)


@pytest.mark.rtl
def test_the_tree_needs_no_multiplier_and_few_luts():
    build = TernaryEngine(rows=2, lanes=20, datapath="tree")
    design = export(component(build), "engine")
    dot = (synthesise(design, top="engine_datapath").resources + synthesise(design, top="engine_accumulator").resources)
    assert dot.dsp == dot.bram == 0
    assert 5 < dot.lut / (build.rows * build.lanes) <= 15


def test_harness_registers_every_port():
    text = harness(adder())
    assert "adder design (.clk(clk), .a(fed[7:0]), .b(fed[15:8]), .y(out[8:0]));" in text
    assert re.search(r"reg \[15:0\] fed;", text) and re.search(r"reg \[8:0\] caught, folded;", text)


def test_report_of_the_slowest_clock():
    step = {"from": {"cell": "design.unit.count_TRELLIS_FF_Q_3"}, "to": {"cell": "design.done_LUT4_Z"}}
    report = {
        "fmax": {"slow": {"achieved": 90.5, "constraint": 200.0}, "quick": {"achieved": 310.0, "constraint": 200.0}},
        "critical_paths": [
            {"from": "<async>", "to": "posedge slow", "path": [step | {"delay": 9.0, "type": "logic"}]},
            {"from": "posedge slow", "to": "posedge slow", "path": [
                step | {"delay": 0.5, "type": "clk-to-q"}, step | {"delay": 3.25, "type": "routing"},
                step | {"delay": 0.25, "type": "setup"}]},
        ],
        "utilization": {"TRELLIS_FF": {"used": 9, "available": 100}, "DP16KD": {"used": 0, "available": 5}},
    }
    placement = place_module._read(json.loads(json.dumps(report)), 1)
    assert placement.mhz == 90.5 and placement.used == {"TRELLIS_FF": 9}
    assert placement.critical == "unit.count to done, 0.75 ns in gates, 3.25 ns in wires"


@pytest.mark.slow
@pytest.mark.rtl
def test_eighty_lanes_reach_150_mhz_on_ecp5():
    build = TernaryEngine(rows=4, lanes=20, datapath="tree", max_m=1)
    placement = place(export(component(build), "engine"))
    assert placement.mhz >= 150
    assert placement.used.get("MULT18X18D", 0) == 0
