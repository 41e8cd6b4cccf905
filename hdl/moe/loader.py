"""The order of the weight stream: headers and steps, and when there is room for them."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.moe_linear_cycles import HEADERS
from ..common.countdown import Countdown
from ..common.ports import layout

__all__ = ["Loader"]


class Loader(Component):
    """Takes the stream a beat a cycle and says what each is.

    *Members*: ``job`` with ``start``; ``experts``: stream that has an entry, ``last``, for each expert to load; ``valid``,
    ``ready`` of the weight stream; in the cycle after a beat was taken: ``header`` or ``weights`` high, with its ``part`` of the
    header or the step and the place ``header_at`` or ``word_at`` in the ring; ``arrived`` with a step's last beat; ``release``:
    a place of the ring of steps is free again, ``header_release``: of the ring of headers; ``stall`` high while a beat is wanted
    and there is none.
    *Latency*: first beat a cycle after the expert was offered; no pause between steps, tiles and experts.
    """

    def __init__(self, build):
        self.build = build
        self.parts = max(build.word_beats, build.header_beats)
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1), "experts": In(stream.Signature(1)),
            "valid": In(1), "ready": Out(1),
            "header": Out(1), "weights": Out(1), "part": Out(range(max(2, self.parts))), "header_at": Out(range(HEADERS)),
            "word_at": Out(range(build.ring_words)), "arrived": Out(1), "release": In(1), "header_release": In(1),
            "stall": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, job = self.build, self.job
        running, heading, room, header_room = Signal(), Signal(), Signal(), Signal()
        beats = Countdown(self.parts, "loader_beat")
        steps, tiles = Countdown(build.max_steps, "loader_step"), Countdown(build.max_n, "loader_row", by=build.rows)
        part, wanted, took, end = Signal.like(self.part), Signal(), Signal(), Signal()
        expert_end = Signal()
        m.d.comb += [
            wanted.eq(running & Mux(heading, header_room, room)), self.ready.eq(wanted), took.eq(wanted & self.valid),
            self.stall.eq(wanted & ~self.valid), end.eq(took & beats.last),
            expert_end.eq(end & ~heading & steps.last & tiles.last), self.experts.ready.eq(~running | expert_end),
        ]
        with m.If(took):
            m.d.sync += [part.eq(part + 1), *beats.advance()]
        with m.If(end):
            m.d.sync += part.eq(0)
            with m.If(heading):
                m.d.sync += [heading.eq(0), *beats.load(build.word_beats), *steps.load(job.k_steps)]
            with m.Else():
                m.d.sync += [*beats.load(build.word_beats), *steps.advance()]
                with m.If(steps.last):
                    m.d.sync += [heading.eq(1), *beats.load(build.header_beats), *tiles.advance()]
        with m.If(~running | expert_end):
            m.d.sync += [running.eq(self.experts.valid), heading.eq(1), part.eq(0), *beats.load(build.header_beats),
                         *tiles.load(job.n)]
        self._rings(m, room, header_room, end & ~heading, end & heading)
        m.d.sync += [self.header.eq(took & heading), self.weights.eq(took & ~heading), self.part.eq(part),
                     self.arrived.eq(end & ~heading)]
        return m

    def _rings(self, m, room, header_room, word, header):
        """What is in the rings of steps and of headers, and where the next one goes."""
        rings = (room, word, self.release, self.build.ring_words, self.word_at, self.arrived, "words"), (
            header_room, header, self.header_release, HEADERS, self.header_at, None, "headers")
        for some, put, free, size, at, moved, name in rings:
            used, after = Signal(range(size + 1), name=f"{name}_used"), Signal(range(size + 1), name=f"{name}_after")
            m.d.comb += after.eq(used + put - free)
            m.d.sync += [used.eq(after), some.eq(after != size)]
            if moved is None:
                moved = Signal(name=f"{name}_moved")
                m.d.sync += moved.eq(put)
            with m.If(moved):
                m.d.sync += at.eq(at + 1)
            with m.If(self.start):
                m.d.sync += [used.eq(0), some.eq(1), at.eq(0)]
