"""A slot's scores: its query in a small memory, products with the key that passes, one scaled score a key."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.attention_cycles import DYADIC_LATENCY, tree_levels
from ...models.spec.attention_job import SCORE_BITS
from ..common.delay import delay
from ..common.fit import fit
from ..common.ports import layout
from .behind import Behind
from .dyadic import Dyadic

__all__ = ["Score", "tree"]


def tree(m, values, name):
    """The sum of ``values``, a register after every level."""
    level = 0
    while len(values) > 1:
        joined = []
        for at in range(0, len(values), 2):
            pair = values[at : at + 2]
            total = Signal(signed(len(pair[0]) + len(pair) - 1), name=f"{name}_{level}_{at}", reset_less=True)
            m.d.sync += fit(total, pair[0] + pair[1] if len(pair) == 2 else pair[0])
            joined.append(total)
        values, level = joined, level + 1
    return values[0]


class Score(Component):
    """t = clamp(round_half_even((q . k) * factor / 2**shift)).

    *Members*: ``move``, ``chunk``, ``opens`` of a step; ``load``: the query comes with this key-time, in ``word``; ``key``: the
    beat that passes; ``job``; ``t``, ``clamped`` out.
    *Latency*: ``latency`` cycles from a key's last step. d_lanes multipliers, and those of the scale.
    """

    def __init__(self, build):
        self.build = build
        self.latency = 3 + tree_levels(build.d_lanes) + DYADIC_LATENCY
        low, high = (-128, 127) if build.score == "shiftmax" else (-(1 << SCORE_BITS - 1), (1 << SCORE_BITS - 1) - 1)
        width = build.dot_peak.bit_length() + 1
        self.dyadic = Dyadic(width, 32, low, high)
        super().__init__({
            "move": In(1), "chunk": In(range(build.max_chunks)), "opens": In(1), "load": In(1),
            "word": In(layout(build.beat_record)), "key": In(layout(build.beat_record)), "job": In(layout(build.job_record)),
            "t": Out(signed(len(self.dyadic.y))), "clamped": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build = self.build
        m.submodules.query = query = Behind(build.beat_record.bits, build.max_chunks)
        m.submodules.dyadic = dyadic = self.dyadic
        word = Signal.like(self.word)
        m.d.comb += [query.move.eq(self.move), query.chunk.eq(self.chunk), query.i.eq(word),
                     word.eq(Mux(self.load, self.word.as_value(), query.o))]
        products = []
        for lane in range(build.d_lanes):
            q, k = (Signal(signed(build.bits), name=f"{name}_{lane}", reset_less=True) for name in "qk")
            product = Signal(signed(2 * build.bits), name=f"product_{lane}", reset_less=True)
            m.d.sync += [q.eq(word.data[lane]), k.eq(self.key.data[lane]), fit(product, q * k)]
            products.append(product)
        total = tree(m, products, "sum")
        levels = tree_levels(build.d_lanes)
        move = delay(m, self.move, 2 + levels, "move")
        opens = delay(m, self.opens, 2 + levels, "opens")
        dot = Signal(dyadic.value.shape(), reset_less=True)
        with m.If(move):
            # Fits: the spec's dot_peak bounds every partial sum.
            m.d.sync += dot.eq((Mux(opens, 0, dot) + total)[: len(dot)].as_signed())
        m.d.comb += [dyadic.value.eq(dot), dyadic.shift.eq(self.job.shift), self.t.eq(dyadic.y), self.clamped.eq(dyadic.clamped)]
        if build.score == "shiftmax":
            m.d.comb += dyadic.factor.eq(self.job.multiplier)
        else:
            scales = [delay(m, value, 1, name) for name, value in (("q_scale", word.scale), ("k_scale", self.key.scale))]
            factor = Signal(32, reset_less=True)
            m.d.sync += factor.eq(scales[0] * scales[1])
            m.d.comb += dyadic.factor.eq(delay(m, factor, 1 + levels, "factor"))
        return m
