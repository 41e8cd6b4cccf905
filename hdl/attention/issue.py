"""Takes a step when all that it needs is there."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from .sequence import step_layout

__all__ = ["Issue"]


class Issue(Component):
    """A step needs a beat of keys, one of values, a word of queries, room for its result, or not; it takes all at once.

    *Members*: ``start`` of a job; ``steps`` in order; ``k_valid``, ``k_ready``, ``v_valid``, ``v_ready`` the operands'
    handshakes; ``q_addr``, ``q_valid``, ``q_ready`` the buffer's; ``credit``: there is room for a result; ``issued``: this step
    takes it; ``step`` with ``what``; ``stall_i``, ``stall_x``: an operand or the buffer keeps it waiting.
    *Latency*: a step is taken a cycle after it came, one a cycle.
    """

    def __init__(self, build):
        self.build = build
        super().__init__({
            "start": In(1), "steps": In(stream.Signature(step_layout(build))),
            "k_valid": In(1), "k_ready": Out(1), "v_valid": In(1), "v_ready": Out(1),
            "q_addr": Out(build.buffers[0].addr_width), "q_valid": Out(1), "q_ready": In(1), "credit": In(1), "issued": Out(1),
            "step": Out(1), "what": Out(step_layout(build)), "stall_i": Out(1), "stall_x": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        what, have, possible = self.what, Signal(), Signal()
        keys, values = what.lists[0], what.lists[-1]
        k_there, v_there, q_there = ~keys | self.k_valid, ~values | self.v_valid, ~what.loads | self.q_ready
        m.d.comb += [
            possible.eq(have & (self.credit | ~what.reserves)), self.q_valid.eq(possible & what.loads & k_there & v_there),
            self.k_ready.eq(possible & keys & v_there & q_there), self.v_ready.eq(possible & values & k_there & q_there),
            self.step.eq(possible & k_there & v_there & q_there), self.issued.eq(self.step & what.reserves),
            self.stall_i.eq(have & ~(k_there & v_there)), self.stall_x.eq(self.q_valid & ~self.q_ready),
            self.steps.ready.eq(~have | self.step),
        ]
        with m.If(self.steps.ready):
            m.d.sync += [have.eq(self.steps.valid), what.eq(self.steps.payload)]
        with m.If(self.q_valid & self.q_ready):
            m.d.sync += self.q_addr.eq(self.q_addr + 1)
        with m.If(self.start):
            m.d.sync += self.q_addr.eq(0)
        return m
