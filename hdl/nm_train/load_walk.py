"""A walk of a load: digits, and the place in the map that they stand for, without a multiplication."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from ..common.delay import delay
from ..common.ports import layout

__all__ = ["LoadWalk", "place_layout"]


def place_layout(build):
    """Coordinates in the map, and an address modulo a power of two."""
    return data.StructLayout({"y": signed(build.coordinate_width), "x": signed(build.coordinate_width),
                              "addr": build.addr_width})


class LoadWalk(Component):
    """The places of ``lanes`` words that walk side by side, by the fields ``<name>_*`` of the job.

    *Members*: ``job`` with ``start``, which puts them at their origin; ``move``: they go on, with ``again`` back to their origin;
    ``places``, two cycles late: what they were before the ``move`` of two cycles ago.
    *Timing*: a move a cycle. Each digit has a stage of its own and hands on its carry in a register.
    """

    def __init__(self, build, name, lanes):
        self.build, self.name, self.lanes = build, name, lanes
        super().__init__({"job": In(layout(build.job_record)), "start": In(1), "move": In(1), "again": In(1),
                          "places": Out(data.ArrayLayout(place_layout(build), lanes))})

    def elaborate(self, platform):
        m = Module()
        moves = [delay(m, self.move, stage, f"move_{stage}", reset_less=False) for stage in range(3)]
        agains = [delay(m, self.again, stage, f"again_{stage}") for stage in range(3)]
        for lane in range(self.lanes):
            low = self._digit(m, "low", lane, 0, moves[0], agains[0])
            middle = self._digit(m, "middle", lane, low, moves[1], agains[1])
            carries = Cat(delay(m, low, 1, f"low_carry_{lane}"), middle)
            place = self.places[lane]
            for axis in ("y", "x", "addr"):
                part = getattr(place, axis)
                with m.If(self.start | moves[2] & agains[2]):
                    m.d.sync += part.eq(self._origin(axis, lane))
                with m.Elif(moves[2]):
                    # Modulo a power of two: sums that matter fit, and those that do not are never looked at.
                    m.d.sync += part.eq((part + self._field(f"move_{axis}")[carries])[: len(part)])
        return m

    def _field(self, name):
        return getattr(self.job, f"{self.name}_{name}")

    def _origin(self, name, lane):
        value = self._field(name)
        return value[lane] if self.lanes > 1 else value

    def _digit(self, m, name, lane, carry, move, again):
        """The carry of a digit, a cycle late."""
        step, room, origin = self._field(f"{name}_step"), self._field(f"{name}_room"), self._origin(name, lane)
        digit = Signal(len(step), name=f"{name}_{lane}", reset_less=True)
        carried, late = Signal(len(step) + 1, name=f"{name}_carried_{lane}"), Signal(name=f"{name}_late_{lane}", reset_less=True)
        over = Signal(name=f"{name}_over_{lane}")
        m.d.comb += [carried.eq(digit + carry), over.eq(carried >= room)]
        m.d.sync += late.eq(over)
        with m.If(self.start | move & again):
            m.d.sync += digit.eq(origin)
        with m.Elif(move):
            m.d.sync += digit.eq(Mux(over, carried - room, carried + step)[: len(step)])
        return late
