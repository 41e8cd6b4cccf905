"""The ternary engine: job shell, sequencer, datapath, accumulators, results."""

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component

from ..common.delay import delay
from ..common.job_shell import JobShell
from ..common.ports import EngineSignature
from .accumulate import TableAccumulator, TreeAccumulator
from .results import Results
from .sequencer import TableSequencer, TreeSequencer
from .table import TernaryTable
from .tree import TernaryTree

__all__ = ["TernaryEngine"]


class TernaryEngine(Component):
    """Ternary matrix products, a beat of weights a cycle.

    *Behaviour*: see :class:`sparseloom.models.spec.ternary.TernaryEngine` (jobs, streams, orders). *Members*:
    ``EngineSignature(build)``.
    *Latency*: ``build.cycles(job)``, exactly, if nothing refuses. *Handshake*: jobs queue two deep; weights, reads and results
    may stall in any pattern. *Limits*: shapes up to the build's maxima; a job outside them completes with status ILLEGAL and
    consumes nothing.
    """

    def __init__(self, build):
        self.build = build
        super().__init__(EngineSignature(build))

    def elaborate(self, platform):
        m = Module()
        build, tree = self.build, self.build.datapath == "tree"
        m.submodules.shell = shell = JobShell(build)
        m.submodules.sequencer = seq = (TreeSequencer if tree else TableSequencer)(build)
        m.submodules.datapath = datapath = (TernaryTree if tree else TernaryTable)(build)
        m.submodules.accumulator = acc = (TreeAccumulator if tree else TableAccumulator)(build, datapath)
        m.submodules.results = results = Results(build, acc.result.shape(), datapath.latency + 1)

        job, waiting = shell.current, shell.waiting
        legal = (self._within(waiting.k_blocks, build.max_k_blocks) & self._within(waiting.n, build.max_n)
                 & self._within(waiting.m, build.max_m) & (waiting.shift <= build.max_shift)
                 & (build.requantise | ~waiting.requantise))
        m.d.comb += [
            *shell.ports(self),
            shell.refuse.eq(~legal), shell.finish.eq(results.finish),
            shell.overflow.eq(results.overflow), shell.saturated.eq(results.saturated),
            shell.stall_i.eq(seq.stall_i), shell.stall_x.eq(seq.stall_x), shell.stall_o.eq(results.stall),
        ]
        for part in (seq, results):
            m.d.comb += [part.job.eq(job), part.start.eq(shell.start)]
        act = self.x_act
        m.d.comb += [
            act.addr.eq(seq.x_addr), act.valid.eq(seq.x_valid), seq.x_ready.eq(act.ready),
            seq.w_valid.eq(self.i_w.valid), self.i_w.ready.eq(seq.w_ready),
            seq.credit.eq(results.credit), results.issued.eq(seq.step & seq.last),
            datapath.w.eq(delay(m, self.i_w.payload.data, 1, "beat")),
            acc.value.eq(datapath.value), acc.sign.eq(datapath.sign),
            results.sums.eq(acc.result), results.put.eq(acc.result_valid),
        ]
        (self._join_tree if tree else self._join_table)(m, seq, datapath, acc)
        for stream in build.outputs:
            here, there = getattr(self, f"o_{stream.name}"), getattr(results, f"o_{stream.name}")
            m.d.comb += [here.payload.eq(there.payload), here.valid.eq(there.valid), there.ready.eq(here.ready)]
        return m

    @staticmethod
    def _within(value, most):
        return (value != 0) & (value <= most)

    def _join_tree(self, m, seq, datapath, acc):
        m.d.comb += [
            datapath.act.eq(self.x_act.data),
            acc.valid.eq(delay(m, seq.step, datapath.latency, "valid", reset_less=False)),
            acc.first.eq(delay(m, seq.first, datapath.latency, "first")),
            acc.last.eq(delay(m, seq.last, datapath.latency, "last")),
            acc.token_ahead.eq(delay(m, seq.token, datapath.latency - 1, "token")),
            acc.single.eq(delay(m, seq.job.m == 1, 1, "single")),
        ]

    def _join_table(self, m, seq, datapath, acc):
        act = Signal(len(self.x_act.data), reset_less=True)
        with m.If(seq.load):
            m.d.sync += act.eq(self.x_act.data)
        ahead = datapath.latency - TableAccumulator.AHEAD
        m.d.comb += [
            datapath.act.eq(act), datapath.set.eq(delay(m, seq.set, 1, "set")),
            datapath.fill.eq(seq.fill), datapath.fill_set.eq(seq.fill_set), datapath.fill_entry.eq(seq.fill_entry),
            acc.valid_ahead.eq(delay(m, seq.step, ahead, "valid", reset_less=False)),
            acc.first_ahead.eq(delay(m, seq.first, ahead, "first")), acc.last_ahead.eq(delay(m, seq.last, ahead, "last")),
            acc.group_ahead.eq(delay(m, seq.group, ahead, "group")),
        ]
