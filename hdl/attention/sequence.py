"""The order of the steps: rounds, in each the key-times, in each the chunks of a key."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.attention_cycles import PHASES
from ..common.countdown import Countdown
from ..common.ports import layout
from .plan import PLACE, round_layout

__all__ = ["Sequence", "step_layout"]


def step_layout(build):
    """What a step is: ``chunk`` of its key, the first (``opens``) or last (``closes``); its key-time: ``first``, ``last`` of a
    round; ``lists``: which phases have a key; ``load``, ``leave``: queries that come and go in this round; ``ahead``, ``inside``:
    how far query 0 sees beyond this key, and how far it is from losing sight of it."""
    return data.StructLayout({
        "chunk": range(build.max_chunks), "opens": 1, "closes": 1, "first": 1, "last": 1, "lists": PHASES[build.score],
        "load": range(build.p + 1), "leave": range(build.p + 1), "ahead": PLACE, "inside": PLACE,
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
    """Takes a step when all that it needs is there: a beat of keys, one of values, a word of queries, room for its result.

    *Members*: ``job`` with ``start``; ``rounds`` of the plan; ``k_valid``, ``k_ready``, ``v_valid``, ``v_ready`` the operands'
    handshakes; ``q_addr``, ``q_valid``, ``q_ready`` the buffer's; ``credit``: there is room for a result; ``issued``: this step
    takes it; ``step`` with ``what``; ``stall_i``, ``stall_x``: an operand or the buffer keeps it waiting.
    *Timing*: a step a cycle, without a pause between key-times, rounds and heads.
    """

    def __init__(self, build):
        self.build = build
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1), "rounds": In(stream.Signature(round_layout(build))),
            "k_valid": In(1), "k_ready": Out(1), "v_valid": In(1), "v_ready": Out(1),
            "q_addr": Out(build.buffers[0].addr_width), "q_valid": Out(1), "q_ready": In(1), "credit": In(1), "issued": Out(1),
            "step": Out(1), "what": Out(step_layout(build)), "stall_i": Out(1), "stall_x": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, job, what = self.build, self.job, self.what
        p, phases = build.p, PHASES[build.score]
        have, closes, more, draining, chunk = Signal(), Signal(), Signal(), Signal(), Signal(range(build.max_chunks))
        lists = [_List(build.max_keys, f"list_{phase}") for phase in range(phases)]
        pad, load, leaving, drain = (_List(p, name) for name in ("pad", "load", "leaving", "drain"))
        chunks = Countdown(build.max_chunks, "chunk")
        reserve, possible, key_end, round_end, over, take = (
            Signal(name=name) for name in ("reserve", "possible", "key_end", "round_end", "over", "take"))
        keys, values = lists[0], lists[-1]
        k_there, v_there = ~keys.some | self.k_valid, ~values.some | self.v_valid
        q_there = ~load.some | self.q_ready
        m.d.comb += [
            what.chunk.eq(chunk), what.closes.eq(chunks.last), what.lists.eq(Cat(part.some for part in lists)),
            what.last.eq(~draining & ~more & pad.last & Cat(part.last for part in lists).all()),
            reserve.eq((what.last & (what.leave != 0)) | leaving.some), possible.eq(have & (self.credit | ~reserve)),
            self.q_valid.eq(possible & load.some & k_there & v_there),
            self.k_ready.eq(possible & keys.some & v_there & q_there),
            self.v_ready.eq(possible & values.some & k_there & q_there),
            self.step.eq(possible & k_there & v_there & q_there), self.issued.eq(self.step & reserve),
            self.stall_i.eq(have & ~(k_there & v_there)), self.stall_x.eq(self.q_valid & ~self.q_ready),
            key_end.eq(self.step & chunks.last), round_end.eq(key_end & what.last),
            over.eq((round_end & ~(closes & (what.leave > 1))) | (key_end & draining & drain.last)),
            take.eq(~have | over | (key_end & keys.last & more)), self.rounds.ready.eq(take),
        ]
        # Queries come and go one a key-time: no round is shorter than its queries are many.
        least = Signal(range(p + 1), reset_less=True)
        m.d.sync += least.eq(Mux(job.queries < p, job.queries, p))
        with m.If(self.step):
            m.d.sync += [chunk.eq(chunk + 1), what.opens.eq(0), *chunks.advance()]
        with m.If(key_end):
            m.d.sync += [chunk.eq(0), what.opens.eq(1), *chunks.load(job.chunks), what.first.eq(0),
                         what.ahead.eq(what.ahead - 1), what.inside.eq(what.inside + 1)]
            for part in (*lists, pad, load, leaving, drain):
                part.advance(m)
        with m.If(round_end):
            m.d.sync += [*leaving.load((what.leave - 1)[: len(leaving.left)]), draining.eq(closes),
                         *drain.load((what.leave - 1)[: len(drain.left)])]
            with m.If(what.leave == 0):
                m.d.sync += leaving.load(0)
        with m.If(self.q_valid & self.q_ready):
            m.d.sync += self.q_addr.eq(self.q_addr + 1)
        with m.If(take):
            following = self.rounds.payload
            m.d.sync += [have.eq(self.rounds.valid), more.eq(following.more)]
            with m.If(following.opens):
                m.d.sync += [
                    draining.eq(0), what.first.eq(1), closes.eq(following.closes), what.load.eq(following.load),
                    what.leave.eq(following.leave), what.ahead.eq(following.ahead), what.inside.eq(following.inside),
                    *pad.load(least), *load.load(following.load),
                ]
            for phase, part in enumerate(lists):
                m.d.sync += part.load(following.lists[phase])
        with m.If(self.start):
            m.d.sync += [self.q_addr.eq(0), chunk.eq(0), what.opens.eq(1), *chunks.load(job.chunks), have.eq(0)]
        return m
