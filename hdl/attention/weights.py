"""What all ways from scores to weights share: their ports, and the way from an exponential to a weight and a sum."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.attention import MAX_RAISE, SCALE_BITS
from ...models.spec.attention_cycles import PHASES, weight_latency
from ...models.spec.attention_job import SCORE_BITS
from ..common.delay import delay
from ..common.ports import layout

__all__ = ["WEIGHT_BITS", "Weights"]

WEIGHT_BITS = 16


class Weights(Component):
    """From a slot's scores to the weights of its values.

    *Members*: ``valid`` with a key's ``t``; ``first`` of the round; ``lists``: which phases have a key; ``seen``: this key, by
    this query; ``v_scale`` of the value whose weight this makes; ``job``. ``latency`` cycles later, held until the next:
    ``weight``, ``empties`` and ``raised``: before it is added the sums are emptied, or shifted to the right; ``total``: sum of
    the exponentials, if there is one.
    """

    def __init__(self, build, **more):
        self.build, self.latency = build, weight_latency(build.score)
        t_width = 8 if build.score == "shiftmax" else SCORE_BITS
        super().__init__({
            "valid": In(1), "t": In(signed(t_width)), "first": In(1), "lists": In(PHASES[build.score]), "seen": In(1),
            "v_scale": In(SCALE_BITS), "job": In(layout(build.job_record)),
            "weight": Out(WEIGHT_BITS), "empties": Out(1), "raised": Out(range(MAX_RAISE + 1)), "total": Out(build.sum_width),
            **more,
        })

    def finish(self, m: Module, valid, e, empties, raised, summed=True):
        """Two cycles from an exponential (0 where nothing is seen) to its weight, and the sum."""
        scale = delay(m, self.v_scale, self.latency - 2, "v_scale")
        product, late = Signal(WEIGHT_BITS + SCALE_BITS, reset_less=True), delay(m, valid, 1, "late", reset_less=False)
        m.d.sync += product.eq(e * scale)
        odd, guard, sticky = product[SCALE_BITS], product[SCALE_BITS - 1], product[: SCALE_BITS - 1].any()
        then = delay(m, empties, 1, "empties"), delay(m, raised, 1, "raised")
        with m.If(late):
            # Fits: e is at most 2**15.
            m.d.sync += self.weight.eq((product[SCALE_BITS:] + Cat(guard & (sticky | odd)))[:WEIGHT_BITS])
            m.d.sync += [self.empties.eq(then[0]), self.raised.eq(then[1])]
        if summed:
            total = Signal(self.build.sum_width, reset_less=True)
            with m.If(valid):
                # Fits: the spec's sum_width holds the largest sum.
                m.d.sync += total.eq((Mux(empties, 0, total >> raised) + e)[: len(total)])
            m.d.sync += self.total.eq(total)
