"""Deliberate faults in every block of the ternary engine; the conformance suite in pysim must see each."""

import pytest

from sparseloom.models.spec.ternary import TernaryEngine
from sparseloom.sim.conformance import check_build
from sparseloom.sim.mutants import Mutant, verdict

pytestmark = pytest.mark.rtl

TREE = TernaryEngine(rows=4, lanes=10, datapath="tree", max_k=14, max_n=72, max_m=3, requantise=True, statistics=True,
                     result_lanes=1)
TABLE = TernaryEngine(rows=2, lanes=5, datapath="table", max_k=24, max_n=60, max_m=2, requantise=True, statistics=True)

MUTANTS = [
    (TREE, Mutant("subtracts where it should add", "hdl.common.adder_tree", "add = Value.cast(a), Value.cast(b), ~Cat(subtract)",
                  "add = Value.cast(a), Value.cast(b), Cat(subtract)")),
    (TREE, Mutant("a node passes the wrong sign on", "hdl.common.adder_tree",
                  "return Node(value, self._later(m, self.sign, name), low, high)",
                  "return Node(value, self._later(m, relative, name), low, high)")),
    (TREE, Mutant("queue gives up a payload twice", "hdl.common.fifo", "m.d.sync += get.eq(get + 1)",
                  "m.d.sync += get.eq(get + 2)")),
    (TREE, Mutant("queue overwrites when full", "hdl.common.fifo", "self.i.ready.eq(room)",
                  "self.i.ready.eq(1)")),
    (TREE, Mutant("register drops its spare entry", "hdl.common.stream_register", "m.d.sync += out.eq(spare)",
                  "m.d.sync += out.eq(out)")),
    (TREE, Mutant("register offers what may change", "hdl.common.stream_register", "with m.If(self.o.ready | ~self.o.valid):",
                  "with m.If(1):")),
    (TREE, Mutant("a cycle is counted twice", "hdl.common.job_shell", "done.cycles.eq(done.cycles + 1)",
                  "done.cycles.eq(done.cycles + 2)")),
    (TREE, Mutant("stalls of reads counted as results", "hdl.common.job_shell", "with m.Elif(stalls[1]):", "with m.Elif(0):")),
    (TREE, Mutant("illegal jobs are run", "hdl.ternary.engine", "return (value != 0) & (value <= most)", "return value != 0")),
    (TREE, Mutant("ties round away from zero", "hdl.common.requantise", "guard & (sticky | quotient[0])", "guard")),
    (TREE, Mutant("clamps one too low", "hdl.common.requantise", "Mux(rounded < self.low, self.low, rounded)",
                  "Mux(rounded < self.low + 1, self.low + 1, rounded)")),
    (TREE, Mutant("smallest instead of largest magnitude", "hdl.common.statistics",
                  "absmax.eq(Mux(largest > old_absmax, largest, old_absmax))",
                  "absmax.eq(Mux(largest > old_absmax, old_absmax, largest))")),
    (TREE, Mutant("a new job adds to old squares", "hdl.common.statistics", "old_total = Mux(first, 0,",
                  "old_total = Mux(0, 0,")),
    (TREE, Mutant("zero flag of t1 without its escape", "hdl.ternary.decode", "(a & b) | (~a & b & c) | (a & c & d)",
                  "(a & b) | (~a & b & c)")),
    (TREE, Mutant("escape read from two bits", "hdl.ternary.decode", "escape = low[2:5].all()", "escape = low[3:5].all()")),
    (TREE, Mutant("relative sign of a pair from the wrong bit", "hdl.ternary.tree", "relative=x1", "relative=x0")),
    (TREE, Mutant("weights one cycle late", "hdl.ternary.tree", "build.read_latency - 2", "build.read_latency - 1")),
    (TREE, Mutant("sums run on into the next", "hdl.ternary.accumulate", "masked = Mux(self.first, 0, kept[row].value)",
                  "masked = Mux(0, 0, kept[row].value)")),
    (TREE, Mutant("tokens share an accumulator", "hdl.ternary.accumulate",
                  "write.addr.eq(delay(m, self.token_ahead, 1, \"token\")),",
                  "write.addr.eq(0),")),
    (TREE, Mutant("last row group dropped", "hdl.common.countdown", "self.last.eq(self.left <= 2 * self.by)",
                  "self.last.eq(self.left <= 3 * self.by)")),
    (TREE, Mutant("beat taken while the read is refused", "hdl.ternary.sequencer",
                  "self.w_ready.eq(wanted & self.x_ready & token.last)",
                  "self.w_ready.eq(wanted & token.last)")),
    (TREE, Mutant("no credit asked", "hdl.ternary.results", "self.credit.eq(some)", "self.credit.eq(1)")),
    (TREE, Mutant("last part of a ragged group dropped", "hdl.ternary.results", "(rest <= 2 * lanes)",
                  "(rest <= 3 * lanes)")),
    (TABLE, Mutant("set read while it fills", "hdl.ternary.sequencer",
                  "begin.eq(loaded & ~filling & ~busy.bit_select(self.fill_set, 1))",
                   "begin.eq(loaded & ~filling)")),
    (TABLE, Mutant("last entry never filled", "hdl.ternary.sequencer", "self.fill.eq(filling & (count < FILL_ENTRIES))",
                   "self.fill.eq(filling & (count < FILL_ENTRIES - 3))")),
    (TABLE, Mutant("one token's activations for all", "hdl.ternary.sequencer", "self.x_addr.eq(next_token)",
                  "self.x_addr.eq(0)")),
    (TABLE, Mutant("the other set is looked up", "hdl.ternary.table", "chosen = delay(m, self.set, 1, \"set\")",
                  "chosen = delay(m, ~self.set, 1, \"set\")")),
    (TABLE, Mutant("partial sums of the neighbouring group", "hdl.ternary.accumulate", "read.addr.eq(self.group_ahead)",
                  "read.addr.eq(self.group_ahead ^ 1)")),
    (TABLE, Mutant("old partial sums at the first block", "hdl.ternary.accumulate",
                   "with m.If(delay(m, self.first_ahead, self.AHEAD - 1, \"first\")):",
                  "with m.If(0):")),
]


def check(build):
    from sparseloom.sim.pysim import PySimulator
    simulator = PySimulator(build)
    check_build(build, jobs=6, seed=3, modes=("free", "stalling_sink", "both"), simulator=simulator)
    check_build(build, jobs=10, seed=4, modes=("free",), simulator=simulator)


@pytest.mark.parametrize("build", [TREE, TABLE], ids=lambda build: build.datapath)
def test_unchanged_gates_pass(build):
    none = Mutant("none", "hdl.ternary.engine", "tree = self.build, ", "tree = self.build, ")
    assert verdict(none, lambda: check(build)) is None


@pytest.mark.parametrize("build, mutant", MUTANTS, ids=lambda value: value.name if isinstance(value, Mutant) else value.datapath)
def test_mutant_is_killed(build, mutant):
    assert verdict(mutant, lambda: check(build)) is not None
