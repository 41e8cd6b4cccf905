"""From the stream of weights to beats of groups: counts them, keeps them apart, tells the lanes what comes when."""

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.nm_pattern import MAX_GROUP, MAX_NNZ, PATTERNS
from ..common.countdown import Countdown
from ..common.delay import delay
from ..common.ports import layout
from .prune_lane import control_layout
from .prune_walk import PruneWalk

__all__ = ["PruneIntake", "of_pattern"]


def of_pattern(job, value):
    """``value(nnz, group)`` of the job's pattern; of no pattern, that of the last."""
    values = [value(nnz, group) for nnz, group in PATTERNS]
    most = max(values).bit_length()
    return Array([Const(one, most) for one in (*values, *[values[-1]] * (8 - len(values)))])[job.pattern]


class PruneIntake(Component):
    """Takes the beats of a job, the last one of a group only while there is ``room``, and not sooner than results can leave.

    *Members*: ``i_w``; ``job`` with ``start``; ``room`` in, a register; ``took``: a group's last beat was taken; ``control`` for
    the lanes, which take the beat's words in the same cycle; ``leaves``: what a lane gives in this cycle is a result; ``stall``.
    """

    def __init__(self, build):
        self.build = build
        operand, = build.inputs
        super().__init__({
            "i_w": In(stream.Signature(layout(operand.record))), "job": In(layout(build.job_record)), "start": In(1),
            "room": In(1), "took": Out(1), "control": Out(control_layout()), "leaves": Out(1), "stall": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, job, source, control = self.build, self.job, self.i_w, self.control
        m.submodules.walk = walk = PruneWalk(build)
        beats, pause = Countdown(-(-MAX_GROUP // build.values), "beat"), Countdown(MAX_NNZ, "pause")
        running, waiting, beat = Signal(), Signal(), Signal.like(control.beat)
        count = of_pattern(job, lambda nnz, group: -(-group // build.values))
        # A group whose results are more than its beats is waited for: so many cycles.
        rest = of_pattern(job, lambda nnz, group: max(0, nnz - -(-group // build.values)))
        took = source.ready & source.valid
        m.d.comb += [
            source.ready.eq(running & ~waiting & (self.room | ~beats.last)), self.stall.eq(source.ready & ~source.valid),
            self.took.eq(took & beats.last), walk.job.eq(job), walk.start.eq(self.start), walk.step.eq(self.took),
        ]
        with m.If(took):
            m.d.sync += [*beats.advance(), beat.eq(beat + 1)]
            with m.If(beats.last):
                m.d.sync += [*beats.load(count), beat.eq(0), running.eq(~walk.last), waiting.eq(rest != 0), *pause.load(rest)]
        with m.If(waiting):
            m.d.sync += [*pause.advance(), waiting.eq(~pause.last)]
        with m.If(self.start):
            m.d.sync += [running.eq(1), waiting.eq(0), *beats.load(count), beat.eq(0)]
        self._tell(m, took, beat)
        return m

    def _tell(self, m, took, beat):
        """Each part of ``control`` when it is due."""
        build, job, control = self.build, self.job, self.control
        sorted_at = 1 + build.levels
        full_at = sorted_at + build.listed
        full = delay(m, self.took, full_at, "full", reset_less=False)
        turn, kept = Signal(MAX_NNZ), Signal(MAX_NNZ, reset_less=True)
        m.d.sync += [
            kept.eq(of_pattern(job, lambda nnz, group: (1 << nnz) - 1)), turn.eq(Mux(full, 1, (turn << 1)[:MAX_NNZ] & kept)),
            *(control.over[at].eq(of_pattern(job, lambda nnz, group, most=most: group > most))
              for at, most in enumerate((1, 4, 8))),
        ]
        m.d.comb += [
            control.put.eq(delay(m, took, sorted_at, "put", reset_less=False)),
            control.beat.eq(delay(m, beat, sorted_at, "beat_late")), control.full.eq(full), control.turn.eq(turn),
            control.kept.eq(kept), self.leaves.eq(delay(m, turn.any(), 2, "leaves", reset_less=False)),
        ]
