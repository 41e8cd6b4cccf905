"""DSP groups of explicit vendor cells: their twins under Verilator against exact sums, and what Yosys makes of them."""

import dataclasses

import numpy as np
import pytest
from amaranth.hdl import Cat, Instance, Module, Signal
from amaranth.lib.wiring import Component, In, Out

from sparseloom.fpga.place import place
from sparseloom.fpga.synth import synthesise
from sparseloom.hdl.export import Design, export
from sparseloom.hdl.sparse_chain.dsp_group import TARGETS, DspGroup
from sparseloom.sim.clocked import clocked
from sparseloom.sim.lint import lint
from sparseloom.sim.mutants import Mutant, verdict
from sparseloom.sim.runner import SimulationError
from sparseloom.sim.tools import ToolFailed
from sparseloom.sim.twins import TWINS, twins

pytestmark = pytest.mark.rtl

MOST = 8
ALL = [(dsps, tokens, target) for target in TARGETS for dsps in range(1, MOST + 1) for tokens in (1, 2)]
HARD = [(2, 1, "dsp48e2"), (MOST, 2, "dsp48e2"), (2, 2, "ecp5")]
VECTORS = 1500


class Groups(Component):
    """Groups of every kind in ``kinds`` side by side on the same operands; ``y``: their sums, 32 signed bits each."""

    def __init__(self, kinds):
        self.kinds = kinds
        super().__init__({"x": In(8 * 2 * MOST), "w": In(8 * MOST), "y": Out(32 * sum(tokens for _, tokens, _ in kinds))})

    def elaborate(self, platform):
        from sparseloom.hdl.sparse_chain.dsp_group import DspGroup  # noqa: F811 - a mutant's child process imports it anew
        m = Module()
        sums = []
        for dsps, tokens, target in self.kinds:
            group = m.submodules[f"{target}_{dsps}_{tokens}"] = DspGroup(dsps, tokens, target)
            for j in range(dsps):
                m.d.comb += group.w[j].eq(self.w[8 * j : 8 * j + 8].as_signed())
                m.d.comb += [group.x[j][t].eq(self.x[8 * (2 * j + t) : 8 * (2 * j + t) + 8].as_signed()) for t in range(tokens)]
            for token in range(tokens):
                wide = Signal(32)
                m.d.comb += wide.eq(group.y[token])
                sums.append(wide)
        m.d.comb += self.y.eq(Cat(sums))
        return m


def operands():
    """int8 x [vector, position, token] and w [vector, position]: the extremes at every position, alternating signs, extremes
    mixed, random."""
    rng = np.random.default_rng(2024)
    x, w = rng.integers(-128, 128, (VECTORS, MOST, 2)), rng.integers(-128, 128, (VECTORS, MOST))
    ends, row = (-128, 127, -127, -1, 0, 1), 0
    for first in ends:
        for second in ends:
            for weight in ends:
                x[row, :, 0], x[row, :, 1], w[row] = first, second, weight
                row += 1
    signs = np.where(np.arange(MOST) % 2, 1, -1)
    for by_token in ((signs, signs), (signs, -signs), (-signs, signs)):
        x[row], w[row] = 127 * np.stack(by_token, 1), 127 * signs
        row += 1
    x[row : row + 400], w[row : row + 400] = rng.choice((-128, 127), (400, MOST, 2)), rng.choice((-128, 127), (400, MOST))
    order = rng.permutation(VECTORS)
    return x[order], w[order]


def sums_of_gates(kinds):
    """The sums of each kind, [vector, token], read dsps + 4 cycles after position 0's operands; position j's come j later."""
    x, w = operands()
    cycles = VECTORS + 2 * MOST
    fed_x, fed_w = np.zeros((cycles, MOST, 2), np.int8), np.zeros((cycles, MOST), np.int8)
    for j in range(MOST):
        fed_x[j : j + VECTORS, j], fed_w[j : j + VECTORS, j] = x[:, j], w[:, j]
    shown = clocked(export(Groups(kinds), "groups"), {"x": fed_x.reshape(cycles, -1).view(np.uint8), "w": fed_w.view(np.uint8)})
    columns, found = shown["y"].copy().view("<i4"), {}
    for kind in kinds:
        dsps, tokens, _ = kind
        found[kind], columns = columns[dsps + 4 : dsps + 4 + VECTORS, :tokens], columns[:, tokens:]
    assert columns.shape[1] == 0
    return found


