"""From sums of products to result beats: scales, shift, bias, GELU, scores, narrow results, queue."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.functions import GELU_LATENCY
from ...models.spec.moe_linear_cycles import RESULTS
from ...models.spec.moe_linear_job import BIAS_BITS, SCALE_BITS, SCORE_FRACTION
from ..common.delay import delay
from ..common.fifo import Fifo
from ..common.fit import fit
from ..common.ports import layout
from ..vector.gelu import Gelu
from .drain import beat_layout
from .round_shift import RoundShift

__all__ = ["Results"]

_LOW = 22
"""Bits of the lower part of a product that is made in two."""
_LOWEST, _HIGHEST = -(1 << BIAS_BITS - 1), (1 << BIAS_BITS - 1) - 1
_NARROW = 127
_SCALED = 4
"""Cycles of the two products with scales."""
_SCORED = 5
"""Cycles from z to the sum with its score."""


class Results(Component):
    """Makes results of sums, a beat a cycle, and delivers them.

    *Members*: ``valid`` with ``acc``, ``w_scale``, ``bias`` a lane, ``x_scale``, ``what`` (:func:`~.drain.beat_layout`);
    ``reserved``: beats that a step issued now will bring; ``credit``: a whole group may be issued; ``job`` with ``start``;
    ``o_y``; ``finish`` high when the last beat of the job was taken; ``saturated`` for its completion; ``stall`` high while a
    result is refused.
    *Latency*: fixed by the build, see ``back_latency``; what a job does not ask for goes around its part.
    """

    def __init__(self, build):
        self.build = build
        self.most = build.tokens * build.chunks
        lanes = build.out_lanes
        (output,) = build.outputs
        super().__init__({
            "valid": In(1), "acc": In(data.ArrayLayout(signed(build.acc_width), lanes)),
            "w_scale": In(data.ArrayLayout(SCALE_BITS, lanes)), "bias": In(data.ArrayLayout(signed(BIAS_BITS), lanes)),
            "x_scale": In(SCALE_BITS), "what": In(beat_layout(build)), "reserved": In(range(self.most + 1)), "credit": Out(1),
            "job": In(layout(build.job_record)), "start": In(1),
            "o_y": Out(stream.Signature(layout(output.record))), "finish": Out(1), "saturated": Out(32), "stall": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        self._clamped = []
        valid, what = self.valid, self.what.as_value()
        values, valid, what = self._scale(m, valid, what)
        if self.build.gelu:
            values = [self._gelu(m, lane, value) for lane, value in enumerate(values)]
            valid = delay(m, valid, GELU_LATENCY, "gelu_valid", reset_less=False)
            what = delay(m, what, GELU_LATENCY, "gelu_what")
        if self.build.scores:
            values, valid, what = self._score(m, values, valid, what)
        put = valid & self._view(what).emit
        drop = valid & ~self._view(what).emit
        if self.build.narrow:
            latency = 2 + RoundShift.LATENCY
            values = [self._narrow(m, lane, value, put) for lane, value in enumerate(values)]
            put, drop = (delay(m, value, latency, name, reset_less=False) for value, name in ((put, "put"), (drop, "drop")))
            what = delay(m, what, latency, "narrow_what")
        self._count(m)
        # A cycle more, so that the count of what was clamped is whole when the last beat can be taken.
        values = [delay(m, value, 1, f"result_{lane}") for lane, value in enumerate(values)]
        self._deliver(m, values, delay(m, put, 1, "deliver", reset_less=False), self._view(delay(m, what, 1, "what")),
                      delay(m, drop, 1, "dropped", reset_less=False))
        return m

    def _view(self, what):
        return data.View(beat_layout(self.build), what)

    def _scale(self, m, valid, what):
        """z of each lane: two products, shift, bias, clamp."""
        build, values = self.build, []
        latency = _SCALED + RoundShift.LATENCY + 2
        valid = delay(m, valid, latency, "scale_valid", reset_less=False)
        factor = delay(m, self.x_scale, 2, "x_scale")
        for lane in range(build.out_lanes):
            def register(expr, name, lane=lane):
                out = Signal(expr.shape(), name=f"{name}_{lane}", reset_less=True)
                m.d.sync += fit(out, expr)
                return out

            first = register(register(self.acc[lane] * self.w_scale[lane], "product"), "product_late")
            low, high = register(first[:_LOW] * factor, "low"), register(first[_LOW:].as_signed() * factor, "high")
            whole = Signal(signed(build.product_width), name=f"whole_{lane}", reset_less=True)
            # Fits: acc_width and two scales.
            m.d.sync += whole.eq((high << _LOW) + low)
            # So far outside of 32 bits no bias brings it back.
            m.submodules[f"shift_{lane}"] = shift = RoundShift(build.product_width, 4 * _LOWEST, 4 * _HIGHEST)
            m.d.comb += [shift.i.eq(whole), shift.shift.eq(self.job.shift)]
            bias = delay(m, self.bias[lane], _SCALED + RoundShift.LATENCY, f"bias_{lane}")
            value, over = self._clamp(m, register(shift.o + bias, "biased"), f"z_{lane}")
            self._clamped.append(over & valid)
            values.append(value)
        return values, valid, delay(m, what, latency, "scale_what")

    def _clamp(self, m, value, name):
        """(``value`` within 32 bits, whether it was not), a register later."""
        out, over = Signal(signed(BIAS_BITS), name=name, reset_less=True), Signal(name=f"{name}_over", reset_less=True)
        above, below = value > _HIGHEST, value < _LOWEST
        m.d.sync += [out.eq(Mux(above, _HIGHEST, Mux(below, _LOWEST, value))[:BIAS_BITS].as_signed()), over.eq(above | below)]
        return out, over

    def _gelu(self, m, lane, value):
        m.submodules[f"gelu_{lane}"] = gelu = Gelu()
        m.d.comb += gelu.i.eq(value)
        return Mux(self.job.gelu, gelu.o, delay(m, value, GELU_LATENCY, f"no_gelu_{lane}"))

    def _score(self, m, values, valid, what):
        """y of each lane: z times score, added to what the token has from experts before."""
        build, job, lanes = self.build, self.job, self.build.out_lanes
        m.submodules.sums = memory = Memory(
            shape=BIAS_BITS * lanes, depth=max(2, build.max_m * build.score_tiles * build.chunks), init=[])
        put, get = memory.write_port(), memory.read_port()
        now, late = self._view(delay(m, what, 1, "score_first")), delay(m, what, _SCORED, "score_what")
        m.d.comb += get.addr.eq(now.place)
        before = delay(m, get.data, 1, "before")
        first = delay(m, now.first, 2, "first")
        score = self._view(what).score
        late_valid = delay(m, valid, _SCORED, "score_valid", reset_less=False)
        m.d.comb += [put.addr.eq(self._view(late).place), put.en.eq(late_valid & job.use_score)]
        results = []
        for lane, value in enumerate(values):
            product = Signal(signed(BIAS_BITS + 16), name=f"scored_{lane}", reset_less=True)
            m.d.sync += fit(product, value * score)
            product = delay(m, product, 1, f"scored_{lane}")
            rounded = Signal(signed(BIAS_BITS + 3), name=f"share_{lane}", reset_less=True)
            half = product[SCORE_FRACTION - 1] & (product[: SCORE_FRACTION - 1].any() | product[SCORE_FRACTION])
            m.d.sync += fit(rounded, product[SCORE_FRACTION:].as_signed() + half)
            total = Signal(signed(BIAS_BITS + 4), name=f"sum_{lane}", reset_less=True)
            m.d.sync += fit(total, rounded + Mux(first, 0, before.word_select(lane, BIAS_BITS).as_signed()))
            y, over = self._clamp(m, total, f"y_{lane}")
            m.d.comb += put.data.word_select(lane, BIAS_BITS).eq(y)
            self._clamped.append(over & late_valid & job.use_score)
            results.append(Mux(job.use_score, y, delay(m, value, _SCORED, f"no_score_{lane}")))
        return results, late_valid, late

    def _narrow(self, m, lane, value, put):
        product = Signal(signed(BIAS_BITS + SCALE_BITS), name=f"narrow_{lane}", reset_less=True)
        m.d.sync += fit(product, value * self.job.out_multiplier)
        m.submodules[f"narrow_{lane}"] = shift = RoundShift(len(product), -_NARROW, _NARROW)
        m.d.comb += [shift.i.eq(delay(m, product, 1, f"narrow_{lane}")), shift.shift.eq(self.job.out_shift)]
        latency = 2 + RoundShift.LATENCY
        used = delay(m, put, latency, f"narrow_put_{lane}", reset_less=False)
        self._clamped.append(shift.over & used & self.job.narrow)
        return Mux(self.job.narrow, shift.o, delay(m, value, latency, f"wide_{lane}"))

    def _count(self, m):
        count = Signal(range(len(self._clamped) + 1))
        m.d.sync += count.eq(sum(self._clamped))
        with m.If(self.start):
            m.d.sync += self.saturated.eq(0)
        with m.Else():
            m.d.sync += self.saturated.eq(self.saturated + count)

    def _deliver(self, m, values, put, what, drop):
        out = self.o_y
        shape = data.StructLayout({"ends": 1, "beat": out.payload.shape()})
        m.submodules.queue = queue = Fifo(shape, RESULTS)
        beat, taken = queue.i.payload.beat, out.valid & out.ready
        lanes = beat.data if len(values) > 1 else [beat.data]
        m.d.comb += [
            queue.i.valid.eq(put), queue.i.payload.ends.eq(what.ends), beat.row.eq(what.row), beat.token.eq(what.token),
            *(lanes[lane].eq(value) for lane, value in enumerate(values)),
            out.payload.eq(queue.o.payload.beat), out.valid.eq(queue.o.valid), queue.o.ready.eq(out.ready),
            self.stall.eq(out.valid & ~out.ready), self.finish.eq(taken & queue.o.payload.ends),
        ]
        free, after = Signal(range(RESULTS + 1), init=RESULTS), Signal(range(RESULTS + 3))
        m.d.comb += after.eq(free + taken + drop - self.reserved)
        m.d.sync += [free.eq(after), self.credit.eq(after >= self.most)]
