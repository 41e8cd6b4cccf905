"""From whole sums to result beats: shift, round half to even, clamp, queue."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ..common.countdown import Countdown
from ..common.delay import delay
from ..common.fifo import Fifo
from ..common.ports import layout

__all__ = ["Results"]

DEPTH = 64
"""Results under way and waiting: more than the longest pipeline holds, so that a result may begin in every cycle."""
_RESULT = signed(32)


class Results(Component):
    """Takes the totals of a tile and token, delivers them with row and token.

    *Members*: ``total`` with ``put``; ``issued``: so many totals will be put; ``credit``: two more may be issued; ``job`` with
    ``start``; ``o_y``; ``finish`` high when the last beat of the job was taken; ``saturated`` for its completion; ``stall`` high
    while a result is refused.
    *Latency*: ``LATENCY`` cycles from ``put`` to the offer.
    """

    LATENCY = 3

    def __init__(self, build):
        self.build = build
        (output,) = build.outputs
        super().__init__({
            "total": In(data.ArrayLayout(signed(build.acc_width), build.chains)), "put": In(1),
            "issued": In(2), "credit": Out(1), "job": In(layout(build.job_record)), "start": In(1),
            "o_y": Out(stream.Signature(layout(output.record))), "finish": Out(1), "saturated": Out(32), "stall": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, out = self.build, self.o_y
        m.submodules.queue = queue = Fifo(data.ArrayLayout(_RESULT, build.chains), DEPTH)
        clamped, results = [], []
        for chain in range(build.chains):
            value, over = self._round(m, chain)
            results.append(value)
            clamped.append(over)
        put = delay(m, self.put, 2, "put", reset_less=False)
        lanes = out.payload.data if build.chains > 1 else [out.payload.data]
        m.d.comb += [
            queue.i.valid.eq(put), *(queue.i.payload[c].eq(value) for c, value in enumerate(results)),
            out.valid.eq(queue.o.valid), queue.o.ready.eq(out.ready), self.stall.eq(out.valid & ~out.ready),
            *(lanes[c].eq(queue.o.payload[c]) for c in range(build.chains)),
        ]
        with m.If(self.start):
            m.d.sync += self.saturated.eq(0)
        with m.Elif(put):
            m.d.sync += self.saturated.eq(self.saturated + sum(clamped))
        self._place(m)
        self._give_credit(m, out.valid & out.ready)
        return m

    def _round(self, m, chain):
        """(round_half_even(total / 2**shift) in 32 bits, whether it was clamped), two registers behind ``total``."""
        width, shift, total = self.build.acc_width, self.job.shift, self.total[chain]
        quotient = Signal(signed(width), name=f"quotient_{chain}", reset_less=True)
        guard, sticky = (Signal(name=f"{name}_{chain}", reset_less=True) for name in ("guard", "sticky"))
        moved = Signal(signed(width + 1), name=f"moved_{chain}")
        below, rounded = Signal(width, name=f"below_{chain}"), Signal(signed(width + 1), name=f"rounded_{chain}")
        value, over = Signal(_RESULT, name=f"value_{chain}", reset_less=True), Signal(name=f"over_{chain}", reset_less=True)
        # One place to the left, so that the bit below the quotient survives the shift.
        m.d.comb += [moved.eq((total << 1) >> shift), below.eq(((1 << shift) - 1) >> 1),
                     rounded.eq(quotient + (guard & (sticky | quotient[0])))]
        m.d.sync += [quotient.eq(moved >> 1), guard.eq(moved[0]), sticky.eq((total & below).any())]
        high, low = (1 << 31) - 1, -(1 << 31)
        m.d.sync += [value.eq(Mux(rounded > high, high, Mux(rounded < low, low, rounded))[:32].as_signed()),
                     over.eq((rounded > high) | (rounded < low))]
        return value, over

    def _place(self, m):
        """Row and token of the beat on offer."""
        build, job, out = self.build, self.job, self.o_y
        rows, tokens = Countdown(build.max_n, "result_row", by=build.chains), Countdown(build.max_m, "result_token")
        row, token = Signal.like(out.payload.row), Signal.like(out.payload.token)
        taken = out.valid & out.ready
        m.d.comb += [out.payload.row.eq(row), out.payload.token.eq(token), self.finish.eq(taken & rows.last & tokens.last)]
        with m.If(taken):
            m.d.sync += [*tokens.advance(), token.eq(token + 1)]
            with m.If(tokens.last):
                m.d.sync += [*tokens.load(job.m), token.eq(0), *rows.advance(), row.eq(row + build.chains)]
        with m.If(self.start):
            m.d.sync += [*rows.load(job.n), *tokens.load(job.m), row.eq(0), token.eq(0)]

    def _give_credit(self, m, taken):
        free, after = Signal(range(DEPTH + 1), init=DEPTH), Signal(range(DEPTH + 3))
        m.d.comb += after.eq(free + taken - self.issued)
        m.d.sync += [free.eq(after), self.credit.eq(after >= 4)]
