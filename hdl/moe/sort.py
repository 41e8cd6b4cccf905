"""The queues of the gate: pairs sorted by expert, the list of the experts that have some."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.enum import Enum
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..common.countdown import Countdown
from ..common.delay import delay
from ..common.fifo import Fifo
from ..common.ports import layout
from .score import pair_layout

__all__ = ["Sort"]

_QUEUE = 8
"""Pairs on their way out; a pair is read two cycles before it is there."""


class Phase(Enum):
    GATHER = 0
    LIST = 1
    FILL = 2
    SCATTER = 3
    EMIT = 4


class Sort(Component):
    """A counting sort: pairs are stored and counted as they come (GATHER); experts become places (LIST), the list is filled up
    with words of 0 (FILL); pairs move to their places (SCATTER) and leave (EMIT).

    *Members*: ``job`` with ``start``; ``pair``, ``score``, ``put`` in, a pair a cycle at most; ``o_pair``, ``o_expert``;
    ``pairs`` and ``used`` for the completion; ``finish``: all was taken, for one cycle; ``stall``: a result is refused.
    """

    def __init__(self, build):
        self.build = build
        records = {s.name: stream.Signature(layout(s.record)) for s in build.outputs}
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1), "pair": In(pair_layout(build)), "score": In(16), "put": In(1),
            "o_pair": Out(records["pair"]), "o_expert": Out(records["expert"]), "pairs": Out(16), "used": Out(7),
            "finish": Out(1), "stall": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, job = self.build, self.job
        phase = Signal(Phase)
        held = data.StructLayout({"pair": pair_layout(build), "score": 16})
        m.submodules.came = came = Memory(shape=held, depth=build.max_pairs, init=[])
        m.submodules.ordered = ordered = Memory(shape=held, depth=build.max_pairs, init=[])
        store, fetch, move, leave = came.write_port(), came.read_port(), ordered.write_port(), ordered.read_port()
        count, left = Signal(range(build.max_pairs + 1)), Signal(range(build.max_pairs + 1))
        expert = Countdown(build.max_experts, "sort_expert")
        place = Signal(range(build.max_experts))
        m.d.comb += [store.addr.eq(count), store.data.pair.eq(self.pair), store.data.score.eq(self.score), store.en.eq(self.put)]
        with m.If(self.put):
            m.d.sync += count.eq(count + 1)
            with m.If(self.pair.closing):
                m.d.sync += [phase.eq(Phase.LIST), *expert.load(job.experts), place.eq(0)]
        listing, filling = phase == Phase.LIST, phase == Phase.FILL
        with m.If(listing | filling):
            m.d.sync += [*expert.advance(), place.eq(place + 1)]
            with m.If(expert.last):
                m.d.sync += [phase.eq(Mux(listing, Phase.FILL, Phase.SCATTER)), *expert.load(job.experts), left.eq(count),
                             fetch.addr.eq(0)]
        scattering = phase == Phase.SCATTER
        with m.If(scattering):
            m.d.sync += [left.eq(left - 1), fetch.addr.eq(fetch.addr + 1)]
            with m.If(left == 1):
                m.d.sync += [phase.eq(Phase.EMIT), left.eq(count), leave.addr.eq(0)]
        self._places(m, listing, filling, place, delay(m, scattering, 1, "moving", reset_less=False), fetch, move)
        # The last pair reaches its place in the cycle in which EMIT begins.
        emitting = (phase == Phase.EMIT) & delay(m, phase == Phase.EMIT, 1, "emit", reset_less=False)
        pair_end = self._emit(m, emitting, left, leave)
        expert_end = self._experts_end(m)
        over = Signal()
        m.d.comb += self.stall.eq((self.o_pair.valid & ~self.o_pair.ready) | (self.o_expert.valid & ~self.o_expert.ready))
        m.d.sync += [self.finish.eq(pair_end & expert_end & ~over & ~self.start), over.eq(pair_end & expert_end)]
        with m.If(self.start):
            m.d.sync += [phase.eq(Phase.GATHER), count.eq(0), left.eq(0), over.eq(0)]
        return m

    def _places(self, m, listing, filling, place, moving, fetch, move):
        """Counts of the experts, then the place of each one's next pair; words of the list."""
        build, job = self.build, self.job
        m.submodules.counts = counts = Memory(shape=range(build.max_pairs + 1), depth=build.max_experts, init=[])
        write, read = counts.write_port(), counts.read_port(domain="comb")
        seen, running = Signal(build.max_experts), Signal(range(build.max_pairs + 1))
        gathering = ~listing & ~filling & ~moving
        own = fetch.data.pair.expert
        m.d.comb += read.addr.eq(Mux(moving, own, Mux(listing, place, self.pair.expert)))
        some = seen.bit_select(read.addr, 1)
        have = Mux(some, read.data, 0)
        m.d.comb += [
            write.addr.eq(read.addr), write.en.eq(moving | listing | (gathering & self.put)),
            write.data.eq(Mux(listing, running, have + 1)),
            move.addr.eq(read.data), move.data.eq(fetch.data), move.en.eq(moving),
        ]
        fresh = gathering & self.put & ~self.pair.null
        with m.If(gathering & self.put):
            m.d.sync += seen.bit_select(self.pair.expert, 1).eq(1)
        with m.If(fresh):
            m.d.sync += [self.pairs.eq(self.pairs + 1), self.used.eq(self.used + ~some)]
        with m.If(listing):
            m.d.sync += running.eq(running + have)
        with m.If(self.start):
            m.d.sync += [seen.eq(0), running.eq(0), self.pairs.eq(0), self.used.eq(0)]
        m.submodules.list = queue = Fifo(self.o_expert.payload.shape(), 1 << (build.max_experts - 1).bit_length())
        words, word = Signal(range(build.max_experts + 1)), queue.i.payload
        real = listing & some & (place < job.experts - job.nulls)
        blank = filling & (words < job.experts)
        m.d.comb += [
            queue.i.valid.eq(real | blank), word.expert.eq(Mux(real, place, 0)), word.count.eq(Mux(real, have, 0)),
            word.last.eq(real & (words + 1 == self.used)),
            self.o_expert.payload.eq(queue.o.payload), self.o_expert.valid.eq(queue.o.valid),
            queue.o.ready.eq(self.o_expert.ready),
        ]
        with m.If(queue.i.valid):
            m.d.sync += words.eq(words + 1)
        with m.If(self.start):
            m.d.sync += words.eq(0)

    def _emit(self, m, emitting, left, leave):
        """Reads the ordered pairs into a queue as far as it has room. High once all were taken."""
        payload = self.o_pair.payload
        m.submodules.out = queue = Fifo(leave.data.shape(), _QUEUE)
        free, taken = Signal(range(_QUEUE + 1), init=_QUEUE), self.o_pair.valid & self.o_pair.ready
        ask, waiting = Signal(), Signal(range(self.build.max_pairs + 1))
        m.d.comb += [
            ask.eq(emitting & (left != 0) & (free != 0)), queue.i.payload.eq(leave.data),
            queue.i.valid.eq(delay(m, ask, 1, "asked", reset_less=False)),
            self.o_pair.valid.eq(queue.o.valid), queue.o.ready.eq(self.o_pair.ready),
            payload.expert.eq(queue.o.payload.pair.expert), payload.token.eq(queue.o.payload.pair.token),
            payload.score.eq(queue.o.payload.score),
            *(payload[name].eq(queue.o.payload.pair[name]) for name in ("first", "last", "null")),
        ]
        m.d.sync += [free.eq(free + taken - ask)]
        with m.If(ask):
            m.d.sync += [left.eq(left - 1), leave.addr.eq(leave.addr + 1)]
        with m.If(self.put):
            m.d.sync += waiting.eq(waiting + 1)
        with m.Elif(taken):
            m.d.sync += waiting.eq(waiting - 1)
        with m.If(self.start):
            m.d.sync += waiting.eq(0)
        return emitting & (waiting == 0)

    def _experts_end(self, m):
        """High once all words of the list were taken."""
        waiting, taken = Signal(range(self.build.max_experts + 1)), self.o_expert.valid & self.o_expert.ready
        with m.If(taken):
            m.d.sync += waiting.eq(waiting - 1)
        with m.If(self.start):
            m.d.sync += waiting.eq(self.job.experts)
        return waiting == 0
