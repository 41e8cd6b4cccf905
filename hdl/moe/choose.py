"""The first half of the gate: reads logits, turns them into log2 units, keeps the best of each token."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.moe_gate import MAX_SHIFT, T_BITS
from ..common.countdown import Countdown
from ..common.delay import delay
from ..common.ports import layout
from ..vector.multiply import multiply
from ..vector.round_shift import RoundShift

__all__ = ["Choose", "choice_layout"]

LOGIT_BITS = 32


def choice_layout(build):
    """A chosen expert and its logit in log2 units."""
    return data.StructLayout({"expert": range(build.max_experts), "t": signed(T_BITS)})


class Choose(Component):
    """Reads the logits of a token, one a cycle, then pauses ``top_k`` cycles; keeps the largest ``top_k`` in order.

    *Members*: ``job`` with ``start``; ``x_addr``, ``x_valid``, ``x_ready``, ``x_data`` the buffer's; ``t`` with ``expert`` and
    ``put``: a logit in log2 units; ``clamped``: it was clamped; ``chosen``, best first, with ``complete`` in the cycle after a
    token's last ``put``; they stay for that cycle alone. ``stall``: the buffer refuses. *Timing*: ``put`` comes
    ``read_latency`` + ``CONVERT_LATENCY`` cycles after a request.
    """

    def __init__(self, build):
        self.build = build
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1),
            "x_addr": Out(build.buffers[0].addr_width), "x_valid": Out(1), "x_ready": In(1), "x_data": In(signed(LOGIT_BITS)),
            "t": Out(signed(T_BITS)), "expert": Out(range(build.max_experts)), "put": Out(1), "clamped": Out(1),
            "chosen": Out(data.ArrayLayout(choice_layout(build), build.max_top_k)), "complete": Out(1), "stall": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, job, latency = self.build, self.job, self.build.read_latency
        running, reading = Signal(), Signal()
        expert, pause = Countdown(build.max_experts, "gate_expert"), Countdown(build.max_top_k, "gate_pause")
        token, place, first = Countdown(build.max_m, "gate_token"), Signal.like(self.expert), Signal()
        step = self.x_valid & self.x_ready
        m.d.comb += [self.x_valid.eq(running & reading), self.stall.eq(self.x_valid & ~self.x_ready)]
        with m.If(step):
            m.d.sync += [self.x_addr.eq(self.x_addr + 1), *expert.advance(), place.eq(place + 1), first.eq(0)]
            with m.If(expert.last):
                m.d.sync += [reading.eq(0), *pause.load(job.top_k), *token.advance(), running.eq(~token.last)]
        with m.If(running & ~reading):
            m.d.sync += pause.advance()
            with m.If(pause.last):
                m.d.sync += [reading.eq(1), *expert.load(job.experts), place.eq(0), first.eq(1)]
        with m.If(self.start):
            m.d.sync += [running.eq(1), reading.eq(1), *expert.load(job.experts), *token.load(job.m), place.eq(0), first.eq(1),
                         self.x_addr.eq(job.base)]
        come = delay(m, step, latency, "come", reset_less=False)
        self._convert(m, come)
        back = latency + self._behind
        m.d.comb += [self.put.eq(delay(m, come, self._behind, "put", reset_less=False)),
                     self.expert.eq(delay(m, place, back, "place"))]
        self._insert(m, delay(m, self.x_data, self._behind, "logit"), delay(m, first, back, "first"))
        last = delay(m, step & expert.last, back, "last", reset_less=False)
        m.d.sync += self.complete.eq(last)
        return m

    def _convert(self, m, come):
        """``t`` and ``clamped`` of the word that comes in this cycle, ``self._behind`` cycles later."""
        product = multiply(m, self.x_data, self.job.multiplier, "logit")
        m.submodules.round = rounded = RoundShift(len(product), MAX_SHIFT)
        m.d.comb += [rounded.value.eq(product), rounded.shift.eq(self.job.shift)]
        high = (1 << T_BITS - 1) - 1
        over, under = rounded.y > high, rounded.y < -high - 1
        m.d.sync += self.t.eq(Mux(over, high, Mux(under, -high - 1, rounded.y[:T_BITS].as_signed())))
        self._behind = 2 + rounded.latency + 1
        wide = Signal(reset_less=True)
        m.d.sync += wide.eq(over | under)
        m.d.comb += self.clamped.eq(wide & self.put)

    def _insert(self, m, logit, first):
        """Insertion into the sorted list; an equal logit goes behind those that came before it."""
        held = [Signal(signed(LOGIT_BITS), name=f"held_{rank}", reset_less=True) for rank in range(self.build.max_top_k)]
        some = [Signal(name=f"some_{rank}", reset_less=True) for rank in range(self.build.max_top_k)]
        better = [first | ~some[rank] | (logit > held[rank]) for rank in range(self.build.max_top_k)]
        with m.If(self.put):
            for rank in range(self.build.max_top_k):
                with m.If(better[rank]):
                    m.d.sync += [held[rank].eq(logit), self.chosen[rank].expert.eq(self.expert),
                                 self.chosen[rank].t.eq(self.t), some[rank].eq(1)]
                if rank == 0:
                    continue
                with m.If(better[rank - 1]):
                    # What was a rank higher moves here; a token's first logit leaves nothing behind itself.
                    m.d.sync += [held[rank].eq(held[rank - 1]), self.chosen[rank].eq(self.chosen[rank - 1]),
                                 some[rank].eq(some[rank - 1] & ~first)]
