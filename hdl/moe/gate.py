"""The MoE gate: job shell, choice of experts, scores, sort."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import Component

from ...models.spec.engine import Status
from ...models.spec.moe_gate import MAX_SHIFT
from ..common.job_shell import JobShell
from ..common.ports import EngineSignature
from .choose import Choose
from .score import Score
from .sort import Sort

__all__ = ["MoeGate"]


class MoeGate(Component):
    """From logits to the queues that the MoE linear engine works off.

    *Behaviour*: see :class:`sparseloom.models.spec.moe_gate.MoeGate` (jobs, streams, orders). *Members*:
    ``EngineSignature(build)``.
    *Latency*: ``build.cycles(job)``, exactly, if nothing refuses. *Handshake*: jobs queue two deep; reads and results may stall
    in any pattern. *Limits*: shapes up to the build's maxima; a job outside them completes with status ILLEGAL and consumes
    nothing.
    """

    def __init__(self, build):
        self.build = build
        super().__init__(EngineSignature(build))

    def elaborate(self, platform):
        m = Module()
        build = self.build
        m.submodules.shell = shell = JobShell(build)
        m.submodules.choose = choose = Choose(build)
        m.submodules.score = score = Score(build)
        m.submodules.sort = sort = Sort(build)
        port, clamped = self.x_logit, Signal(32)
        m.d.comb += [
            *shell.ports(self),
            shell.refuse.eq(~self._legal(shell.waiting)), shell.finish.eq(sort.finish), shell.saturated.eq(clamped),
            shell.stall_x.eq(choose.stall), shell.stall_o.eq(sort.stall),
            *(part.job.eq(shell.current) for part in (choose, score, sort)),
            *(part.start.eq(shell.start) for part in (choose, score, sort)),
            port.addr.eq(choose.x_addr), port.valid.eq(choose.x_valid), choose.x_ready.eq(port.ready),
            choose.x_data.eq(port.data),
            score.t.eq(choose.t), score.expert.eq(choose.expert), score.t_put.eq(choose.put), score.chosen.eq(choose.chosen),
            score.complete.eq(choose.complete),
            sort.pair.eq(score.pair), sort.score.eq(score.score), sort.put.eq(score.put),
        ]
        ran = shell.done.payload.status == Status.OK
        m.d.comb += [self.done.payload.pairs.eq(Mux(ran, sort.pairs, 0)), self.done.payload.used.eq(Mux(ran, sort.used, 0))]
        for name in ("pair", "expert"):
            own, out = getattr(sort, f"o_{name}"), getattr(self, f"o_{name}")
            m.d.comb += [out.payload.eq(own.payload), out.valid.eq(own.valid), own.ready.eq(out.ready)]
        with m.If(choose.clamped):
            m.d.sync += clamped.eq(clamped + 1)
        with m.If(shell.start):
            m.d.sync += clamped.eq(0)
        return m

    def _legal(self, job):
        build = self.build

        def within(value, most):
            return (value != 0) & (value <= most)

        return (within(job.m, build.max_m) & within(job.experts, build.max_experts) & within(job.top_k, build.max_top_k)
                & (job.top_k <= job.experts) & (job.nulls < job.experts) & (job.shift <= MAX_SHIFT)
                & (job.base + job.m * job.experts <= build.words))
