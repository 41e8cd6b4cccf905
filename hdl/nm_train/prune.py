"""The N:M pruner: job shell, intake, a lane for each column, results."""

from amaranth.hdl import Module
from amaranth.lib.wiring import Component

from ...models.spec.nm_pattern import PATTERNS
from ...models.spec.nm_train_job import MIN_SLOTS
from ..common.job_shell import JobShell
from ..common.ports import EngineSignature
from .prune_intake import PruneIntake
from .prune_lane import PruneLane
from .prune_results import PruneResults

__all__ = ["NmPrune"]


class NmPrune(Component):
    """Keeps the largest weights of each group and rounds them to bfloat16.

    *Behaviour*: see :class:`sparseloom.models.spec.nm_prune.NmPrune` (jobs, streams, orders). *Members*:
    ``EngineSignature(build)``.
    *Latency*: ``build.cycles(job)``, exactly, if nothing refuses. *Handshake*: jobs queue two deep; weights and results may stall
    in any pattern. *Limits*: shapes up to the build's maxima; a job outside them completes with status ILLEGAL and consumes
    nothing; one that delivers a NaN completes with status OVERFLOW.
    """

    def __init__(self, build):
        self.build = build
        super().__init__(EngineSignature(build))

    def elaborate(self, platform):
        m = Module()
        build = self.build
        m.submodules.shell = shell = JobShell(build)
        m.submodules.intake = intake = PruneIntake(build)
        m.submodules.results = results = PruneResults(build)
        m.d.comb += [
            *shell.ports(self),
            shell.refuse.eq(~self._legal(shell.waiting)), shell.finish.eq(results.finish), shell.overflow.eq(results.nan),
            shell.stall_i.eq(intake.stall), shell.stall_o.eq(results.stall),
            *(part.job.eq(shell.current) for part in (intake, results)),
            *(part.start.eq(shell.start) for part in (intake, results)),
            intake.i_w.payload.eq(self.i_w.payload), intake.i_w.valid.eq(self.i_w.valid), self.i_w.ready.eq(intake.i_w.ready),
            intake.room.eq(results.room), results.took.eq(intake.took), results.put.eq(intake.leaves),
            self.o_y.payload.eq(results.o_y.payload), self.o_y.valid.eq(results.o_y.valid), results.o_y.ready.eq(self.o_y.ready),
        ]
        for number in range(build.lanes):
            m.submodules[f"lane_{number}"] = lane = PruneLane(build)
            m.d.comb += [
                lane.control.eq(intake.control), results.value[number].eq(lane.value), results.index[number].eq(lane.index),
                *(lane.words[at].eq(self.i_w.payload.data[number * build.values + at]) for at in range(build.values)),
            ]
        return m

    def _legal(self, job):
        build = self.build

        def within(value, most):
            return (value != 0) & (value <= most)

        return (within(job.tiles, build.max_tiles) & within(job.rest, build.tile_columns) & within(job.groups, build.max_k)
                & (job.last_slots >= MIN_SLOTS) & (job.last_slots <= build.slots) & (job.pattern < len(PATTERNS)))
