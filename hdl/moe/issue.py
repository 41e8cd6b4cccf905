"""The order of the steps: group after group of tokens, each step by step."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from ..common.countdown import Countdown
from ..common.ports import layout
from .pair_queue import group_layout

__all__ = ["Issue"]


class Issue(Component):
    """Asks for the activations of a group's tokens, a word of each a step.

    *Members*: ``job`` with ``start``; ``groups``: stream of :func:`~.pair_queue.group_layout`; ``arrived``: the weights of one
    more step are in the ring; ``credit``: all results of a group have somewhere to go; ``x_addr[t]``, ``x_valid[t]``,
    ``x_ready[t]`` the buffers' requests; ``step`` high when all of a step were accepted, with ``first`` and ``last`` of the
    group, ``at`` the place of its weights, ``release``: no group needs it after this one, ``group`` the group at work;
    ``asked[t]`` high when that request was accepted; ``stall`` high while a buffer refuses.
    *Timing*: a step a cycle. Requests of a step that are accepted early are not repeated.
    """

    def __init__(self, build):
        self.build = build
        width = build.buffers[0].addr_width
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1), "groups": In(stream.Signature(group_layout(build))),
            "arrived": In(1), "credit": In(1),
            **{f"x_addr{t}": Out(width) for t in range(build.tokens)}, "x_valid": Out(build.tokens), "x_ready": In(build.tokens),
            "asked": Out(build.tokens), "step": Out(1), "first": Out(1), "last": Out(1), "at": Out(range(build.ring_words)),
            "release": Out(1), "group": Out(group_layout(build)), "stall": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, group = self.build, self.group
        have, some, spaced = Signal(), Signal(), Signal(init=1)
        steps, tile_at = Countdown(build.max_steps, "issue_step"), Signal.like(self.at)
        used, done = Signal(build.tokens), Signal(build.tokens)
        wanted, group_end, take = Signal(), Signal(), Signal()
        m.d.comb += [
            wanted.eq(have & (some | ~group.opens) & (~steps.last | (spaced & self.credit))),
            self.x_valid.eq(Mux(wanted, used & ~done, 0)), self.asked.eq(self.x_valid & self.x_ready),
            self.step.eq(wanted & (~used | done | self.x_ready).all()), self.stall.eq((self.x_valid & ~self.x_ready).any()),
            self.last.eq(steps.last), group_end.eq(self.step & steps.last), take.eq(~have | group_end),
            self.groups.ready.eq(take), self.release.eq(self.step & group.closes),
        ]
        m.d.sync += done.eq(Mux(self.step, 0, done | self.asked))
        coming = self.groups.payload
        with m.If(self.step):
            m.d.sync += [*steps.advance(), self.first.eq(0), self.at.eq(self.at + 1)]
        with m.If(group_end):
            with m.If(group.closes):
                m.d.sync += tile_at.eq(self.at + 1)
            with m.Else():
                m.d.sync += self.at.eq(tile_at)
        with m.If(take):
            m.d.sync += [have.eq(self.groups.valid), group.eq(coming), self.first.eq(1), *steps.load(self.job.k_steps),
                         used.eq(Cat(coming.count > t for t in range(build.tokens)))]
        for t in range(build.tokens):
            addr = getattr(self, f"x_addr{t}")
            with m.If(take):
                m.d.sync += addr.eq(coming.tokens[t].base)
            with m.Elif(self.step):
                m.d.sync += addr.eq(addr + 1)
        ahead, after = Signal(range(build.ring_words + 1)), Signal(range(build.ring_words + 2))
        m.d.comb += after.eq(ahead + self.arrived - (self.step & group.opens))
        m.d.sync += [ahead.eq(after), some.eq(after != 0)]
        gap = Signal.like(group.gap)
        with m.If(group_end):
            m.d.sync += [gap.eq(group.gap - 1), spaced.eq(group.gap == 1)]
        with m.Elif(~spaced):
            m.d.sync += [gap.eq(gap - 1), spaced.eq(gap == 1)]
        with m.If(self.start):
            m.d.sync += [self.at.eq(0), tile_at.eq(0), ahead.eq(0), some.eq(0), spaced.eq(1)]
        return m
