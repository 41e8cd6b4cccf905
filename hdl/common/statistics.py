"""Largest magnitude and sum of squares of a stream of numbers, per token, on the fly."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

__all__ = ["Statistics"]


class Statistics(Component):
    """Per token: max |x| and sum of x**2 over all beats since one marked ``first``.

    *Parameters*: ``width`` of x; ``lanes`` numbers a beat; ``tokens``; ``square_width`` of the sums of squares.
    *Members*: ``valid``, ``first``, ``token``, ``x`` in; ``idle`` out: nothing is on its way; ``read_token`` in, ``absmax``,
    ``squares`` out in the same cycle; ``overflow`` out, sticky until ``clear``.
    *Latency*: ``latency`` cycles from a beat to its effect. Squares take one multiplier of width x width a lane.
    """

    def __init__(self, width, lanes, tokens, square_width):
        self.width, self.lanes, self.tokens, self.square_width = width, lanes, tokens, square_width
        self.levels = (lanes - 1).bit_length()
        self.latency = 3 + self.levels
        super().__init__({
            "valid": In(1), "first": In(1), "token": In(range(tokens)), "x": In(data.ArrayLayout(signed(width), lanes)),
            "idle": Out(1), "read_token": In(range(tokens)), "absmax": Out(width), "squares": Out(square_width),
            "overflow": Out(1), "clear": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        largest, squares = [], []
        for lane in range(self.lanes):
            magnitude = Signal(self.width, name=f"magnitude_{lane}", reset_less=True)
            square_in = Signal(signed(self.width), name=f"square_in_{lane}", reset_less=True)
            largest_lane = Signal(self.width, name=f"largest_{lane}", reset_less=True)
            square = Signal(2 * self.width - 1, name=f"square_{lane}", reset_less=True)
            m.d.sync += [
                magnitude.eq(Mux(self.x[lane] < 0, -self.x[lane], self.x[lane])), square_in.eq(self.x[lane]),
                largest_lane.eq(magnitude), square.eq(square_in * square_in),
            ]
            largest.append(largest_lane)
            squares.append(square)
        level = 0
        while len(largest) > 1:
            largest = self._halve(m, largest, lambda a, b: Mux(a > b, a, b), 0, f"max_{level}")
            squares = self._halve(m, squares, lambda a, b: a + b, 1, f"sum_{level}")
            level += 1
        ways = [Cat(self.valid, self.first, self.token)]
        for index in range(2 + self.levels):
            step = Signal(len(ways[0]), name=f"way_{index}")
            m.d.sync += step.eq(ways[-1])
            ways.append(step)
        valid, first, token = ways[-1][0], ways[-1][1], ways[-1][2:]
        m.d.comb += self.idle.eq(~Cat(*(way[0] for way in ways)).any())
        absmax, total = self._store(m, valid, token, largest[0], squares[0], first)
        with m.If(self.clear):
            m.d.sync += self.overflow.eq(0)
        with m.Elif(valid & total[self.square_width]):
            m.d.sync += self.overflow.eq(1)
        return m

    def _store(self, m, valid, token, largest, square, first):
        """One read-modify-write a cycle on a small asynchronously read memory."""
        m.submodules.memory = memory = Memory(shape=self.width + self.square_width, depth=max(2, self.tokens), init=[])
        old_port, read, write = memory.read_port(domain="comb"), memory.read_port(domain="comb"), memory.write_port()
        absmax, total = Signal(self.width), Signal(self.square_width + 1)
        old_absmax = Mux(first, 0, old_port.data[: self.width])
        old_total = Mux(first, 0, old_port.data[self.width :])
        m.d.comb += [
            old_port.addr.eq(token), absmax.eq(Mux(largest > old_absmax, largest, old_absmax)), total.eq(square + old_total),
            write.addr.eq(token), write.en.eq(valid), write.data.eq(Cat(absmax, total[: self.square_width])),
            read.addr.eq(self.read_token), Cat(self.absmax, self.squares).eq(read.data),
        ]
        return absmax, total

    @staticmethod
    def _halve(m, values, join, growth, name):
        halved = []
        for index in range(0, len(values), 2):
            later = Signal(len(values[index]) + growth, name=f"{name}_{index}", reset_less=True)
            m.d.sync += later.eq(join(values[index], values[index + 1]) if index + 1 < len(values) else values[index])
            halved.append(later)
        return halved
