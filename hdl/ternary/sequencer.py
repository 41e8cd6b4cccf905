"""What happens in which cycle: the order of beats and activation reads for both datapaths."""

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.ternary_cycles import TABLE_FILL
from ..common.countdown import Countdown
from ..common.delay import delay
from ..common.ports import layout
from .table import FILL_ENTRIES, TernaryTable

__all__ = ["TableSequencer", "TreeSequencer"]


def _members(build):
    buffer = build.buffers[0]
    return {
        "job": In(layout(build.job_record)), "start": In(1), "credit": In(1),
        "w_valid": In(1), "w_ready": Out(1), "x_addr": Out(buffer.addr_width), "x_valid": Out(1), "x_ready": In(1),
        "step": Out(1), "first": Out(1), "last": Out(1), "token": Out(range(build.max_m)), "group": Out(range(build.max_groups)),
        "stall_i": Out(1), "stall_x": Out(1),
    }


def _loops(build, name):
    """Countdowns over blocks of k, rows, tokens."""
    return (Countdown(build.max_k_blocks, f"{name}_block"), Countdown(build.max_n, f"{name}_row", by=build.rows),
            Countdown(build.max_m, f"{name}_token"))


class TreeSequencer(Component):
    """Row groups; in each the blocks of k; in each the tokens: a beat is held while every token passes it.

    *Members*: ``job`` with ``start``; ``credit``: a finished sum has somewhere to go; ``step`` high when a beat meets the
    activations of one token, with ``first``/``last`` block of k and ``token``. *Handshake*: a step needs weights, an accepted
    read and, if it is the last of its sum, credit.
    """

    def __init__(self, build):
        self.build = build
        super().__init__(_members(build))

    def elaborate(self, platform):
        m = Module()
        job, running, wanted = self.job, Signal(), Signal()
        block, row, token = _loops(self.build, "step")
        m.d.comb += [
            self.last.eq(block.last), wanted.eq(running & (self.credit | ~block.last)),
            self.x_valid.eq(wanted & self.w_valid), self.step.eq(self.x_valid & self.x_ready),
            self.w_ready.eq(wanted & self.x_ready & token.last),
            self.stall_i.eq(wanted & ~self.w_valid), self.stall_x.eq(self.x_valid & ~self.x_ready),
        ]
        with m.If(self.step):
            m.d.sync += [*token.advance(), self.token.eq(self.token + 1), self.x_addr.eq(self.x_addr + 1)]
            with m.If(token.last):
                m.d.sync += [*token.load(job.m), self.token.eq(0), *block.advance(), self.first.eq(0)]
                with m.If(block.last):
                    m.d.sync += [*block.load(job.k_blocks), self.first.eq(1), self.x_addr.eq(0), *row.advance()]
                    with m.If(row.last):
                        m.d.sync += running.eq(0)
        with m.If(self.start):
            m.d.sync += [
                running.eq(1), *row.load(job.n), *block.load(job.k_blocks), *token.load(job.m),
                self.first.eq(1), self.token.eq(0), self.x_addr.eq(0),
            ]
        return m


