"""The order of groups: tiles of columns, in each the groups along k, in each the slots."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from ..common.countdown import Countdown
from ..common.ports import layout

__all__ = ["PruneWalk"]


class PruneWalk(Component):
    """Steps through a job's slots of groups.

    *Members*: ``job`` with ``start``; ``step``: on to the next, which shows in the next cycle; ``last_slot`` of the tile's group,
    ``last`` of all; ``slots`` of the tile; ``columns``: how many of the slot's lanes have columns, at most all.
    """

    def __init__(self, build):
        self.build = build
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1), "step": In(1), "last_slot": Out(1), "last": Out(1),
            "slots": Out(range(build.slots + 1)), "columns": Out(range(build.lanes + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        build, job = self.build, self.job
        tiles, groups = Countdown(build.max_tiles, "tile"), Countdown(build.max_k, "group")
        slots = Countdown(build.slots, "slot")
        # Columns from this slot to the end of the tile's; a tile that is not the last has all.
        left = Signal(range(build.tile_columns + 1), reset_less=True)
        m.d.comb += [
            self.last_slot.eq(slots.last), self.last.eq(tiles.last & groups.last & slots.last),
            self.columns.eq(Mux(left > build.lanes, build.lanes, left)),
        ]

        def enter(last):
            """The first slot of a group of a tile that is the last, or not."""
            count = Mux(last, job.last_slots, build.slots)
            return [*slots.load(count), self.slots.eq(count), left.eq(Mux(last, job.rest, build.tile_columns))]

        with m.If(self.step):
            m.d.sync += [*slots.advance(), left.eq(Mux(left > build.lanes, left - build.lanes, 0))]
            with m.If(slots.last):
                m.d.sync += groups.advance()
                with m.If(groups.last):
                    m.d.sync += [*tiles.advance(), *groups.load(job.groups), *enter(tiles.left == 2)]
                with m.Else():
                    m.d.sync += enter(tiles.last)
        with m.If(self.start):
            m.d.sync += [*tiles.load(job.tiles), *groups.load(job.groups), *enter(job.tiles == 1)]
        return m
