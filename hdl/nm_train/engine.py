"""The N:M training array: job shell, order of periods, operands' ways in, the array, results."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import Component

from ...models.spec.nm_pattern import PATTERNS
from ..common.job_shell import JobShell
from ..common.ports import EngineSignature
from ..common.stream_register import StreamRegister
from .array import Array
from .intake import Intake
from .issue import Issue
from .loader import Loader
from .results import Results
from .retire import Retire
from .row import LAYOUTS
from .sequence import Sequence, period_layout

__all__ = ["NmTrain"]


class NmTrain(Component):
    """Products of bfloat16 matrices, dense or N:M sparse, output- or weight-stationary.

    *Behaviour*: see :class:`sparseloom.models.spec.nm_train.NmTrain` (jobs, streams, orders). *Members*:
    ``EngineSignature(build)``.
    *Latency*: ``build.cycles(job)``, exactly, if nothing refuses. *Handshake*: jobs queue two deep; operands and results may
    stall in any pattern. *Limits*: shapes up to the build's maxima; a job outside them completes with status ILLEGAL and
    consumes nothing.
    """

    def __init__(self, build):
        self.build = build
        super().__init__(EngineSignature(build))

    def elaborate(self, platform):
        m = Module()
        build = self.build
        m.submodules.shell = shell = JobShell(build)
        m.submodules.sequence = sequence = Sequence(build)
        m.submodules.periods = periods = StreamRegister(period_layout(build))
        m.submodules.intake = intake = Intake(build)
        m.submodules.loader = loader = Loader(build)
        m.submodules.issue = issue = Issue(build)
        m.submodules.retire = retire = Retire(build)
        m.submodules.results = results = Results(build)
        m.submodules.array = array = Array(build)
        job, a, b, y = shell.current, self.i_a, self.i_b, self.o_y
        running = Signal()
        m.d.sync += running.eq((running | shell.start) & ~shell.finish)
        m.d.comb += [
            *shell.ports(self),
            shell.refuse.eq(~self._legal(shell.waiting)), shell.finish.eq(running & retire.ended & results.empty),
            shell.stall_i.eq(intake.stall | issue.stall | (loader.ready & ~b.valid)), shell.stall_o.eq(results.stall),
            issue.stop.eq(shell.finish),
            *(part.job.eq(job) for part in (sequence, intake, loader, issue, retire, results)),
            *(part.start.eq(shell.start) for part in (sequence, intake, loader, issue, retire, results)),
            *self._stream(periods.i, sequence.o), *self._stream(intake.i, periods.o), *self._stream(issue.i, intake.o),
            intake.valid.eq(a.valid), a.ready.eq(intake.ready), intake.data.eq(a.payload.data),
            loader.valid.eq(b.valid), issue.b_valid.eq(b.valid), b.ready.eq(Mux(job.ws, loader.ready, issue.b_ready)),
            *self._stream(y, results.o_y),
        ]
        self._order(m, job, issue, loader, retire, results)
        self._operands(m, job, b.payload, intake, loader, issue, array)
        m.d.sync += array.drain.eq(retire.order)
        m.d.comb += [
            results.order.eq(retire.order), results.result.eq(retire.result), results.valid.eq(array.valid),
            results.beat.eq(array.beat), array.sums.eq(results.sums),
        ]
        return m

    def _order(self, m, job, issue, loader, retire, results):
        """Who waits for whom."""
        tiles, begins, first = Signal(range(3)), Signal(), Signal()
        m.d.comb += [
            begins.eq(issue.pulse & issue.computes & issue.next.opens & ~job.ws), issue.free.eq(tiles != 2),
            issue.loaded.eq(loader.loaded), issue.roomy.eq(results.roomy),
            loader.pulse.eq(issue.pulse & issue.computes & job.ws), loader.opens.eq(issue.next.opens),
            first.eq(issue.command.above), retire.pulse.eq(issue.pulse), retire.computes.eq(issue.computes),
            retire.next.eq(issue.next), retire.go.eq(issue.command.go), retire.first.eq(first),
            retire.slot.eq(issue.command.slot), retire.closing.eq(issue.closing), retire.now.eq(issue.now),
            retire.room.eq(results.room),
            results.read.eq(issue.command.go & first), results.again.eq(issue.now.opens & (issue.command.slot == 0)),
        ]
        m.d.sync += tiles.eq(tiles + begins - retire.freed)

    def _operands(self, m, job, b, intake, loader, issue, array):
        """Weights with their steps, output-stationary, or to their places."""
        layouts = Signal(len(LAYOUTS))
        sizes = [1 << LAYOUTS.index(group) for _, group in PATTERNS]
        with m.Switch(job.pattern):
            for number, size in enumerate(sizes):
                with m.Case(number):
                    m.d.comb += layouts.eq(Mux(job.ws, size, 1 << LAYOUTS.index(16)))
        m.d.comb += [
            issue.values.eq(sum(Mux(chosen, size, 0) for chosen, size in zip(layouts, LAYOUTS, strict=True))),
            array.layout.eq(layouts), array.ws.eq(job.ws), array.words.eq(intake.words), array.token.eq(issue.token),
        ]
        weights = array.weights
        m.d.sync += [
            array.command.eq(issue.command), weights.values.eq(b.data), weights.indices.eq(b.index),
            weights.load.eq(loader.took), weights.row.eq(loader.row), weights.entry.eq(loader.entry),
        ]

    def _legal(self, job):
        build = self.build

        def within(value, most):
            return (value != 0) & (value <= most)

        return (within(job.m, build.max_m) & within(job.n, build.max_n) & within(job.k, build.max_k)
                & within(job.k_tiles, build.max_k_tiles) & (job.pattern < len(PATTERNS)))

    @staticmethod
    def _stream(sink, source):
        return [sink.payload.eq(source.payload), sink.valid.eq(source.valid), source.ready.eq(sink.ready)]