def check(kinds):
    x, w = operands()
    for (dsps, tokens, target), sums in sums_of_gates(kinds).items():
        exact = (x[:, :dsps, :tokens] * w[:, :dsps, None]).sum(1)
        wrong = np.argwhere(sums != exact)
        assert sums.shape == exact.shape and not len(wrong), f"{dsps} x {tokens} {target}: {len(wrong)} sums wrong, {wrong[:1]}"


def test_operands_reach_every_corner():
    x, w = operands()
    sums = (x * w[:, :, None]).sum(1)
    assert sums.max() == 2**17 and sums.min() == -130048
    corners = ((2**17, 2**17), (2**17, -130048), (-130048, 2**17), (-130048, -130048), (0, 2**17))
    assert set(corners) <= set(map(tuple, sums.tolist()))


def test_all_targets_give_the_exact_sums_in_the_same_cycle():
    check(ALL)


DSP, ECP = "hdl.sparse_chain.dsp48e2", "hdl.sparse_chain.mult18x18d"
MUTANTS = [
    Mutant("no bias", DSP, "p_RND=Const(BIAS if packed else 0, _P_BITS)", "p_RND=Const(0, _P_BITS)"),
    Mutant("bias added at every position", DSP, "_Z_PCIN if j else start", "_Z_PCIN | start if j else start"),
    Mutant("bias one step too small", DSP, "BIAS = MAX_DSPS * 128 * 127", "BIAS = MAX_DSPS * 128 * 127 - 1024"),
    Mutant("bias that leaves no room for the corner", DSP, "BIAS = MAX_DSPS * 128 * 127", "BIAS = MAX_DSPS * 128 * 128"),
    Mutant("field split as a signed number", DSP, "p[FIELD_BITS : FIELD_BITS + SUM_BITS].as_signed()",
           "(p[FIELD_BITS : FIELD_BITS + SUM_BITS] + p[FIELD_BITS - 1])[:SUM_BITS].as_signed()"),
    Mutant("cascade broken", DSP, "_Z_PCIN if j else start", "_Z_PCIN if j != 2 else start"),
    Mutant("cascade from the position before the last", DSP, "cascade = pcout", "cascade = pcout if j != 1 else cascade"),
    Mutant("tokens exchanged", DSP, "Cat(Const(0, FIELD_BITS), acts[1])", "Cat(Const(0, FIELD_BITS), acts[0])"),
    Mutant("one token's field unsigned", DSP, "_extended(acts[0] if packed else Const(0), _D_BITS)",
           "(acts[0].as_unsigned() if packed else Const(0))"),
    Mutant("sum without its top bit", DSP, "above[: SUM_BITS - free]", "above[: SUM_BITS - free - 1]"),
    Mutant("a position one cycle late", DSP, "cascade = pcout",
           "cascade = Signal(_P_BITS, name=f'late{j}'); m.d.sync += cascade.eq(pcout)"),
    Mutant("product off by one place", ECP, "product[2 * (_WIDTH - OPERAND_BITS) :]",
           "product[2 * (_WIDTH - OPERAND_BITS) - 1 :]"),
    Mutant("ECP5 sum of the other token", ECP, "sums[token] + ", "sums[0] + "),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_killed(mutant):
    assert "sums wrong" in verdict(mutant, lambda: check(HARD))


def test_unchanged_gates_pass_the_mutants_check():
    assert verdict(Mutant("none", DSP, "cascade = pcout", "cascade = pcout"), lambda: check(HARD)) is None


def group(target, tokens=2, dsps=MOST):
    return export(DspGroup(dsps, tokens, target), "group")


@pytest.mark.parametrize("target, primitives", [("portable", ()), ("dsp48e2", ("DSP48E2",)), ("ecp5", ("MULT18X18D",))])
def test_a_design_names_the_cells_that_it_takes_from_vendors(target, primitives):
    design = group(target, dsps=2)
    assert design.primitives == primitives and set(twins(design)) == {f"{name}.v" for name in primitives}
    assert Design.from_json(design.to_json()) == design


def test_every_twin_belongs_to_a_target():
    taken = {name for target in TARGETS for name in group(target, dsps=1).primitives}
    assert {path.name for path in TWINS.iterdir()} == {f"{name}.v" for name in taken}


def test_a_cell_without_a_twin_is_refused():
    class Lone(Component):
        i: In(1)
        o: Out(1)

        def elaborate(self, platform):
            m = Module()
            m.submodules.cell = Instance("NO_SUCH_CELL", i_I=self.i, o_O=self.o)
            return m

    design = export(Lone(), "lone")
    with pytest.raises(ValueError, match="lone cannot be simulated: no twin of the cell NO_SUCH_CELL"):
        clocked(design, {"i": np.zeros((1, 1), np.uint8)})


# What a user of a cell might ask of it and its twin does not model: (target, old, new).
REFUSED_AT_ELABORATION = [
    ("dsp48e2", ".AREG(32'd1)", ".AREG(32'd2)"), ("dsp48e2", ".BREG(32'd2)", ".BREG(32'd1)"),
    ("dsp48e2", ".MREG(32'd1)", ".MREG(32'd0)"), ("dsp48e2", ".PREG(32'd1)", ".PREG(32'd0)"),
    ("dsp48e2", ".AMULTSEL(\"AD\")", ".AMULTSEL(\"A\")"), ("dsp48e2", ".PREADDINSEL(\"A\")", ".PREADDINSEL(\"B\")"),
    ("dsp48e2", ".USE_SIMD(\"ONE48\")", ".USE_SIMD(\"TWO24\")"), ("dsp48e2", ".OPMODEREG(32'd0)", ".OPMODEREG(32'd1)"),
    ("dsp48e2", ".USE_MULT(", ".A_INPUT(\"CASCADE\"), .USE_MULT("),
    ("dsp48e2", ".USE_MULT(", ".IS_RSTP_INVERTED(1'b1), .USE_MULT("),
    ("ecp5", ".REG_PIPELINE_CLK(\"CLK0\")", ".REG_PIPELINE_CLK(\"NONE\")"), ("ecp5", ".GSR(\"DISABLED\")", ".GSR(\"ENABLED\")"),
    ("ecp5", ".GSR(", ".MULT_BYPASS(\"ENABLED\"), .GSR("),
]
REFUSED_AT_THE_CLOCK = [
    ("dsp48e2", ".OPMODE(9'h105)", ".OPMODE(9'h135)"), ("dsp48e2", ".INMODE(5'h04)", ".INMODE(5'h0c)"),
    ("dsp48e2", ".CEM(1'h1)", ".CEM(1'h0)"), ("ecp5", ".SIGNEDB(1'h1)", ".SIGNEDB(1'h0)"),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        ("dsp48e2", ".OPMODE(9'h105)", ".OPMODE(9'h185)"), ("dsp48e2", ".OPMODE(9'h105)", ".OPMODE(9'h100)"),
        ("dsp48e2", ".ALUMODE(4'h0)", ".ALUMODE(4'h3)"), ("dsp48e2", ".CARRYIN(1'h0)", ".CARRYIN(1'h1)"),
        ("dsp48e2", ".CEAD(1'h1)", ".CEAD(1'h0)"), ("dsp48e2", ".RSTP(1'h0)", ".RSTP(1'h1)"),
        ("ecp5", ".CE0(1'h1)", ".CE0(1'h0)"), ("ecp5", ".SOURCEA(1'h0)", ".SOURCEA(1'h1)"),
    )),
]


