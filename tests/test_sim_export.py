"""Exported Verilog: its ports, its bytes, its lint."""

import dataclasses
import os
import re
import subprocess
import sys

import pytest
from amaranth.hdl import Fragment, Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from sparseloom.hdl.export import Design, Port, export
from sparseloom.models.spec.ternary import TernaryEngine
from sparseloom.sim.build import design_of
from sparseloom.sim.lint import WAIVERS, lint
from sparseloom.sim.toy import Toy, toy_design

pytestmark = pytest.mark.rtl

BUILDS = [
    TernaryEngine(rows=4, lanes=10, datapath="tree", max_k=64, max_n=64, max_m=2, requantise=True, statistics=True),
    TernaryEngine(rows=4, lanes=10, datapath="table", max_k=64, max_n=64, max_m=2, requantise=True, statistics=True),
    TernaryEngine(rows=1, lanes=5, datapath="tree", max_k=1, max_n=1, max_m=1, act_bits=4, read_latency=2),
    TernaryEngine(rows=3, lanes=15, datapath="table", max_k=40, max_n=31, max_m=1),
    pytest.param(TernaryEngine(rows=16, lanes=20, max_k=1024, max_n=1024), marks=pytest.mark.slow),
]
SHOW = """
from sparseloom.hdl.engines import component
from sparseloom.hdl.export import export
from sparseloom.models.spec.ternary import TernaryEngine
for datapath in ("tree", "table"):
    build = TernaryEngine(rows=2, lanes=10, datapath=datapath, max_k=40, max_n=40, requantise=True, statistics=True)
    print(export(component(build), build.name).digest)
"""


class Adder(wiring.Component):
    """Two nested modules, one of them inside an array."""

    i: In(stream.Signature(unsigned(8))).array(2)
    o: Out(stream.Signature(unsigned(9)))

    def elaborate(self, platform):
        m = Module()
        a, b = self.i
        m.d.comb += [self.o.payload.eq(a.payload + b.payload), self.o.valid.eq(a.valid & b.valid)]
        for port, other in ((a, b), (b, a)):
            m.d.comb += port.ready.eq(self.o.ready & other.valid)
        return m


def test_manifest_of_the_toy():
    design = toy_design(Toy(width=16))
    assert design.ports[:2] == (Port("clk", "input", 1, "clock"), Port("rst", "input", 1, "reset"))
    assert [(port.name, port.direction, port.width, port.role) for port in design.ports if port.group in ("i_w", "x_act")] == [
        ("i_w_payload", "input", 16, "payload"), ("i_w_valid", "input", 1, "valid"), ("i_w_ready", "output", 1, "ready"),
        ("x_act_addr", "output", 6, "addr"), ("x_act_valid", "output", 1, "valid"), ("x_act_ready", "input", 1, "ready"),
        ("x_act_data", "input", 16, "data"),
    ]


