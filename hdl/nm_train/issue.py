"""The pulse of the array: when a period begins, and its steps."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from ..common.countdown import Countdown
from ..common.ports import layout
from .row import command_layout
from .sequence import group_bits, nnz_bits, period_layout

__all__ = ["Issue"]


class Issue(Component):
    """Begins a period when its words and the results' places are there and the one before has done its steps.

    *Members*: ``job`` with ``start``, ``stop``: what is left of a period leads to no result; ``i`` stream of
    :func:`~.sequence.period_layout`, taken with the pulse that takes its words; ``next`` the period that a pulse begins to
    compute, ``computes`` that there is one; ``values`` of a row in a period; ``b_valid``, ``b_ready`` the operand stream
    (output-stationary, a beat a step); ``free``: a tile may begin; ``loaded``: weights are there (weight-stationary); ``roomy``:
    results of a period have room; ``pulse``, ``command``, ``token`` now, for the top row a cycle later; ``closing`` with the
    last step of a tile, ``now`` the period at work; ``stall`` high while a step lacks its beat.
    *Timing*: a step a cycle, no pause between periods whose operands are there.
    """

    def __init__(self, build):
        self.build = build
        period = period_layout(build)
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1), "stop": In(1), "i": In(stream.Signature(period)),
            "next": Out(period), "computes": Out(1), "values": In(5), "b_valid": In(1), "b_ready": Out(1), "free": In(1),
            "loaded": In(1), "roomy": In(1), "pulse": Out(1), "command": Out(command_layout(build)), "token": Out(1),
            "closing": Out(1), "now": Out(period), "stall": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        job, command, now = self.job, self.command, self.now
        active, half, parity, first = Signal(), Signal(), Signal(), Signal()
        slot, step, place = Countdown(16, "slot"), Countdown(16, "step"), Countdown(4, "place")
        slot_at, base, entry = Signal.like(command.slot), Signal.like(command.base), Signal.like(command.entry)
        gap, go, end, ready = Signal(range(17)), Signal(), Signal(), Signal()
        m.d.comb += [
            self.b_ready.eq(active & ~job.ws), go.eq(active & (job.ws | self.b_valid)),
            self.stall.eq(self.b_ready & ~self.b_valid), end.eq(go & slot.last & step.last),
            ready.eq(~self.computes | Mux(job.ws, self.loaded & self.roomy, ~self.next.opens | self.free)),
            self.pulse.eq(self.i.valid & (~active | end) & (gap == 0) & ready), self.i.ready.eq(self.pulse),
            self.closing.eq(end & now.closes & ~job.ws),
            command.pulse.eq(self.pulse), command.take.eq(self.i.payload.takes), command.go.eq(go), command.slot.eq(slot_at),
            command.parity.eq(parity), command.half.eq(half), command.base.eq(base), command.zero.eq(now.zero & first),
            command.above.eq(job.ws & first), command.entry.eq(entry),
        ]
        with m.If(gap != 0):
            m.d.sync += gap.eq(gap - 1)
        with m.If(go):
            m.d.sync += [slot_at.eq(slot_at + 1), entry.eq(entry + 1), *slot.advance()]
            with m.If(slot.last):
                m.d.sync += [slot_at.eq(0), first.eq(0), *slot.load(now.slots), *step.advance(), *place.advance()]
                with m.If(place.last):
                    m.d.sync += [base.eq(base + (1 << group_bits(job))), *place.load(1 << nnz_bits(job))]
        with m.If(end):
            m.d.sync += active.eq(0)
        with m.If(self.pulse):
            coming = self.next
            m.d.sync += [
                self.next.eq(self.i.payload), self.computes.eq(~self.i.payload.final), now.eq(coming), active.eq(self.computes),
                half.eq(~half), first.eq(1), slot_at.eq(0), base.eq(0), entry.eq(0), *slot.load(coming.slots),
                *step.load(coming.steps), *place.load(1 << nnz_bits(job)),
                gap.eq(Mux(self.i.payload.takes, self.values - 1, 0)),
            ]
            with m.If(self.computes & coming.opens):
                m.d.sync += [parity.eq(~parity & ~job.ws), self.token.eq(~self.token)]
        with m.If(self.stop):
            m.d.sync += active.eq(0)
        with m.If(self.start):
            m.d.sync += [active.eq(0), half.eq(0), parity.eq(0), self.token.eq(1), self.computes.eq(0), gap.eq(0)]
        return m
