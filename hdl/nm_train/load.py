"""The loader of the training array: job shell, loops, places, reads, transposer."""

from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import data
from amaranth.lib.wiring import Component

from ...models.spec.nm_load_job import WORD
from ..common.fifo import Fifo
from ..common.job_shell import JobShell
from ..common.ports import EngineSignature
from .load_fetch import LoadFetch
from .load_issue import CREDITS, LoadIssue
from .load_places import LoadPlaces
from .load_turn import LoadTurn

__all__ = ["NmLoad"]


class NmLoad(Component):
    """Gathers operands of the training array from feature maps.

    *Behaviour*: see :class:`sparseloom.models.spec.nm_load.NmLoad` (jobs, maps, orders). *Members*: ``EngineSignature(build)``.
    *Latency*: ``build.cycles(job)``, exactly, if nothing refuses. *Handshake*: jobs queue two deep; reads and results may stall
    in any pattern. *Limits*: counts from 1, rounds and maps up to the build's; a job outside them completes with status ILLEGAL
    and reads nothing. That a job's walks stay inside its map is trusted.
    """

    def __init__(self, build):
        self.build = build
        super().__init__(EngineSignature(build))

    def elaborate(self, platform):
        m = Module()
        build = self.build
        m.submodules.shell = shell = JobShell(build)
        m.submodules.issue = issue = LoadIssue(build)
        m.submodules.places = places = LoadPlaces(build)
        m.submodules.fetch = fetch = LoadFetch(build)
        beat = data.StructLayout({"data": 16 * WORD * build.words, "last": 1})
        m.submodules.results = results = Fifo(beat, CREDITS)
        job, out = shell.current, self.o_w
        gone, dropped = out.valid & out.ready, fetch.valid & ~fetch.keep
        m.d.comb += [
            *shell.ports(self),
            shell.refuse.eq(~self._legal(shell.waiting)), shell.finish.eq(gone & results.o.payload.last),
            shell.stall_x.eq(fetch.stall), shell.stall_o.eq(out.valid & ~out.ready),
            *(part.job.eq(job) for part in (issue, places)), *(part.start.eq(shell.start) for part in (issue, places)),
            places.valid.eq(issue.valid), places.step.eq(issue.step), fetch.put.eq(places.put), fetch.request.eq(places.request),
            results.i.payload.last.eq(fetch.last), results.i.valid.eq(fetch.valid & fetch.keep), issue.back.eq(gone + dropped),
            out.payload.as_value().eq(results.o.payload.data), out.valid.eq(results.o.valid), results.o.ready.eq(out.ready),
        ]
        for lane in range(build.words):
            port = getattr(self, f"x_map{lane}")
            m.d.comb += [port.addr.eq(fetch.x_addr[lane]), port.valid.eq(fetch.x_valid[lane]),
                         fetch.x_ready[lane].eq(port.ready), fetch.x_data[lane].eq(port.data)]
        if not build.turns:
            m.d.comb += results.i.payload.data.eq(Cat(fetch.beat))
            return m
        m.submodules.turn = turn = LoadTurn(build)
        m.d.comb += [
            turn.start.eq(shell.start), turn.step.eq(fetch.valid), turn.i.eq(fetch.beat),
            results.i.payload.data.eq(Mux(job.turn, turn.o, fetch.beat)),
        ]
        return m

    def _legal(self, job):
        build = self.build
        return ((job.slots <= build.places) & (job.last_slots != 0) & (job.last_slots <= job.slots) & (job.rounds != 0)
                & (job.passes != 0) & (job.tiles != 0) & (job.repeats != 0) & (job.height != 0) & (job.height <= build.map_words)
                & (job.width != 0) & (job.width <= build.map_words) & (1 if build.turns else ~job.turn))