def changed(target, old, new):
    design = group(target, dsps=1)
    assert old in design.verilog
    return dataclasses.replace(design, verilog=design.verilog.replace(old, new))


@pytest.mark.parametrize("target, old, new", REFUSED_AT_ELABORATION)
def test_attributes_that_a_twin_does_not_model_are_refused(target, old, new):
    """By the lint too, which only elaborates."""
    found = lint(changed(target, old, new))
    assert len(found) == 1 and "has a value that its twin does not model" in found[0]


def test_such_a_design_is_not_translated():
    with pytest.raises(ToolFailed, match="has a value that its twin does not model"):
        run_zeros(changed(*REFUSED_AT_ELABORATION[0]))


def run_zeros(design):
    return clocked(design, {port.name: np.zeros((3, port.width // 8), np.uint8) for port in design.ports
                            if port.name in ("x", "w")})


@pytest.mark.parametrize("target, old, new", REFUSED_AT_THE_CLOCK)
def test_inputs_that_a_twin_does_not_model_stop_the_simulation(target, old, new):
    with pytest.raises(SimulationError, match="group stopped its simulation"):
        run_zeros(changed(target, old, new))


def test_rows_that_do_not_fit_the_ports_are_refused():
    design, rows = group("portable", dsps=1), np.zeros((3, 1), np.uint8)
    with pytest.raises(ValueError, match="inputs must be .* for the same number of cycles"):
        clocked(design, {"x": rows})
    with pytest.raises(ValueError, match=r"x must have 2 bytes a cycle, got shape \(3, 1\)"):
        clocked(design, {"x": rows, "w": rows})


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("tokens", (1, 2))
def test_lint_is_clean_with_the_twins(target, tokens):
    assert lint(group(target, tokens, 3)) == []


@pytest.mark.parametrize("dsps, tokens", [
    (MOST, 2), (MOST, 1), (1, 2), *(pytest.param(dsps, tokens, marks=pytest.mark.slow) for dsps in (2, 5) for tokens in (1, 2)),
])
def test_synthesis_keeps_one_dsp48e2_a_position_and_its_registers(dsps, tokens):
    """int8 products a slice and cycle: ``tokens``. Outside the slices stand the split and one register a result bit."""
    made = synthesise(group("dsp48e2", tokens, dsps), "xcup")
    outside = made.resources
    assert (outside.dsp, outside.ff) == (dsps, 19 * tokens) and outside.lut + outside.lut_route <= 9 * (tokens - 1)
    cells = [cell for cell in made.netlist if cell["type"] == "DSP48E2"]
    wanted = {"AREG": 3 - tokens, "BREG": 2, "MREG": 1, "PREG": 1, "ADREG": 1, "DREG": 1}
    assert [{name: int(cell["parameters"][name], 2) for name in wanted} for cell in cells] == [wanted] * dsps
    links = {tuple(cell["connections"]["PCIN"]): tuple(cell["connections"]["PCOUT"]) for cell in cells}
    chain = [tuple("0" * 48)]
    while chain[-1] in links:
        chain.append(links.pop(chain[-1]))
    assert len(chain) == dsps + 1 and len(set().union(*chain)) == 1 + 48 * dsps


def test_synthesis_keeps_the_registers_of_mult18x18d():
    made = synthesise(group("ecp5"), "ecp5")
    assert made.resources.dsp == made.cells["MULT18X18D"] == 2 * MOST
    wanted = {f"REG_{place}_CLK": "CLK0" for place in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")}
    cells = [cell["parameters"] for cell in made.netlist if cell["type"] == "MULT18X18D"]
    assert [{name: cell[name] for name in wanted} for cell in cells] == [wanted] * 2 * MOST


@pytest.mark.parametrize("family", ("xcup", pytest.param("ecp5", marks=pytest.mark.slow)))
def test_portable_products_are_found_by_synthesis(family):
    assert synthesise(group("portable"), family).resources.dsp == 2 * MOST


@pytest.mark.slow
def test_cells_of_ecp5_are_routed_and_reach_200_mhz():
    """The same group of inferred multipliers, whose registers stay outside, reached 129 MHz."""
    placement = place(group("ecp5"))
    assert placement.used["MULT18X18D"] == 2 * MOST and placement.mhz >= 200