class TableSequencer(Component):
    """Tokens; in each the blocks of k; in each the row groups. While a set of tables is read, the other fills.

    *Members*: as :class:`TreeSequencer`, and the fill side: ``fill``, ``fill_set``, ``fill_entry`` for the tables, ``load``
    when the data of a read arrives. *Timing*: a block takes max(row groups, ``TABLE_FILL``) cycles.
    """

    def __init__(self, build):
        self.build = build
        super().__init__(_members(build) | {
            "set": Out(1), "load": Out(1), "fill": Out(1), "fill_set": Out(1), "fill_entry": Out(range(FILL_ENTRIES)),
        })

    def elaborate(self, platform):
        m = Module()
        full, freed = Signal(2), Signal()
        self._fill_side(m, full, freed)
        self._step_side(m, full, freed)
        return m

    def _fill_side(self, m, full, freed):
        job, latency = self.job, self.build.read_latency
        reading, loaded, waiting = Signal(), Signal(), Signal()
        block, _, token = _loops(self.build, "fill")
        next_token = Signal(range(self.build.max_m + 1))
        count, filling, begin, early = Signal(range(TABLE_FILL)), Signal(), Signal(), Signal()
        busy = Signal(2)
        accepted = self.x_valid & self.x_ready
        m.d.comb += [
            # The next activations may arrive in the cycle after the last entry was taken from the present ones.
            self.x_valid.eq(reading & ~waiting & ~loaded & ~early), self.stall_x.eq(self.x_valid & ~self.x_ready),
            self.load.eq(delay(m, accepted, latency, "arrival", reset_less=False)),
            begin.eq(loaded & ~filling & ~busy.bit_select(self.fill_set, 1)),
            self.fill.eq(filling & (count < FILL_ENTRIES)), self.fill_entry.eq(count),
        ]
        with m.If(accepted):
            m.d.sync += [waiting.eq(1), *block.advance(), self.x_addr.eq(self.x_addr + job.m)]
            with m.If(block.last):
                m.d.sync += [*block.load(job.k_blocks), *token.advance()]
                m.d.sync += [next_token.eq(next_token + 1), self.x_addr.eq(next_token)]
                with m.If(token.last):
                    m.d.sync += reading.eq(0)
        with m.If(self.load):
            m.d.sync += [loaded.eq(1), waiting.eq(0)]
        with m.If(begin):
            m.d.sync += [filling.eq(1), early.eq(1), count.eq(0), loaded.eq(0)]
        with m.Elif(filling):
            m.d.sync += count.eq(count + 1)
            with m.If(count == FILL_ENTRIES - latency - 1):
                m.d.sync += early.eq(0)
            with m.If(count == TABLE_FILL - 2):
                m.d.sync += [filling.eq(0), self.fill_set.eq(~self.fill_set)]
        with m.If(self.start):
            m.d.sync += [reading.eq(1), *block.load(job.k_blocks), *token.load(job.m), next_token.eq(1), self.x_addr.eq(0),
                         self.fill_set.eq(0)]
        # A set is busy from the beginning of its fill until its last beat was accepted.
        ready = delay(m, filling & (count == FILL_ENTRIES - 1), TernaryTable.FILL_READY - 1, "ready", reset_less=False)
        for index in range(2):
            with m.If(begin & (self.fill_set == index)):
                m.d.sync += busy[index].eq(1)
            with m.Elif(freed & (self.set == index)):
                m.d.sync += busy[index].eq(0)
            with m.If(ready & (self.fill_set == index)):
                m.d.sync += full[index].eq(1)
            with m.Elif(freed & (self.set == index)):
                m.d.sync += full[index].eq(0)

    def _step_side(self, m, full, freed):
        job, wanted = self.job, Signal()
        block, row, _ = _loops(self.build, "step")
        m.d.comb += [
            freed.eq(self.step & row.last), self.last.eq(block.last),
            wanted.eq(full.bit_select(self.set, 1) & (self.credit | ~block.last)),
            self.w_ready.eq(wanted), self.step.eq(wanted & self.w_valid), self.stall_i.eq(wanted & ~self.w_valid),
        ]
        with m.If(self.step):
            m.d.sync += [*row.advance(), self.group.eq(self.group + 1)]
            with m.If(row.last):
                m.d.sync += [*row.load(job.n), self.group.eq(0), self.set.eq(~self.set), *block.advance(), self.first.eq(0)]
                with m.If(block.last):
                    m.d.sync += [*block.load(job.k_blocks), self.first.eq(1)]
        with m.If(self.start):
            m.d.sync += [*row.load(job.n), *block.load(job.k_blocks), self.first.eq(1), self.group.eq(0), self.set.eq(0)]
