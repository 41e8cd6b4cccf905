"""The order of the steps: rounds, in each the key-times, in each the chunks of a key."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.attention_cycles import PHASES
from ..common.countdown import Countdown
from ..common.delay import delay
from ..common.fifo import Fifo
from ..common.ports import layout
from .plan import PLACE, round_layout

__all__ = ["Sequence", "step_layout"]

DEPTH = 16
_AHEAD = 12
"""Steps made ahead; the others have room for what is on its way."""


def step_layout(build):
    """What a step is: ``chunk`` of its key, the first (``opens``) or last (``closes``); its key-time: ``first``, ``last`` of a
    round; ``lists``: which phases have a key; ``load``, ``leave``: queries that come and go in this round; ``mask``: slots whose
    query sees the key; ``loads``: a word of queries comes with it; ``reserves``: it makes a result."""
    return data.StructLayout({
        "chunk": range(build.max_chunks), "opens": 1, "closes": 1, "first": 1, "last": 1, "lists": PHASES[build.score],
        "load": range(build.p + 1), "leave": range(build.p + 1), "mask": build.p, "loads": 1, "reserves": 1,
    })


class _List:
    """A list that is worked through: ``some`` is left, this one is the ``last`` or none is left; both are registers."""

    def __init__(self, most, name):
        self.left = Signal(range(most + 1), name=f"{name}_left")
        self.some, self.last = Signal(name=f"{name}_some"), Signal(name=f"{name}_last", init=1)

    def load(self, count):
        return [self.left.eq(count), self.some.eq(count != 0), self.last.eq(count <= 1)]

    def advance(self, m):
        with m.If(self.some):
            m.d.sync += [self.left.eq(self.left - 1), self.some.eq(~self.last), self.last.eq(self.left <= 2)]


class Sequence(Component):
    """Steps of all rounds in order, made ahead of whatever they need.

    *Members*: ``job`` with ``start``; ``rounds`` of the plan; ``steps`` stream of :func:`step_layout`.
    *Latency*: a step comes two cycles after its round; one a cycle, without a pause between key-times, rounds and heads.
    """

    def __init__(self, build):
        self.build = build
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1), "rounds": In(stream.Signature(round_layout(build))),
            "steps": Out(stream.Signature(step_layout(build))),
        })

    def elaborate(self, platform):
        m = Module()
        build, job = self.build, self.job
        p, phases, shape = build.p, PHASES[build.score], step_layout(build)
        m.submodules.queue = queue = Fifo(shape, DEPTH)
        what, made, room = Signal(shape), Signal(shape, reset_less=True), Signal()
        have, closes, more, draining, chunk = Signal(), Signal(), Signal(), Signal(), Signal(range(build.max_chunks))
        ahead, inside = Signal(PLACE, reset_less=True), Signal(PLACE, reset_less=True)
        opens, first, come, go = Signal(), Signal(), Signal(range(p + 1)), Signal(range(p + 1))
        lists = [_List(build.max_keys, f"list_{phase}") for phase in range(phases)]
        pad, load, leaving, drain = (_List(p, name) for name in ("pad", "load", "leaving", "drain"))
        chunks = Countdown(build.max_chunks, "chunk")
        step, key_end, round_end, over, take = (Signal(name=name) for name in ("step", "key_end", "round_end", "over", "take"))
        m.d.comb += [
            step.eq(have & room), what.chunk.eq(chunk), what.opens.eq(opens), what.closes.eq(chunks.last), what.first.eq(first),
            what.last.eq(~draining & ~more & pad.last & Cat(part.last for part in lists).all()),
            what.lists.eq(Cat(part.some for part in lists)), what.load.eq(come), what.leave.eq(go), what.loads.eq(load.some),
            what.reserves.eq((what.last & (go != 0)) | leaving.some),
            *(what.mask[slot].eq(~job.causal | ((ahead >= -slot) & ((job.window == 0) | (inside >= slot)))) for slot in range(p)),
            key_end.eq(step & chunks.last), round_end.eq(key_end & what.last),
            over.eq((round_end & ~(closes & (go > 1))) | (key_end & draining & drain.last)),
            take.eq(~have | over | (key_end & lists[0].last & more)), self.rounds.ready.eq(take),
        ]
        m.d.sync += [room.eq(queue.level < _AHEAD), made.eq(what)]
        m.d.comb += [queue.i.payload.eq(made), queue.i.valid.eq(delay(m, step, 1, "made", reset_less=False)),
                     self.steps.payload.eq(queue.o.payload), self.steps.valid.eq(queue.o.valid),
                     queue.o.ready.eq(self.steps.ready)]
        # Queries come and go one a key-time: no round is shorter than its queries are many.
        least = Signal(range(p + 1), reset_less=True)
        m.d.sync += least.eq(Mux(job.queries < p, job.queries, p))
        with m.If(step):
            m.d.sync += [chunk.eq(chunk + 1), opens.eq(0), *chunks.advance()]
        with m.If(key_end):
            m.d.sync += [chunk.eq(0), opens.eq(1), *chunks.load(job.chunks), first.eq(0), ahead.eq(ahead - 1),
                         inside.eq(inside + 1)]
            for part in (*lists, pad, load, leaving, drain):
                part.advance(m)
        with m.If(round_end):
            others = Mux(go == 0, 0, go - 1)[: len(drain.left)]
            m.d.sync += [*leaving.load(others), draining.eq(closes), *drain.load(others)]
        with m.If(take):
            following = self.rounds.payload
            m.d.sync += [have.eq(self.rounds.valid), more.eq(following.more)]
            with m.If(following.opens):
                m.d.sync += [
                    draining.eq(0), first.eq(1), closes.eq(following.closes), come.eq(following.load), go.eq(following.leave),
                    ahead.eq(following.ahead), inside.eq(following.inside), *pad.load(least), *load.load(following.load),
                ]
            for phase, part in enumerate(lists):
                m.d.sync += part.load(following.lists[phase])
        with m.If(self.start):
            m.d.sync += [chunk.eq(0), opens.eq(1), *chunks.load(job.chunks), have.eq(0)]
        return m
