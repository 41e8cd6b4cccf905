"""The files of a generated kernel under the tools they are for: C, Tcl, LiteX's names, Yosys."""

import json
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

from sparseloom.fpga.package import deliverable, write_tree
from sparseloom.hdl.bus.kernel_spec import KernelSpec
from sparseloom.hdl.export import Design
from sparseloom.models.spec.sparse_chain import SparseChain
from sparseloom.models.spec.ternary import TernaryEngine
from sparseloom.sim.lint import lint
from sparseloom.sim.twins import twins

pytestmark = pytest.mark.rtl

NAME = "tiny"
CHAIN = {"chains": 1, "window": 16, "max_bits": 4, "max_k": 100, "max_n": 16, "max_m": 2}
KERNELS = {
    "ternary": KernelSpec(build=TernaryEngine(rows=2, lanes=5, max_k=32, max_n=16, max_m=2, requantise=True, statistics=True),
                          bus_bytes={"y": 4}),
    "sparse": KernelSpec(build=SparseChain(**CHAIN, target="dsp48e2")),
}


@pytest.fixture(scope="module", params=KERNELS)
def kernel(request):
    return KERNELS[request.param]


@pytest.fixture(scope="module")
def folder(kernel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree") / "out"
    write_tree(deliverable(kernel, NAME, twins=twins), folder)
    return folder


@pytest.fixture(scope="module")
def cells(folder):
    """Vendor cells that the kernel brings models of."""
    return tuple(path.stem for path in sorted((folder / "sim").glob("primitives/*.v")))


@pytest.fixture(scope="module")
def ports(folder):
    """``{port: (direction, bits)}`` as the port table has them."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\d+) \|", (folder / "ports.md").read_text(), re.MULTILINE)
    assert len(rows) > 30
    return {port: (direction, int(bits)) for port, direction, bits in rows}


def test_header_compiles_and_drives(folder, tmp_path):
    """The header under strict C and C++, and its driver against an array in the kernel's place."""
    registers = json.loads((folder / "regs" / f"{NAME}.json").read_text())["registers"]
    word = {register["name"]: register["offset"] // 4 for register in registers}
    (tmp_path / "drive.c").write_text(f"""
        #include "{NAME}.h"
        #include <stdio.h>
        int main(void) {{
            static uint32_t words[{NAME.upper()}_BYTES / 4];
            struct {NAME}_job job = {{0}};
            struct {NAME}_done done;
            job.n = 7; job.m = 3;
            int refused = {NAME}_pop(words, &done);
            int pushed = {NAME}_push(words, &job, {NAME.upper()}_GO_LOAD_ACT_MASK);
            words[{NAME.upper()}_STATUS / 4] = {NAME.upper()}_CAP_QUEUE_VALUE << {NAME.upper()}_STATUS_QUEUE_LEVEL_SHIFT;
            int full = {NAME}_push(words, &job, 0);
            words[{NAME.upper()}_STATUS / 4] = 1u << {NAME.upper()}_STATUS_DONE_LEVEL_SHIFT;
            words[{NAME.upper()}_DONE_CYCLES / 4] = 99;
            int popped = {NAME}_pop(words, &done);
            printf("%d %d %d %d %u ", refused, pushed, full, popped, (unsigned)done.cycles);
            printf("%u %u", (unsigned)words[{word["JOB_N"]}], (unsigned)words[{word["GO"]}]);
            return 0;
        }}""")
    strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", folder / "regs"]
    subprocess.run(["cc", "-std=c99", *strict, tmp_path / "drive.c", "-o", tmp_path / "drive"], check=True)
    assert subprocess.run([tmp_path / "drive"], capture_output=True, text=True).stdout == f"0 1 0 1 99 7 {0x101}"
    subprocess.run(["c++", "-std=c++17", *strict, "-fsyntax-only", "-x", "c++", folder / "regs" / f"{NAME}.h"], check=True)


def test_register_documents_agree(folder):
    header, table, plain = ((folder / "regs" / f"{NAME}.{suffix}").read_text() for suffix in ("h", "md", "json"))
    registers = json.loads(plain)["registers"]
    assert len(registers) > 30
    assert header.count("\n") > len(registers)
    for register in registers:
        assert f"#define TINY_{register['name']} 0x{register['offset']:03x}u" in header
        assert f"| `0x{register['offset']:03x}` | {register['name']} | {register['access']} |" in table


def test_tcl_scripts(folder, cells, tmp_path):
    """Vendor scripts with the vendor's commands stubbed: they run to their end, and every file they read is there.

    No vendor tool is at hand: this says that they are Tcl, not that Vivado or Quartus take them.
    """
    stub = tmp_path / "stub.tcl"
    scripts = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.tcl"))
    assert scripts == [*([] if cells else ["quartus/project.tcl"]), "vivado/ooc.tcl", "vivado/package_ip.tcl"]
    for script in scripts:
        text = (folder / script).read_text()
        assert "not run" in text.lower() and "primitives" not in text
        assert text.count("{") == text.count("}") and text.count("[") == text.count("]")
    constraints = [*folder.rglob("*.xdc"), *folder.rglob("*.sdc")]
    assert len(constraints) == (1 if cells else 2)
    assert all("create_clock -name aclk -period 3.333 [get_ports aclk]" in path.read_text() for path in constraints)
    if shutil.which("tclsh"):
        for script in scripts:
            copy = tmp_path / "tree"
            shutil.copytree(folder, copy, dirs_exist_ok=True)
            stub.write_text('proc unknown {args} { puts "CALL $args"; return 0 }\nset argc 0\nset argv {}\n'
                            f"source {{{copy / script}}}\nputs ENDED\n")
            run = subprocess.run(["tclsh", stub], capture_output=True, text=True)
            assert run.returncode == 0 and run.stdout.endswith("ENDED\n"), run.stderr
            for path in re.findall(rf"{re.escape(str(copy))}\S+\.(?:v|xdc|sdc)\b", run.stdout):
                assert Path(path).is_file(), path
            assert f"{NAME}.v" in run.stdout


def test_litex_wrapper_connects_every_port(kernel, folder, ports, monkeypatch):
    """The wrapper run against stand-ins for LiteX's classes: each port connected once, in its direction and width."""
    class Named(types.SimpleNamespace):
        def __getattr__(self, name):
            value = Named(path=f"{self.path}.{name}")
            setattr(self, name, value)
            return value

        def eq(self, value):
            return (self.path, value)

        __invert__ = lambda self: self  # noqa: E731

    streams, instances, sources = [], [], []

    def stream(data_width):
        streams.append(Named(path=f"stream{len(streams)}", data_width=data_width))
        return streams[-1]

    modules = {
        "migen": {"ClockSignal": lambda name: Named(path="clk"), "ResetSignal": lambda name: Named(path="rst"),
                  "Signal": lambda: Named(path="irq"), "Instance": lambda name, **ports: instances.append((name, ports)) or []},
        "litex.gen": {"LiteXModule": type("LiteXModule", (), {"specials": [], "comb": []})},
        "litex.soc.interconnect.axi": {
            "AXILiteInterface": lambda **sizes: Named(path="bus", **sizes), "AXIStreamInterface": stream,
        },
    }
    for name in ("litex", "litex.soc", "litex.soc.interconnect", *modules):
        module = types.ModuleType(name)
        vars(module).update(modules.get(name, {}))
        monkeypatch.setitem(sys.modules, name, module)
    space = {"__file__": str(folder / "litex" / f"{NAME}.py"), "__name__": "wrapper"}
    exec(compile((folder / "litex" / f"{NAME}.py").read_text(), f"{NAME}.py", "exec"), space)
    platform = types.SimpleNamespace(add_source=sources.append)
    wrapper = space["Tiny"](platform)
    (name, connected), = instances
    assert name == NAME and sorted(connected) == sorted(f"{direction[0]}_{port}" for port, (direction, _) in ports.items())
    prefixes = ("s_axis_w", "s_axis_act", *(f"m_axis_{channel.name}" for channel in kernel.results))
    assert [stream.data_width for stream in streams] == [ports[f"{prefix}_tdata"][1] for prefix in prefixes]
    assert connected["i_s_axis_act_tkeep"].path == wrapper.act.path + ".keep"
    assert connected["o_m_axis_y_tlast"].path == wrapper.y.path + ".last"
    assert [Path(path).resolve() for path in sources] == [folder.resolve() / "rtl" / f"{NAME}.v"]


def test_yosys_takes_the_verilog(folder, ports):
    """Elaborated and checked by Yosys; its own script is run by the slow tests."""
    from pyosys import libyosys as ys

    design = ys.Design()
    for command in ("read_verilog -lib +/xilinx/cells_xtra.v", f"read_verilog {folder / 'rtl' / NAME}.v",
                    f"hierarchy -check -top {NAME}", "proc", "check -assert"):
        ys.run_pass(f"tee -q {command}", design)
    assert len(design.top_module().ports) == len(ports)


def test_verilator_takes_the_verilog(folder, cells):
    """All warnings on; what is waived has its reason in the waiver file."""
    assert lint(Design(NAME, (folder / "rtl" / f"{NAME}.v").read_text(), (), cells)) == []


@pytest.mark.parametrize("target, cell, scripts", [
    ("portable", None, {"quartus", "vivado", "yosys"}), ("dsp48e2", "DSP48E2", {"vivado", "yosys"}),
    ("ecp5", "MULT18X18D", {"yosys"}),
])
def test_a_vendors_cells_bring_its_scripts_alone(target, cell, scripts):
    """And models of the cells, which no script but the bench's reads."""
    spec = KernelSpec(build=SparseChain(**CHAIN, target=target))
    if cell:
        with pytest.raises(ValueError, match=f"twins must be given for a kernel that instantiates {cell}"):
            deliverable(spec, NAME)
    files = deliverable(spec, NAME, count=1, twins=twins)
    assert {path.partition("/")[0] for path in files} & {"quartus", "vivado", "yosys"} == scripts
    assert [path for path in files if path.startswith("sim/primitives/")] == [f"sim/primitives/{cell}.v"] * bool(cell)
    assert {path for path, content in files.items() if b"primitives" in content} == {
        "sim/run.py", *(["README.md", f"{NAME}.core"] if cell else [])}
    assert files["filelist.f"] == f"rtl/{NAME}.v\n".encode()
    assert (b"synth_ecp5" in files["yosys/synth.ys"]) == (target == "ecp5")


@pytest.mark.slow
@pytest.mark.parametrize("spec, cell", [
    (KERNELS["ternary"], r"\d+ +LUT6"), (KERNELS["sparse"], r"\b12 +DSP48E2"),
    (KernelSpec(build=SparseChain(**CHAIN)), r"\d+ +DSP48E2"),
    (KernelSpec(build=SparseChain(**CHAIN, target="ecp5")), r"\d+ +MULT18X18D"),
], ids=["ternary", "dsp48e2", "portable", "ecp5"])
def test_yosys_script(spec, cell, tmp_path):
    write_tree(deliverable(spec, NAME, count=1, twins=twins), tmp_path / "out")
    program = "from pyosys import libyosys as ys; ys.run_pass('script synth.ys', ys.Design())"
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path / "out" / "yosys", capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    stat = (tmp_path / "out" / "yosys" / "stat.txt").read_text()
    assert re.search(cell, stat) and "BUF" not in stat