@pytest.mark.parametrize("build", BUILDS, ids=repr)
def test_manifest_is_what_the_verilog_declares(build):
    design = design_of(build)
    top = re.search(rf"^module {build.name} *\((.*?)\);(.*?)^endmodule", design.verilog, re.MULTILINE | re.DOTALL)
    declared = {name: (direction, 1 + int(high or 0))
                for direction, high, name in re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", top[2], re.MULTILINE)}
    assert declared == {port.name: (port.direction, port.width) for port in design.ports}
    assert {name.strip() for name in top[1].split(",")} == set(declared)
    assert all("__" not in name for name in declared)
    widths = {port.name: port.width for port in design.ports}
    assert widths["job_payload"] == build.job_record.bits and widths["done_payload"] == build.done_record.bits
    assert widths["i_w_payload"] == 8 * build.beat_bytes and widths["x_act_data"] == build.buffers[0].width


def test_arrays_and_missing_clocks():
    design = export(Adder(), "adder")
    groups, roles = ("i_0", "i_1", "o"), ("payload", "valid", "ready")
    expected = {(f"{group}_{role}", group) for group in groups for role in roles}
    assert {(port.name, port.group) for port in design.ports} == expected


def test_module_names_are_plain_and_begin_with_the_top():
    verilog = design_of(BUILDS[0]).verilog
    modules = re.findall(r"^module (\S+?) ?\(", verilog, re.MULTILINE)
    assert len(modules) == len(set(modules)) > 3
    assert all(re.fullmatch(rf"{BUILDS[0].name}(_\w+)?", module) for module in modules)
    instances = re.findall(rf"^  \\?({BUILDS[0].name}_\w+)", verilog, re.MULTILINE)
    assert set(instances) <= set(modules) and len(instances) >= len(modules) - 1


def test_json_round_trip():
    design = toy_design(Toy())
    assert Design.from_json(design.to_json()) == design
    assert dataclasses.replace(design, verilog=design.verilog + " ").digest != design.digest


@pytest.mark.parametrize("name", ("", "1st", "two words", "a__b", "a-b", "été"))
def test_names_that_are_none_in_verilog_are_refused(name):
    adder = Adder()
    export(adder, "adder")
    with pytest.raises(ValueError, match="name must be a Verilog identifier"):
        export(adder, name)


def test_paths_that_join_to_one_name_are_refused():
    class Twice(wiring.Component):
        a_b: In(1)
        a: In(wiring.Signature({"b": In(1)}))
        o: Out(1)

        def elaborate(self, platform):
            m = Module()
            m.d.comb += self.o.eq(self.a_b ^ self.a.b)
            return m

    twice = Twice()
    Fragment.get(twice, None)
    with pytest.raises(ValueError, match="two ports would be called a_b"):
        export(twice, "twice")


def test_same_bytes_in_every_process(tmp_path):
    """Another hash seed, another folder, another process."""
    digests = []
    for seed in ("1", "4242"):
        folder = tmp_path / seed
        folder.mkdir()
        environment = dict(os.environ, PYTHONHASHSEED=seed)
        run = subprocess.run([sys.executable, "-c", SHOW], cwd=folder, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        digests.append(run.stdout.split())
    assert digests[0] == digests[1] and len(set(digests[0])) == 2


@pytest.mark.parametrize("build", BUILDS, ids=repr)
def test_verilog_says_nothing_of_its_machine(build):
    verilog = design_of(build).verilog
    assert not re.search(r"(?<!/)/\w+/\w+|\.py\b|\(\* *src", verilog)


@pytest.mark.parametrize("build", BUILDS, ids=repr)
def test_lint_is_clean(build):
    assert lint(design_of(build)) == []


def test_every_waiver_is_needed_and_has_its_reason():
    """Without the waivers each of their rules, and no other, has something to say of these designs."""
    waived = re.findall(r"lint_off -rule (\w+)", WAIVERS.read_text())
    paragraphs = WAIVERS.read_text().split("\n\n")[1:]
    assert len(waived) > 3 and all(paragraph.startswith("// ") and "lint_off -rule" in paragraph for paragraph in paragraphs)
    designs = [*(design_of(build) for build in BUILDS[:3]), toy_design(Toy())]
    texts = [text for design in designs for text in lint(design, waivers=None)]
    assert {re.match(r"%Warning-(\w+)", text)[1] for text in texts} == set(waived)


@pytest.mark.parametrize("planted, rule", [
    ("reg latch; always @* if (i_w_valid) latch = i_w_ready;", "LATCH"),
    ("wire [3:0] loose; wire used = loose[0] ^ i_w_valid;", "UNDRIVEN"),
    ("assign no_such_wire = 1;", "IMPLICIT"),
    ("reg both; always @(posedge clk) both = i_w_valid;", "BLKSEQ"),
])
def test_lint_sees_a_planted_fault(planted, rule):
    design = toy_design(Toy())
    top = re.search(r"^module toy *\(.*?^endmodule", design.verilog, re.MULTILINE | re.DOTALL)[0]
    spoiled = design.verilog.replace(top, top.replace("endmodule", f"  {planted}\nendmodule"))
    assert spoiled != design.verilog
    assert any(rule in text for text in lint(dataclasses.replace(design, verilog=spoiled)))


def test_signals_without_bits_are_left_out():
    class Empty(wiring.Component):
        i: In(2)
        o: Out(2)

        def elaborate(self, platform):
            m = Module()
            none = Signal(0, name="none")
            m.d.comb += [none.eq(self.i), self.o.eq(self.i | none)]
            return m

    design = export(Empty(), "empty")
    assert "[-1:0]" not in design.verilog and lint(design) == []
