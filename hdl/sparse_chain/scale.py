"""From sums of steps to scaled sums: segments, scales and offsets, activation scales, 64 bits."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.sparse_job import MAX_SEGMENT
from ..common.adder_tree import signed_width
from ..common.delay import delay
from ..common.fit import fit

__all__ = ["Scale"]

_LOW = 22
"""Bits of the lower part of a product that is made in two."""


class Scale(Component):
    """Sums a segment's steps, multiplies and accumulates: total[token] += (sum * scale + x_sum * offset) * x_scale.

    *Members*: ``y``, ``x_sum`` of a step with ``valid``, ``first``, ``last``, ``two``, ``opens``, ``closes``, ``token`` (of the
    first token) in the same cycle; ``x_scale`` likewise, a token; ``scale``, ``offset`` a chain, one cycle later; ``total`` out
    with ``total_valid`` when a tile's sums are whole.
    *Latency*: ``LATENCY`` cycles from the last step to the first token's total, one more to the second's.
    *Limits*: a last step of two tokens is not followed by another in the next cycle.
    """

    LATENCY = 7

    def __init__(self, build, lanes):
        self.build = build
        pairs = data.ArrayLayout(signed(lanes.width), build.tokens)
        super().__init__({
            "y": In(data.ArrayLayout(pairs, build.chains)), "x_sum": In(lanes.x_sum.shape()),
            "valid": In(1), "first": In(1), "last": In(1), "two": In(1), "opens": In(1), "closes": In(1),
            "token": In(range(build.max_pairs * build.tokens)), "x_scale": In(data.ArrayLayout(16, build.tokens)),
            "scale": In(data.ArrayLayout(signed(16), build.chains)), "offset": In(data.ArrayLayout(signed(16), build.chains)),
            "total": Out(data.ArrayLayout(signed(build.acc_width), build.chains)), "total_valid": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build = self.build
        begin = delay(m, self.valid & self.last, 1, "begin", reset_less=False)
        second = delay(m, begin & delay(m, self.two, 1, "two"), 2, "second", reset_less=False)
        # Token by token: the first goes on at once, the second waits a cycle.
        token = delay(m, self.token, 1, "token")
        chosen = Signal(token.shape(), reset_less=True)
        factor, waiting = Signal(16, reset_less=True), Signal(16, reset_less=True)
        x_scale = [delay(m, value, 1, f"x_scale_{t}") for t, value in enumerate(self.x_scale)]
        with m.If(begin):
            m.d.sync += [chosen.eq(token), factor.eq(x_scale[0]), waiting.eq(x_scale[-1])]
        with m.Else():
            m.d.sync += [chosen.eq(chosen + 1), factor.eq(waiting)]
        # Behind ``begin`` by one: what the multipliers start from.
        running = delay(m, begin, 1, "running", reset_less=False) | second
        flags = [Signal(name=name, reset_less=True) for name in ("opens_now", "closes_now")]
        sources = delay(m, self.opens, 1, "opens"), delay(m, self.closes, 1, "closes")
        with m.If(begin):
            m.d.sync += [flag.eq(source) for flag, source in zip(flags, sources, strict=True)]
        valid = delay(m, running, 4, "multiply", reset_less=False)
        opens, closes = (delay(m, flag, 4, name) for flag, name in zip(flags, ("opens_late", "closes_late"), strict=True))
        m.d.sync += self.total_valid.eq(valid & closes)

        width = signed_width(-MAX_SEGMENT * 128, MAX_SEGMENT * 127)
        x_sum = self._segment(m, list(self.x_sum), width, begin, "x_sum")
        factor_late = delay(m, factor, 2, "factor")
        width = signed_width(-build.segment_peak, build.segment_peak)
        m.submodules.memory = memory = Memory(shape=self.total.shape(), depth=len(range(build.max_pairs * build.tokens)), init=[])
        put, get = memory.write_port(), memory.read_port(domain="comb")
        at = delay(m, chosen, 4, "at")
        m.d.comb += [put.addr.eq(at), get.addr.eq(at), put.en.eq(valid)]
        for chain in range(build.chains):
            product = self._multiply(m, chain, self._segment(m, list(self.y[chain]), width, begin, f"sum_{chain}"), x_sum,
                                     begin, factor_late)
            # Fits: the spec's acc_peak bounds every partial sum.
            total = (Mux(opens, 0, get.data[chain]) + product)[: build.acc_width].as_signed()
            m.d.comb += put.data[chain].eq(total)
            m.d.sync += self.total[chain].eq(total)
        return m

    def _segment(self, m, sums, width, begin, name):
        """The segment's sum of the token at work, a register behind ``begin``."""
        now, waiting = Signal(signed(width), name=f"{name}_now", reset_less=True), None
        held = []
        for token, value in enumerate(sums):
            acc = Signal(signed(width), name=f"{name}_{token}", reset_less=True)
            with m.If(self.valid):
                # Fits: a segment has so many columns and no more.
                m.d.sync += acc.eq((Mux(self.first, 0, acc) + value)[:width].as_signed())
            held.append(acc)
        if len(held) == 1:
            m.d.sync += now.eq(held[0])
            return now
        waiting = Signal(signed(width), name=f"{name}_waiting", reset_less=True)
        with m.If(begin):
            m.d.sync += [now.eq(held[0]), waiting.eq(held[1])]
        with m.Else():
            m.d.sync += now.eq(waiting)
        return now

    def _multiply(self, m, chain, value, x_sum, begin, factor):
        """(value * scale + x_sum * offset) * factor, four registers behind ``value``."""
        scale, offset = (Signal(signed(16), name=f"{name}_{chain}", reset_less=True) for name in ("scale", "offset"))
        with m.If(begin):
            m.d.sync += [scale.eq(self.scale[chain]), offset.eq(self.offset[chain])]

        def register(expr, name):
            out = Signal(expr.shape(), name=f"{name}_{chain}", reset_less=True)
            m.d.sync += fit(out, expr)
            return out

        scaled = register(register(value * scale, "by_scale") + register(x_sum * offset, "by_offset"), "scaled")
        low, high = register(scaled[:_LOW] * factor, "low"), register(scaled[_LOW:].as_signed() * factor, "high")
        return register((high << _LOW) + low, "product")
