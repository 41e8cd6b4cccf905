"""Reads of a load: the words of each beat from as many copies of the map."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.nm_load_job import WORD
from ..common.delay import delay
from ..common.fifo import Fifo
from .load_issue import CREDITS
from .load_places import request_layout

__all__ = ["LoadFetch"]


class LoadFetch(Component):
    """Asks for the words of a beat that are needed, puts zeros in the place of the others.

    *Members*: ``put`` with ``request``; ``x_addr``, ``x_valid``, ``x_ready``, ``x_data`` of each copy; ``valid`` with ``beat``,
    ``keep`` and ``last``; ``stall``: a copy refuses.
    *Latency*: a request leaves 2 cycles after ``put``, its beat comes ``read_latency`` + 1 cycles after all of it were accepted.
    *Handshake*: requests wait here, at most ``CREDITS``; what a copy accepts early is not repeated.
    """

    def __init__(self, build):
        self.build, words = build, build.words
        super().__init__({
            "put": In(1), "request": In(request_layout(build)),
            "x_addr": Out(data.ArrayLayout(build.addr_width, words)), "x_valid": Out(words), "x_ready": In(words),
            "x_data": In(data.ArrayLayout(16 * WORD, words)),
            "valid": Out(1), "beat": Out(data.ArrayLayout(16 * WORD, words)), "keep": Out(1), "last": Out(1),
            "stall": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, words = self.build, self.build.words
        m.submodules.queue = queue = Fifo(request_layout(build), CREDITS)
        have, now, done, step = Signal(), Signal(request_layout(build), reset_less=True), Signal(words), Signal()
        asked = self.x_valid & self.x_ready
        m.d.comb += [
            queue.i.payload.eq(self.request), queue.i.valid.eq(self.put), queue.o.ready.eq(~have | step),
            self.x_addr.eq(now.addr), self.x_valid.eq(Mux(have, now.need & ~done, 0)),
            step.eq(have & (~now.need | done | self.x_ready).all()), self.stall.eq((self.x_valid & ~self.x_ready).any()),
        ]
        m.d.sync += done.eq(Mux(step, 0, done | asked))
        with m.If(queue.o.ready):
            m.d.sync += [have.eq(queue.o.valid), now.eq(queue.o.payload)]
        back = build.read_latency + 1
        need = delay(m, now.need, back, "need")
        m.d.comb += [self.valid.eq(delay(m, step, back, "step", reset_less=False)),
                     self.keep.eq(delay(m, now.keep, back, "keep")), self.last.eq(delay(m, now.last, back, "last"))]
        for lane in range(words):
            # What came early waits here for the other words of its beat.
            word = Signal(16 * WORD, name=f"word_{lane}", reset_less=True)
            with m.If(delay(m, asked[lane], build.read_latency, f"come_{lane}", reset_less=False)):
                m.d.sync += word.eq(self.x_data[lane])
            m.d.comb += self.beat[lane].eq(Mux(need[lane], word, 0))
        return m
