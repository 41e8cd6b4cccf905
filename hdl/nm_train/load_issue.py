"""The loops of a load: which beat is next, and which walks go on after it."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.nm_load_job import MAX_COUNT, WORD
from ..common.countdown import Countdown
from ..common.ports import layout

__all__ = ["CREDITS", "LoadIssue", "step_layout"]

CREDITS = 32
"""Beats under way at most: more than there are between issue and way out at full rate."""


def step_layout(build):
    """A beat on its way: ``fresh`` in its tile's first round, ``place`` in the round, ``inner_end``: the inner walk begins anew
    after it, ``outer_move`` and ``outer_end``: the outer walk goes on or begins anew, ``keep``: a result comes of it,
    ``last`` of the job."""
    return data.StructLayout({"fresh": 1, "place": range(build.places), "inner_end": 1, "outer_move": 1, "outer_end": 1,
                              "keep": 1, "last": 1})


class LoadIssue(Component):
    """Counts repeats, tiles, passes, rounds and slots; a beat a cycle while there is room for it.

    *Members*: ``job`` with ``start``; ``valid`` with ``step`` of :func:`step_layout`; ``back``: so many beats have left.
    *Latency*: the first beat comes 2 cycles after ``start``. While a block is read for transposition the one before leaves, or
    the part of it that the tile has; reads of no use move the last one out.
    """

    def __init__(self, build):
        self.build = build
        super().__init__({"job": In(layout(build.job_record)), "start": In(1), "back": In(2), "valid": Out(1),
                          "step": Out(step_layout(build))})

    def elaborate(self, platform):
        m = Module()
        build, job, step = self.build, self.job, self.step
        free, room = Signal(range(CREDITS + 1), init=CREDITS), Signal(init=1)
        running, flushing, go = Signal(), Signal(), Signal()
        slot = Countdown(build.places, "slot")
        rounds, passes, tiles, repeats = (Countdown(MAX_COUNT, name) for name in ("round", "pass", "tile", "repeat"))
        place, fresh, first_slots = Signal(range(build.places)), Signal(), Signal(range(build.places + 1))
        after = Signal(range(CREDITS + 4))
        m.d.comb += [go.eq(running & room), after.eq(free + self.back - go)]
        m.d.sync += [free.eq(after), room.eq(after != 0)]
        keep, out_end = self._kept(m, go, place, slot.last, (rounds.last & passes.last, tiles.last)) if build.turns else (1, 1)
        loop_end = slot.last & rounds.last & passes.last & tiles.last & repeats.last
        m.d.sync += [
            self.valid.eq(go), step.fresh.eq(fresh & ~flushing), step.place.eq(place), step.inner_end.eq(slot.last & tiles.last),
            step.outer_move.eq(slot.last), step.outer_end.eq(rounds.last),
            step.keep.eq(keep), step.last.eq(Mux(flushing, out_end, loop_end & ~job.turn)),
        ]
        with m.If(go & flushing):
            m.d.sync += [place.eq(place + 1), running.eq(~out_end)]
        with m.Elif(go):
            m.d.sync += [*slot.advance(), place.eq(place + 1)]
            with m.If(slot.last):
                m.d.sync += [*slot.load(Mux(tiles.last, job.last_slots, job.slots)), place.eq(0), fresh.eq(0), *rounds.advance()]
                with m.If(rounds.last):
                    m.d.sync += [*rounds.load(job.rounds), *passes.advance()]
                    with m.If(passes.last):
                        m.d.sync += [*passes.load(job.passes), *tiles.advance(), fresh.eq(1),
                                     *slot.load(Mux(tiles.left == 2, job.last_slots, job.slots))]
                        with m.If(tiles.last):
                            m.d.sync += [*tiles.load(job.tiles), *repeats.advance(), *slot.load(first_slots)]
            with m.If(loop_end):
                m.d.sync += [running.eq(job.turn), flushing.eq(1)]
        m.d.comb += first_slots.eq(Mux(job.tiles == 1, job.last_slots, job.slots))
        with m.If(self.start):
            m.d.sync += [running.eq(1), flushing.eq(0), place.eq(0), fresh.eq(1), *slot.load(first_slots),
                         *rounds.load(job.rounds), *passes.load(job.passes), *tiles.load(job.tiles), *repeats.load(job.repeats)]
        return m

    def _kept(self, m, go, place, round_end, tile_ends):
        """(whether a beat moves a wanted row out of the transposer, whether that is the last of its block)."""
        build, job = self.build, self.job
        rows, blocks = min(build.rows, WORD) // build.words, WORD // build.words
        first, primed = Countdown(blocks, "first_block"), Signal()
        part = Signal(range(blocks // rows))
        before = Signal.like(part)
        with m.If(go):
            m.d.sync += [*first.advance(), primed.eq(primed | first.last)]
            with m.If(round_end):
                m.d.sync += before.eq(part)
                with m.If(tile_ends[0]):
                    m.d.sync += part.eq(Mux(tile_ends[1], 0, part + 1))
        with m.If(self.start):
            m.d.sync += [*first.load(blocks), primed.eq(0)]
        row, mine = place % rows, (place % blocks) // rows == before
        return ~job.turn | primed & mine, mine & (row == rows - 1)
