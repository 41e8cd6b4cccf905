"""From kept weights to the result stream: a queue, places, what was kept so far, nothing beyond n."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.nm_pattern import MAX_GROUP, MAX_NNZ
from ...models.spec.nm_prune import QUEUE_DEPTH
from ..common.countdown import Countdown
from ..common.delay import delay
from ..common.fifo import Fifo
from ..common.ports import layout
from .prune_intake import of_pattern
from .prune_walk import PruneWalk

__all__ = ["PruneResults"]


class PruneResults(Component):
    """Takes beats of kept weights with ``put`` and delivers them with their place in the array's operand.

    *Members*: ``value``, ``index`` of each lane, ``put``; ``took``: a group's last beat was taken, its results will come;
    ``room``: those of another may, a register; ``job`` with ``start``; ``o_y``; ``finish``: the cycle after the last beat was
    taken; ``nan``: one of a column was delivered, up to date with ``finish``; ``stall``: a result is refused.
    """

    def __init__(self, build):
        self.build = build
        output, = build.outputs
        super().__init__({
            "value": In(data.ArrayLayout(16, build.lanes)), "index": In(data.ArrayLayout(4, build.lanes)), "put": In(1),
            "took": In(1), "room": Out(1), "job": In(layout(build.job_record)), "start": In(1),
            "o_y": Out(stream.Signature(layout(output.record))), "finish": Out(1), "nan": Out(1), "stall": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, job, out = self.build, self.job, self.o_y
        shape = data.StructLayout({"value": self.value.shape(), "index": self.index.shape()})
        m.submodules.queue = queue = Fifo(shape, QUEUE_DEPTH)
        m.submodules.walk = walk = PruneWalk(build)
        nnz, turns = of_pattern(job, lambda nnz, group: nnz), Countdown(MAX_NNZ, "turn")
        free, leave, fresh, last = Signal(range(QUEUE_DEPTH + 1), init=QUEUE_DEPTH), Signal(), Signal(), Signal(reset_less=True)
        after = Signal(range(QUEUE_DEPTH + 2))
        m.d.comb += [
            queue.i.payload.value.eq(self.value), queue.i.payload.index.eq(self.index), queue.i.valid.eq(self.put),
            queue.o.ready.eq(~out.valid | out.ready), leave.eq(queue.o.valid & queue.o.ready),
            walk.job.eq(job), walk.start.eq(self.start), walk.step.eq(leave & turns.last), self.stall.eq(out.valid & ~out.ready),
            self.finish.eq(delay(m, out.valid & out.ready & last, 1, "finish", reset_less=False)),
            # Room for a whole group, whatever its pattern.
            after.eq(free + leave - Mux(self.took, nnz, 0)),
        ]
        m.d.sync += [free.eq(after), self.room.eq(after >= MAX_NNZ)]
        with m.If(out.ready):
            m.d.sync += out.valid.eq(0)
        with m.If(leave):
            m.d.sync += [out.valid.eq(1), last.eq(walk.last & turns.last), *turns.advance(), fresh.eq(turns.last)]
            with m.If(turns.last):
                m.d.sync += turns.load(nnz)
        with m.If(self.start):
            m.d.sync += [*turns.load(nnz), fresh.eq(1)]
        self._place(m, walk, leave, turns.last)
        self._fill(m, walk, queue.o.payload, leave, fresh)
        return m

    def _place(self, m, walk, leave, last_turn):
        """Turns of a slot are a round of slots apart; slots are neighbours; the next group begins behind the last turn."""
        place, base = Signal(32, reset_less=True), Signal(32, reset_less=True)
        with m.If(leave):
            m.d.sync += self.o_y.payload.place.eq(place)
            with m.If(~last_turn):
                m.d.sync += place.eq(place + walk.slots)
            with m.Elif(walk.last_slot):
                m.d.sync += [place.eq(place + 1), base.eq(place + 1)]
            with m.Else():
                m.d.sync += [place.eq(base + 1), base.eq(base + 1)]
        with m.If(self.start):
            m.d.sync += [place.eq(0), base.eq(0)]

    def _fill(self, m, walk, word, leave, fresh):
        """Values, indices and ``keep`` of each lane; 0 beyond n. A NaN of a column is remembered."""
        build, out = self.build, self.o_y.payload
        nans = Signal(build.lanes, reset_less=True)
        with m.If(leave):
            for lane in range(build.lanes):
                inside = lane < walk.columns
                value, index = word.value[lane], word.index[lane]
                keep = Mux(fresh, 0, out.keep[lane]) | (1 << index)[:MAX_GROUP]
                m.d.sync += [
                    out.value[lane].eq(Mux(inside, value, 0)), out.index[lane].eq(Mux(inside, index, 0)),
                    out.keep[lane].eq(Mux(inside, keep, 0)), nans[lane].eq(inside & value[6:15].all()),
                ]
        with m.If(self.start):
            m.d.sync += self.nan.eq(0)
        with m.Elif(self.o_y.valid):
            m.d.sync += self.nan.eq(self.nan | nans.any())
