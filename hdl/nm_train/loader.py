"""Weights into the PEs, weight-stationary: row by row, while the array works with those before."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.nm_train_job import MIN_SLOTS
from ..common.ports import layout
from .pe import ROWS_BITS
from .sequence import nnz_bits

__all__ = ["Loader"]


class Loader(Component):
    """Says where the beats of B go, and when the rows have what they need.

    *Members*: ``job`` with ``start``; ``valid``, ``ready`` of the operand stream; ``took`` with ``row`` and ``entry`` (the half
    in its top bit) of a beat; ``pulse``: the top row begins a period that computes, ``opens``: with the next tile; ``loaded``:
    the weights that this pulse (``opens`` or not) needs are on their way.
    *Timing*: a row of the tile after next is loaded as soon as it has left its weights' half; a beat's row may begin in the cycle
    after the beat was taken.
    """

    def __init__(self, build):
        self.build = build
        super().__init__({
            "job": In(layout(build.job_record)), "start": In(1), "valid": In(1), "ready": Out(1), "took": Out(1),
            "row": Out(ROWS_BITS), "entry": Out(build.entry_bits), "pulse": In(1), "opens": In(1),
            "loaded": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, job = self.build, self.job
        running, half, beat = Signal(), Signal(), Signal(len(self.entry) - 1)
        columns, rows, k_tile = Signal.like(job.n), Signal.like(job.m), Signal.like(job.k_tiles)
        # Of a row, counted a cycle late when the columns change: no row has so few.
        last_beat = Signal(range(build.entries), init=MIN_SLOTS - 1)
        # Tiles loaded minus tiles begun by the top row, -1 to 1; periods that it has begun of its tile, up to ``rows``.
        lead, fresh, begun = Signal(signed(2)), Signal(), Signal(range(build.rows + 1))
        row_end, tile_end, opened = Signal(), Signal(), Signal()
        slots, count = Signal(5), Signal(range(build.entries + 1))
        rest = (columns + (build.cols - 1)) >> (build.cols.bit_length() - 1)
        m.d.comb += [
            slots.eq(Mux(columns >= build.tile_columns, build.slots, Mux(rest < MIN_SLOTS, MIN_SLOTS, rest))),
            count.eq(slots << nnz_bits(job)),
            self.ready.eq(running & ((lead < 0) | ((lead == 0) & (fresh | (begun > self.row))))),
            self.took.eq(self.ready & self.valid), self.entry[:-1].eq(beat), self.entry[-1].eq(half),
            row_end.eq(self.took & (beat == last_beat)), tile_end.eq(row_end & (self.row == build.rows - 1)),
            opened.eq(self.pulse & self.opens),
            self.loaded.eq(Mux(self.opens, (lead > 0) | ((lead == 0) & (self.row != 0)),
                               (lead >= 0) | (self.row > begun) | (begun == build.rows))),
        ]
        m.d.sync += [lead.eq(lead + tile_end - opened), last_beat.eq(count - 1)]
        with m.If(self.pulse):
            m.d.sync += fresh.eq(0)
            with m.If(self.opens):
                m.d.sync += begun.eq(1)
            with m.Elif(begun != build.rows):
                m.d.sync += begun.eq(begun + 1)
        with m.If(self.took):
            m.d.sync += beat.eq(beat + 1)
        with m.If(row_end):
            m.d.sync += [beat.eq(0), self.row.eq(self.row + 1)]
        with m.If(tile_end):
            m.d.sync += [self.row.eq(0), half.eq(~half), k_tile.eq(k_tile - 1)]
            with m.If(k_tile == 1):
                m.d.sync += [k_tile.eq(job.k_tiles), rows.eq(rows - build.ws_rows)]
                with m.If(rows <= build.ws_rows):
                    m.d.sync += [rows.eq(job.m), columns.eq(columns - build.tile_columns),
                                 running.eq(columns > build.tile_columns)]
        with m.If(self.start):
            m.d.sync += [running.eq(job.ws), half.eq(0), beat.eq(0), self.row.eq(0), lead.eq(0), fresh.eq(1), begun.eq(0),
                         columns.eq(job.n), rows.eq(job.m), k_tile.eq(job.k_tiles)]
        return m
