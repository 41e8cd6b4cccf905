"""Out-of-context synthesis by Yosys, and one well-defined count of what it gives. No vendor's tool, no vendor's figure."""

import json
from collections import Counter
from dataclasses import dataclass, field, replace

from ..models.spec.errors import check_choice
from ..perfmodel.cost.resources import Resources
from .yosys import SynthesisFailed, run_yosys, yosys_version

__all__ = ["FAMILIES", "Synthesis", "count", "count_routes", "synthesise"]

_XILINX = "synth_xilinx -family {family} -noiopad -noclkbuf -flatten -top {top}"
FAMILIES = {
    "xcup": _XILINX,
    "xcu": _XILINX,
    "xc7": _XILINX,
    "ecp5": "synth_ecp5 -noiopad -top {top}",
}
"""Synthesis command of each family: ``xcup`` UltraScale+, ``xcu`` UltraScale, ``xc7`` 7 series, ``ecp5`` Lattice ECP5."""

# LUTs that hold logic. Yosys writes an inverter that it could not push into another LUT as a cell of its own: it takes a LUT.
# An ECP5 carry cell has two LUTs inside, which nothing else can use.
_LOGIC = {**{f"LUT{inputs}": 1 for inputs in range(1, 7)}, "LUT6_2": 1, "INV": 1, "CCU2C": 2}
# LUT sites that hold memory. A Xilinx LUT has 64 x 1 or 32 x 2 bits with one address (UG574, UG474). An ECP5 memory of 16 x 4
# takes the four LUTs of two slices for its bits and the two of a third for its write port (Lattice FPGA-TN-02204).
_MEMORY = {
    "SRL16E": 1, "SRLC16E": 1, "SRLC32E": 1,
    "RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4, "RAM512X1S": 8,
    "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM256X1D": 8,
    "RAM32M": 4, "RAM64M": 4, "RAM32M16": 8, "RAM64M8": 8, "RAM64X8SW": 8, "RAM32X16DR8": 8,
    "TRELLIS_DPR16X4": 6,
}
_FF = dict.fromkeys(("FDRE", "FDSE", "FDCE", "FDPE", "TRELLIS_FF"), 1)
_DSP = dict.fromkeys(("DSP48E1", "DSP48E2", "MULT18X18D", "MULT9X9D", "ALU54B"), 1)
_BRAM = {"RAMB18E1": 1, "RAMB18E2": 1, "RAMB36E1": 2, "RAMB36E2": 2, "DP16KD": 1, "PDPW16KD": 1}
_URAM = {"URAM288": 1}
_CARRY = ("CARRY4", "CARRY8")
# Multiplexers inside a LUT's own slice, constants, clock buffers.
_FREE = ("MUXF7", "MUXF8", "MUXF9", "PFUMX", "L6MUX21", "BUFG", "GND", "VCC", "GSR")
_KNOWN = {*_LOGIC, *_MEMORY, *_FF, *_DSP, *_BRAM, *_URAM, *_CARRY, *_FREE}


@dataclass(frozen=True)
class Synthesis:
    """What Yosys made of a module: its ``resources``, the ``cells`` by type behind them, how to get them again, and the
    ``netlist``: the cells one by one, as Yosys writes them to JSON (``type``, ``parameters``, ``connections``)."""

    resources: Resources
    cells: dict[str, int]
    family: str
    tool: str
    command: str
    netlist: list = field(repr=False)


def synthesise(design, family="xcup", *, top=None, seconds=900):
    """The :class:`Synthesis` of module ``top`` (default: all) of a :class:`~sparseloom.hdl.export.Design`: no pads, flattened.

    Raises ValueError for an unknown family, SynthesisFailed if Yosys refuses, crashes or takes more than ``seconds``.
    """
    check_choice("family", family, tuple(FAMILIES))
    top = top or design.name
    # abc9 of Yosys 0.70 trips over some public names inside one module ("Assert count_id"); hidden names it takes.
    commands = [f"hierarchy -top {top}", "rename -hide w:*", FAMILIES[family].format(family=family, top=top)]
    files = run_yosys(design.verilog, [*commands, "write_json netlist.json"], results=["netlist.json"], seconds=seconds)
    netlist = list(json.loads(files["netlist.json"])["modules"][top]["cells"].values())
    cells = dict(sorted(Counter(cell["type"] for cell in netlist if not cell["type"].startswith("$")).items()))
    resources = replace(count(cells), lut_route=count_routes(netlist))
    return Synthesis(resources, cells, family, f"Yosys {yosys_version()}", "; ".join(commands), netlist)


def count(cells):
    """The :class:`~sparseloom.perfmodel.cost.resources.Resources` of ``cells`` (number by cell type), ``lut_route`` left at 0.

    ``lut``: LUT1 to LUT6 and INV one each; CCU2C two; memories and shift registers by the LUT sites they fill (RAM32M16 eight,
    TRELLIS_DPR16X4 six). Raises SynthesisFailed for a cell type it does not know: nothing is left out silently.
    """
    unknown = sorted(set(cells) - _KNOWN)
    if unknown:
        raise SynthesisFailed(f"Yosys made cells of types that have no known cost: {', '.join(unknown)}")

    def total(weights):
        return sum(number * weights.get(name, 0) for name, number in cells.items())

    memory = total(_MEMORY)
    return Resources(lut=total(_LOGIC) + memory, lut_memory=memory, lut_route=0, ff=total(_FF), dsp=total(_DSP),
                     bram=total(_BRAM), uram=total(_URAM), basis="yosys")


def count_routes(netlist):
    """``lut_route`` of the cells of one flat module, as Yosys writes them to JSON.

    A place of a Xilinx carry chain can be selected by the LUT beside it and by nothing else. Where Yosys connects a register, or
    a LUT that already selects another place, a placer fills one LUT more. (On ECP5 the LUTs of a chain are counted with it.)
    """
    beside = {bit for cell in netlist if cell["type"] in _LOGIC for bit in cell["connections"].get("O", ())}
    routes = 0
    for cell in netlist:
        for bit in cell["connections"]["S"] if cell["type"] in _CARRY else ():
            if bit in beside:
                beside.remove(bit)
            elif isinstance(bit, int):  # constants are strings
                routes += 1
    return routes
