"""The attention engine: job shell, plan, sequence, slots of score, weights and values, results."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component

from ...models.spec.attention import Attention as AttentionSpec
from ...models.spec.attention_cycles import score_latency, value_latency
from ...models.spec.attention_job import MAX_FRACTION, MAX_MULTIPLIER, MIN_SHIFT
from ..common.delay import delay
from ..common.job_shell import JobShell
from ..common.ports import EngineSignature, layout
from ..common.stream_register import StreamRegister
from .behind import Behind
from .divide import DivideFull
from .issue import Issue
from .online import Online
from .plan import Plan, round_layout
from .results import Results
from .score import Score
from .sequence import Sequence
from .shiftmax import Shiftmax
from .sigmoid import SigmoidWeights
from .two_pass import TwoPass
from .values import Values

__all__ = ["Attention"]

_WEIGHTS = {"online": Online, "two_pass": TwoPass, "sigmoid": SigmoidWeights, "shiftmax": Shiftmax}


class Attention(Component):
    """Streaming attention of several queries at a time.

    *Behaviour*: see :class:`sparseloom.models.spec.attention.Attention` (jobs, streams, orders). *Members*:
    ``EngineSignature(build)``.
    *Latency*: ``build.cycles(job)``, exactly, if nothing refuses. *Handshake*: jobs queue two deep; keys, values, reads and
    results may stall in any pattern; a beat of keys is taken in the same cycle as the beat of values and the word of queries that
    go with it. *Limits*: shapes up to the build's maxima; a job outside them completes with status ILLEGAL and consumes nothing;
    a list of blocks that names one beyond the keys ends in OVERFLOW.
    """

    def __init__(self, build: AttentionSpec):
        self.build = build
        super().__init__(EngineSignature(build))

    def elaborate(self, platform):
        m = Module()
        build = self.build
        m.submodules.shell = shell = JobShell(build)
        m.submodules.plan = plan = Plan(build)
        m.submodules.planned = planned = StreamRegister(round_layout(build))
        m.submodules.sequence = sequence = Sequence(build)
        m.submodules.issue = issue = Issue(build)
        m.submodules.results = results = Results(build)
        job = shell.current
        m.d.comb += [
            *shell.ports(self),
            shell.refuse.eq(~self._legal(shell.waiting)), shell.finish.eq(results.finish),
            shell.stall_i.eq(issue.stall_i), shell.stall_x.eq(issue.stall_x | (plan.valid & ~plan.ready)),
            shell.stall_o.eq(results.stall),
            *(part.job.eq(job) for part in (plan, sequence, results)),
            *(part.start.eq(shell.start) for part in (plan, sequence, issue, results)),
            planned.i.payload.eq(plan.rounds.payload), planned.i.valid.eq(plan.rounds.valid),
            plan.rounds.ready.eq(planned.i.ready),
            sequence.rounds.payload.eq(planned.o.payload), sequence.rounds.valid.eq(planned.o.valid),
            planned.o.ready.eq(sequence.rounds.ready),
            issue.steps.payload.eq(sequence.steps.payload), issue.steps.valid.eq(sequence.steps.valid),
            sequence.steps.ready.eq(issue.steps.ready),
            issue.k_valid.eq(self.i_k.valid), self.i_k.ready.eq(issue.k_ready),
            issue.v_valid.eq(self.i_v.valid), self.i_v.ready.eq(issue.v_ready),
            self.x_q.addr.eq(issue.q_addr), self.x_q.valid.eq(issue.q_valid), issue.q_ready.eq(self.x_q.ready),
            issue.credit.eq(results.credit), results.issued.eq(issue.issued),
            self.o_y.payload.eq(results.o_y.payload), self.o_y.valid.eq(results.o_y.valid), results.o_y.ready.eq(self.o_y.ready),
        ]
        if build.block_sparse:
            listed = self.x_blocks
            m.d.comb += [listed.addr.eq(plan.addr), listed.valid.eq(plan.valid), plan.ready.eq(listed.ready),
                         plan.data.eq(listed.data), shell.overflow.eq(plan.bad)]
        clamped = self._slots(m, job, issue, results)
        with m.If(shell.start):
            m.d.sync += shell.saturated.eq(0)
        with m.Else():
            m.d.sync += shell.saturated.eq(shell.saturated + clamped + results.clamped)
        return m

    def _legal(self, job):
        build = self.build

        def within(value, most):
            return (value != 0) & (value <= most)

        legal = (within(job.queries, build.max_queries) & within(job.keys, build.max_keys) & within(job.chunks, build.max_chunks)
                 & within(job.heads, build.max_heads) & (job.window <= build.max_keys) & (job.causal | (job.window == 0))
                 & (job.shift >= MIN_SHIFT))
        if build.score == "shiftmax":
            return (legal & (job.multiplier <= MAX_MULTIPLIER) & (job.out_multiplier <= MAX_MULTIPLIER) & (job.unit != 0)
                    & (job.out_shift >= MIN_SHIFT))
        if build.block_sparse:
            legal &= ~job.blocks | (within(job.listed, build.max_listed) & ~job.causal)
        return legal & (job.fraction <= MAX_FRACTION)

    def _slots(self, m, job, issue, results):
        """The slots, each a key-time behind the one before; returns how many scores were clamped, for the count."""
        build, latency = self.build, self.build.read_latency
        what, beat = issue.what, layout(build.beat_record)
        # All that follows moves with the steps, ``latency`` cycles behind: then the queries are there.
        move = delay(m, issue.step, latency, "move", reset_less=False)
        chunk, opens, closes = (delay(m, what[name], latency, name) for name in ("chunk", "opens", "closes"))
        control = Cat(delay(m, Cat(what.first, what.last, what.lists, what.load, what.leave, what.mask), latency, "control"),
                      delay(m, self.i_v.payload.scale, latency, "v_scale"))
        shape = data.StructLayout({"first": 1, "last": 1, "lists": len(what.lists), "load": len(what.load),
                                   "leave": len(what.leave), "mask": build.p, "v_scale": 16})
        key = data.View(beat, delay(m, self.i_k.payload.as_value(), latency, "key"))
        key_end = Signal()
        m.d.comb += key_end.eq(move & closes)
        event = delay(m, key_end, score_latency(build) - latency, "event", reset_less=False)
        value_event, value_chunk, beats = self._value_beats(m, job, issue.step, event)
        m.d.comb += [results.key.eq(delay(m, event, value_latency(build) - score_latency(build), "weighed", reset_less=False)),
                     results.put.eq(delay(m, value_event, Values.LATENCY, "summed", reset_less=False))]
        counted, ways = [], []
        for slot in range(build.p):
            now = data.View(shape, control)
            score, weights, values = Score(build), _WEIGHTS[build.score](build), Values(build)
            for name, part in (("score", score), ("weights", weights), ("values", values)):
                m.submodules[f"{name}_{slot}"] = part
            if build.score == "shiftmax":
                m.d.comb += weights.leaves.eq(delay(m, now.leave > slot, score.latency, f"leaving_{slot}"))
            ways.append(weights)
            wait = score.latency
            m.d.comb += [
                score.move.eq(move), score.chunk.eq(chunk), score.opens.eq(opens), score.load.eq(now.first & (now.load > slot)),
                score.word.eq(self.x_q.data), score.key.eq(key), score.job.eq(job),
                weights.valid.eq(event), weights.t.eq(score.t), weights.first.eq(delay(m, now.first, wait, f"first_{slot}")),
                weights.lists.eq(delay(m, now.lists, wait, f"lists_{slot}")),
                weights.seen.eq(delay(m, now.lists[0] & now.mask[slot] & (now.load > slot), wait, f"seen_{slot}")),
                weights.v_scale.eq(delay(m, now.v_scale, wait, f"v_scale_{slot}")), weights.job.eq(job),
                values.job.eq(job), values.move.eq(value_event), values.chunk.eq(value_chunk), values.v.eq(beats),
                values.weight.eq(weights.weight), values.empties.eq(weights.empties), values.raised.eq(weights.raised),
                results.acc[slot].eq(values.acc), results.totals[slot].eq(weights.total),
            ]
            leaves = delay(m, now.last & (now.leave > slot), wait + weights.latency - 1, f"leaves_{slot}")
            done = Signal(name=f"done_{slot}")
            with m.If(delay(m, event, weights.latency - 1, f"weighing_{slot}", reset_less=False)):
                m.d.sync += done.eq(leaves)
            m.d.comb += results.done[slot].eq(done)
            counted.append(event & weights.seen & score.clamped)
            if slot + 1 < build.p:
                # The next slot, a key-time later. Reset: what it holds when a job begins is taken for the key-time before.
                later = Signal(len(control), name=f"control_{slot + 1}")
                with m.If(key_end):
                    m.d.sync += later.eq(control)
                control = later
                keys, passing = Behind(beat.size, build.max_chunks), Behind(len(beats), build.max_chunks)
                m.submodules[f"keys_{slot + 1}"], m.submodules[f"passing_{slot + 1}"] = keys, passing
                m.d.comb += [keys.move.eq(move), keys.chunk.eq(chunk), keys.i.eq(key.as_value()),
                             passing.move.eq(value_event), passing.chunk.eq(value_chunk), passing.i.eq(beats)]
                key, beats = data.View(beat, keys.o), passing.o
        if build.score == "shiftmax":
            self._divide(m, ways)
        count = Signal(range(build.p + 1))
        m.d.sync += count.eq(sum(counted))
        return count

    def _divide(self, m, ways):
        """One division a query: no two slots that have one begin with its values in the same key-time."""
        m.submodules.divide = divide = DivideFull()
        divisor = Signal.like(divide.i, reset_less=True)
        m.d.sync += divisor.eq(reduce(or_, (weights.divisor for weights in ways)))
        m.d.comb += [divide.i.eq(divisor), *(weights.inverse.eq(divide.o) for weights in ways)]

    def _value_beats(self, m, job, step, event):
        """(move, chunk, beat): values wait in a ring until the weight of their key is there, then pass chunk by chunk."""
        build = self.build
        depth = 1 << (value_latency(build) + build.max_chunks).bit_length()
        m.submodules.ring = ring = Memory(shape=build.bits * build.d_lanes, depth=depth, init=[])
        write, read = ring.write_port(), ring.read_port(domain="comb")
        put, get = Signal(range(depth)), Signal(range(depth))
        before = delay(m, event, value_latency(build) - score_latency(build) - 2, "values", reset_less=False)
        left, chunk, move = Signal(range(build.max_chunks + 1)), Signal(range(build.max_chunks)), Signal()
        m.d.comb += [
            write.addr.eq(put), write.data.eq(self.i_v.payload.data.as_value()), write.en.eq(step), read.addr.eq(get),
        ]
        with m.If(step):
            m.d.sync += put.eq(put + 1)
        with m.If(move):
            m.d.sync += [get.eq(get + 1), chunk.eq(chunk + 1), left.eq(left - 1), move.eq(left != 1)]
        with m.If(before):
            m.d.sync += [move.eq(1), left.eq(job.chunks), chunk.eq(0)]
        return move, chunk, read.data
