"""The vector engine: job shell, intake, function, rescale, results."""

from amaranth.hdl import Module
from amaranth.lib.wiring import Component

from ...models.spec.vector_cycles import RESCALE_LATENCY
from ...models.spec.vector_job import ELEMENTWISE, MAX_UNIT, NORMS
from ..common.delay import delay
from ..common.job_shell import JobShell
from ..common.ports import EngineSignature
from .elementwise import Elementwise
from .ilayernorm import Ilayernorm
from .intake import Intake
from .norm import Norm
from .rescale import Rescale
from .results import Results
from .shiftgelu import Shiftgelu
from .shiftmax import Shiftmax

__all__ = ["Vector"]


def _stage(build):
    if build.function in ELEMENTWISE:
        return Elementwise(build)
    if build.function in NORMS:
        return Norm(build)
    return {"shiftmax": Shiftmax, "shiftgelu": Shiftgelu, "ilayernorm": Ilayernorm}[build.function](build)


class Vector(Component):
    """Norms, activations and I-ViT's operators over rows.

    *Behaviour*: see :class:`sparseloom.models.spec.vector.Vector` (jobs, streams, orders). *Members*: ``EngineSignature(build)``.
    *Latency*: ``build.cycles(job)``, exactly, if nothing refuses. *Handshake*: jobs queue two deep; operands, reads and results
    may stall in any pattern. *Limits*: shapes up to the build's maxima; a job outside them completes with status ILLEGAL and
    consumes nothing.
    """

    def __init__(self, build):
        self.build = build
        super().__init__(EngineSignature(build))

    def elaborate(self, platform):
        m = Module()
        build = self.build
        m.submodules.shell = shell = JobShell(build)
        m.submodules.intake = intake = Intake(build)
        m.submodules.stage = stage = _stage(build)
        m.submodules.results = results = Results(build)
        job = shell.current
        m.d.comb += [
            *shell.ports(self),
            shell.refuse.eq(~self._legal(shell.waiting)), shell.finish.eq(results.finish), shell.saturated.eq(results.saturated),
            shell.stall_i.eq(intake.stall), shell.stall_x.eq(stage.stall), shell.stall_o.eq(results.stall),
            *(part.job.eq(job) for part in (intake, stage, results)),
            *(part.start.eq(shell.start) for part in (intake, stage, results)),
            intake.i_x.payload.eq(self.i_x.payload), intake.i_x.valid.eq(self.i_x.valid), self.i_x.ready.eq(intake.i_x.ready),
            intake.room.eq(stage.room),
            *(getattr(stage, name).eq(getattr(intake, name))
              for name in ("x", "put", "first", "last", "inside", "took", "took_last")),
            stage.credit.eq(results.credit), results.issued.eq(stage.issued), results.early.eq(stage.early),
            self.o_y.payload.eq(results.o_y.payload), self.o_y.valid.eq(results.o_y.valid), results.o_y.ready.eq(self.o_y.ready),
        ]
        for lane in range(build.lanes):
            m.submodules[f"rescale_{lane}"] = rescale = Rescale(build.value_width, build.narrow)
            m.d.comb += [rescale.value.eq(stage.y[lane]), rescale.multiplier.eq(job.out_multiplier),
                         rescale.shift.eq(job.out_shift), rescale.narrow.eq(job.narrow), results.y[lane].eq(rescale.y),
                         results.clamped[lane].eq(rescale.clamped)]
        m.d.comb += [results.put.eq(delay(m, stage.y_put, RESCALE_LATENCY, "put", reset_less=False)),
                     results.last.eq(delay(m, stage.y_last, RESCALE_LATENCY, "last"))]
        for buffer in build.buffers:
            own, port = getattr(stage, f"x_{buffer.name}"), getattr(self, f"x_{buffer.name}")
            m.d.comb += [port.addr.eq(own.addr), port.valid.eq(own.valid), own.ready.eq(port.ready), own.data.eq(port.data)]
        return m

    def _legal(self, job):
        build = self.build

        def within(value, most):
            return (value != 0) & (value <= most)

        legal = within(job.m, build.max_m) & within(job.beats, build.max_beats) & within(job.tail, build.lanes)
        spare = build.max_beats * build.lanes - build.max_k
        if spare:
            legal &= (job.beats != build.max_beats) | (job.tail <= build.lanes - spare)
        if not build.narrow:
            legal &= ~job.narrow
        if build.function in MAX_UNIT:
            legal &= within(job.unit, MAX_UNIT[build.function])
        return legal
