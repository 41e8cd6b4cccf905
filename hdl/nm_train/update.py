"""The weight update engine: three operands in step, lanes, results in order."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import Component

from ...models.spec.nm_update_cycles import Times, queue_depth
from ..common.countdown import Countdown
from ..common.delay import delay
from ..common.fifo import Fifo
from ..common.fit import fit
from ..common.job_shell import JobShell
from ..common.ports import EngineSignature
from .update_lane import UpdateLane

__all__ = ["NmUpdate"]


class NmUpdate(Component):
    """New weights, momentum and bfloat16 copies, ``lanes`` a cycle.

    *Behaviour*: see :class:`sparseloom.models.spec.nm_update_job.NmUpdateJob`; ``saturated`` counts new weights that are infinite
    or NaN. *Members*: ``EngineSignature(build)``. *Latency*: ``build.cycles(job)``, exactly, if nothing refuses.
    *Handshake*: jobs queue two deep; the three operands are taken together, each one's ready waits for the others' valid; lanes
    never stop, an operand is taken when there is a place for its result. *Limits*: a job outside the build completes with status
    ILLEGAL and consumes nothing.
    """

    def __init__(self, build):
        self.build = build
        super().__init__(EngineSignature(build))

    def elaborate(self, platform):
        m = Module()
        build = self.build
        m.submodules.shell = shell = JobShell(build)
        m.d.comb += [
            *shell.ports(self),
            shell.refuse.eq(~self._legal(shell.waiting)),
        ]
        room = Signal(init=1)
        took = self._take(m, shell, room)
        lanes = self._lanes(m, shell.current)
        self._deliver(m, shell, lanes, took, room)
        return m

    def _legal(self, job):
        build = self.build
        legal = (job.n != 0) & (job.n <= build.max_n)
        return legal if build.lion else legal & ~job.lion

    def _take(self, m, shell, room):
        """The three operands, in the same cycle; high when they are taken."""
        build, ports = self.build, (self.i_w, self.i_g, self.i_mom)
        wanted, took, left = Signal(), Signal(), Countdown(build.max_n, "take", by=build.lanes)
        ask = Signal()
        m.d.comb += [ask.eq(wanted & room), took.eq(ask & self.i_w.valid & self.i_g.valid & self.i_mom.valid),
                     shell.stall_i.eq(ask & ~took)]
        for port in ports:
            others = [other.valid for other in ports if other is not port]
            m.d.comb += port.ready.eq(ask & others[0] & others[1])
        with m.If(took):
            m.d.sync += [*left.advance(), wanted.eq(~left.last)]
        with m.If(shell.start):
            m.d.sync += [*left.load(shell.current.n), wanted.eq(1)]
        return took

    def _lanes(self, m, job):
        build, lanes = self.build, []
        operands = [Signal.like(port.payload, name=f"{name}_in", reset_less=True)
                    for name, port in (("w", self.i_w), ("g", self.i_g), ("mom", self.i_mom))]
        m.d.sync += [register.eq(port.payload) for register, port in zip(operands, (self.i_w, self.i_g, self.i_mom), strict=True)]
        for index in range(build.lanes):
            lane = UpdateLane(build)
            m.submodules[f"lane_{index}"] = lane
            w, g, mom = (_lane(operand.data, build, index) for operand in operands)
            m.d.comb += [lane.w.eq(w), lane.g.eq(g), lane.mom.eq(mom), lane.lion.eq(job.lion),
                         *(lane.factors[name].eq(job[name]) for name in build.factors)]
            if build.pruned:
                m.d.comb += lane.keep.eq(operands[0].keep[index])
            lanes.append(lane)
        return lanes

    def _deliver(self, m, shell, lanes, took, room):
        """Results to the queue, numbered on their way out; how many places are left."""
        build, out = self.build, self.o_y
        shape = data.StructLayout({"weight": 32, "momentum": 32, "copy": 16})
        m.submodules.queue = queue = Fifo(data.ArrayLayout(shape, build.lanes), queue_depth(build))
        put = delay(m, took, 1 + Times(build).weight, "put", reset_less=False)
        made, valid = Countdown(build.max_n, "made", by=build.lanes), Signal()
        broken, count = Signal(build.lanes, reset_less=True), Signal(range(build.lanes + 1))
        beat = Signal(queue.i.payload.shape(), reset_less=True)
        m.d.sync += valid.eq(put)
        for index, lane in enumerate(lanes):
            inside = index < made.left
            m.d.sync += [
                broken[index].eq(inside & lane.broken), beat[index].weight.eq(Mux(inside, lane.weight, 0)),
                beat[index].momentum.eq(Mux(inside, lane.momentum, 0)), beat[index].copy.eq(Mux(inside, lane.copy, 0)),
            ]
        with m.If(put):
            m.d.sync += made.advance()
        m.d.comb += [queue.i.payload.eq(beat), queue.i.valid.eq(valid)]

        taken, left, index = Signal(), Countdown(build.max_n, "left", by=build.lanes), Signal.like(out.payload.index)
        m.d.comb += [
            out.valid.eq(queue.o.valid), queue.o.ready.eq(out.ready), taken.eq(out.valid & out.ready),
            out.payload.index.eq(index), shell.stall_o.eq(out.valid & ~out.ready),
            shell.finish.eq(delay(m, taken & left.last, 2, "finish", reset_less=False)),
        ]
        for name in ("weight", "momentum", "copy"):
            m.d.comb += [_lane(out.payload[name], build, at).eq(queue.o.payload[at][name]) for at in range(build.lanes)]
        with m.If(taken):
            m.d.sync += [*left.advance(), fit(index, (index + build.lanes)[: len(index)])]
        total = Signal(32)
        m.d.sync += [count.eq(Mux(valid, sum(broken), 0)), total.eq(total + count)]
        m.d.comb += shell.saturated.eq(total)
        with m.If(shell.start):
            m.d.sync += [*made.load(shell.current.n), *left.load(shell.current.n), index.eq(0), total.eq(0)]

        depth = queue_depth(build)
        free, after = Signal(range(depth + 1), init=depth), Signal(range(depth + 2))
        m.d.comb += after.eq(free + taken - took)
        m.d.sync += [free.eq(after), room.eq(after.any())]


def _lane(values, build, index):
    """A field of one lane is no array."""
    return values[index] if build.lanes > 1 else values
