"""Where the words of each beat lie in the map: both walks, the memory of a tile's inner places, sums and limits."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.nm_load_job import MAX_COUNT
from ..common.countdown import Countdown
from ..common.delay import delay
from ..common.ports import layout
from .load_issue import step_layout
from .load_walk import LoadWalk, place_layout

__all__ = ["PLACES_LATENCY", "LoadPlaces", "request_layout"]

PLACES_LATENCY = 5
"""From a step to its request."""


def request_layout(build):
    """Addresses of a beat's words, and which of them are ``need``-ed; the others are zeros. ``keep``, ``last`` as in its step."""
    return data.StructLayout({"addr": data.ArrayLayout(build.addr_width, build.words), "need": build.words, "keep": 1, "last": 1})


class LoadPlaces(Component):
    """Adds the place of a beat in its round and that of its round.

    In the first round of a tile the inner walk goes on with every beat and leaves its places in a memory; later rounds, in the
    same order, read them there.
    *Members*: ``job`` with ``start``; ``valid`` with ``step``; ``put`` with ``request``, ``PLACES_LATENCY`` cycles later.
    *Limits*: what lies outside the map is not read.
    """

    def __init__(self, build):
        self.build = build
        super().__init__({"job": In(layout(build.job_record)), "start": In(1), "valid": In(1), "step": In(step_layout(build)),
                          "put": Out(1), "request": Out(request_layout(build))})

    def elaborate(self, platform):
        m = Module()
        build, job, step = self.build, self.job, self.step
        m.submodules.inner = inner = LoadWalk(build, "inner", build.words)
        m.submodules.outer = outer = LoadWalk(build, "outer", 1)
        m.d.comb += [
            *(walk.job.eq(job) for walk in (inner, outer)), *(walk.start.eq(self.start) for walk in (inner, outer)),
            inner.move.eq(self.valid & step.fresh), inner.again.eq(step.inner_end),
            outer.move.eq(self.valid & step.outer_move), outer.again.eq(step.outer_end),
        ]
        fresh = delay(m, inner.move, 2, "fresh", reset_less=False)
        place = delay(m, step.place, 2, "place")
        exist = self._exist(m, fresh, delay(m, step.inner_end, 2, "inner_end"))
        m.submodules.memory = memory = Memory(shape=len(inner.places.as_value()) + build.words, depth=build.places, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        here, chosen = Cat(inner.places, exist), Signal(memory.shape, reset_less=True)
        round_place = Signal(place_layout(build), reset_less=True)
        m.d.comb += [write.en.eq(fresh), write.addr.eq(place), write.data.eq(here), read.addr.eq(place)]
        m.d.sync += [chosen.eq(Mux(fresh, here, read.data)), round_place.eq(outer.places[0])]
        mine = data.View(inner.places.shape(), chosen[: -build.words])
        addr, inside = self.request.addr, [None] * build.words
        for lane in range(build.words):
            y, x, word = (Signal(getattr(mine[lane], axis).shape(), name=f"{axis}_{lane}", reset_less=True)
                          for axis in ("y", "x", "addr"))
            m.d.sync += [part.eq((getattr(mine[lane], axis) + getattr(round_place, axis))[: len(part)])
                         for part, axis in ((y, "y"), (x, "x"), (word, "addr"))]
            m.d.sync += addr[lane].eq(word)
            inside[lane] = (y >= 0) & (y < job.height) & (x >= 0) & (x < job.width)
        alive = delay(m, chosen[-build.words :], 1, "alive")
        m.d.sync += self.request.need.eq(Cat(inside) & alive)
        m.d.comb += [self.put.eq(delay(m, self.valid, PLACES_LATENCY, "valid", reset_less=False)),
                     self.request.keep.eq(delay(m, step.keep, PLACES_LATENCY, "keep")),
                     self.request.last.eq(delay(m, step.last, PLACES_LATENCY, "last"))]
        return m

    def _exist(self, m, fresh, end):
        """Which words of a fresh beat the inner walk has."""
        build, job = self.build, self.job
        left, gone = Countdown(MAX_COUNT, "words", by=build.words), Signal()
        with m.If(self.start | fresh & end):
            m.d.sync += [*left.load(job.count), gone.eq(0)]
        with m.Elif(fresh):
            m.d.sync += [*left.advance(), gone.eq(gone | left.last)]
        return Cat(~gone & (~left.last | (left.left[:3] > lane)) for lane in range(build.words))
