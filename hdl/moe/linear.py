"""The MoE linear engine: job shell, list of experts, loader, queue of pairs, issue, products, drain, results."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import Component

from ...models.spec.moe_linear_cycles import front_latency
from ..common.delay import delay
from ..common.job_shell import JobShell
from ..common.ports import EngineSignature, layout
from .drain import Drain
from .expert_list import ExpertList
from .issue import Issue
from .loader import Loader
from .pair_queue import PairQueue
from .products import Products
from .results import Results

__all__ = ["MoeLinear"]


class MoeLinear(Component):
    """Linear layers for several tokens at once, dense or expert by expert.

    *Behaviour*: see :class:`sparseloom.models.spec.moe_linear.MoeLinear` (jobs, streams, orders). *Members*:
    ``EngineSignature(build)``.
    *Latency*: ``build.cycles(job)``, exactly, if nothing refuses. *Handshake*: jobs queue two deep; weights, reads and results
    may stall in any pattern. *Limits*: shapes up to the build's maxima; a job outside them completes with status ILLEGAL and
    consumes nothing. What the list of experts and the queue of pairs say is trusted: counts of at least one pair that add up to
    the queue's length, tokens of the job, ``first`` and ``last`` once for each.
    """

    def __init__(self, build):
        self.build = build
        super().__init__(EngineSignature(build))

    def elaborate(self, platform):
        m = Module()
        build = self.build
        m.submodules.shell = shell = JobShell(build)
        m.submodules.experts = experts = ExpertList(build)
        m.submodules.loader = loader = Loader(build)
        m.submodules.queue = queue = PairQueue(build)
        m.submodules.issue = issue = Issue(build)
        m.submodules.products = products = Products(build)
        m.submodules.drain = drain = Drain(build)
        m.submodules.results = results = Results(build)
        job, stream, out = shell.current, self.i_w, self.o_y
        list_stall = experts.x_valid & ~experts.x_ready
        m.d.comb += [
            *shell.ports(self),
            shell.refuse.eq(~self._legal(shell.waiting)), shell.finish.eq(results.finish), shell.saturated.eq(results.saturated),
            shell.stall_i.eq(loader.stall), shell.stall_x.eq(issue.stall | queue.stall | list_stall),
            shell.stall_o.eq(results.stall),
            *(part.job.eq(job) for part in (experts, loader, queue, issue, drain, results)),
            *(part.start.eq(shell.start) for part in (experts, loader, queue, issue, drain, results)),
            loader.experts.payload.eq(experts.lasts.payload), loader.experts.valid.eq(experts.lasts.valid),
            experts.lasts.ready.eq(loader.experts.ready),
            queue.experts.payload.eq(experts.counts.payload), queue.experts.valid.eq(experts.counts.valid),
            experts.counts.ready.eq(queue.experts.ready),
            issue.groups.payload.eq(queue.o.payload), issue.groups.valid.eq(queue.o.valid), queue.o.ready.eq(issue.groups.ready),
            loader.valid.eq(stream.valid), stream.ready.eq(loader.ready),
            out.payload.eq(results.o_y.payload), out.valid.eq(results.o_y.valid), results.o_y.ready.eq(out.ready),
        ]
        if build.queues:
            for port, part in ((self.x_queue, queue), (self.x_expert, experts)):
                m.d.comb += [port.addr.eq(part.x_addr), port.valid.eq(part.x_valid), part.x_ready.eq(port.ready),
                             part.x_data.eq(port.data)]
        beat = delay(m, stream.payload.as_value(), 1, "beat")
        m.d.comb += [
            products.beat.eq(beat), products.weights.eq(loader.weights), products.part.eq(loader.part),
            products.word_at.eq(loader.word_at), drain.beat.eq(beat), drain.header.eq(loader.header), drain.part.eq(loader.part),
            drain.header_at.eq(loader.header_at), loader.header_release.eq(drain.header_release),
            issue.arrived.eq(loader.arrived), issue.credit.eq(results.credit),
            # A place of the ring is free when the last position has been read.
            loader.release.eq(delay(m, issue.release, build.read_latency + 7, "release", reset_less=False)),
            results.reserved.eq(Mux(issue.step & issue.last, issue.group.beats, 0)),
        ]
        self._multiply(m, issue, products, drain)
        m.d.comb += [
            drain.sums.eq(products.sums), drain.put.eq(products.put), results.valid.eq(drain.valid), results.acc.eq(drain.acc),
            results.w_scale.eq(drain.w_scale), results.bias.eq(drain.bias), results.x_scale.eq(drain.x_scale),
            results.what.eq(drain.what),
        ]
        return m

    def _multiply(self, m, issue, products, drain):
        """The buffers of activations; what comes with a group of sums."""
        build, latency = self.build, self.build.read_latency
        whole = front_latency(build)
        m.d.comb += [
            products.step.eq(issue.step), products.first.eq(issue.first), products.last.eq(issue.last), products.at.eq(issue.at),
            products.asked.eq(issue.asked), issue.x_ready.eq(Cat(getattr(self, f"x_act{t}").ready for t in range(build.tokens))),
            drain.group.as_value().eq(delay(m, issue.group.as_value(), whole, "group")),
        ]
        for t in range(build.tokens):
            port = getattr(self, f"x_act{t}")
            word = data.View(layout(build.activation_record), port.data)
            scale = Signal(16, name=f"x_scale_{t}", reset_less=True)
            with m.If(delay(m, issue.asked[t], latency, f"scale_come_{t}", reset_less=False)):
                m.d.sync += scale.eq(word.scale)
            m.d.comb += [
                port.addr.eq(getattr(issue, f"x_addr{t}")), port.valid.eq(issue.x_valid[t]),
                products.codes[t].as_value().eq(word.codes.as_value()),
                drain.scales[t].eq(delay(m, scale, whole - latency - 1, f"x_scale_{t}")),
            ]

    def _legal(self, job):
        build = self.build

        def within(value, most):
            return (value != 0) & (value <= most)

        legal = (within(job.k_steps, build.max_steps) & within(job.n, build.max_n) & within(job.m, build.max_m)
                 & (job.shift <= build.max_shift) & (job.out_shift <= build.max_out_shift)
                 & (job.queued | (job.gather & ~job.use_score)))
        for flag, has in ((job.gelu, build.gelu), (job.narrow, build.narrow), (job.queued, build.queues)):
            legal &= Const(1) if has else ~flag
        return legal & (~job.use_score | (job.n <= build.score_rows) if build.scores else ~job.use_score)
