"""The order of the periods of a job: what each computes, and where its results go."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.nm_pattern import PATTERNS
from ...models.spec.nm_train_job import MIN_SLOTS
from ..common.ports import layout
from .pe import ROWS_BITS

__all__ = ["Sequence", "group_bits", "nnz_bits", "period_layout"]


def group_bits(job):
    """log2 of the job's group."""
    return Array([group.bit_length() - 1 for _, group in PATTERNS])[job.pattern]


def nnz_bits(job):
    """log2 of the job's nnz."""
    return Array([nnz.bit_length() - 1 for nnz, _ in PATTERNS])[job.pattern]


def period_layout(build):
    """A period: whether it ``takes`` words of A and is the job's ``final`` one, which computes nothing; ``steps`` of ``slots``
    sums each; ``zero``: these begin from +0; ``opens`` a tile, ``closes`` it (output-stationary: with results in ``rows`` rows).
    Results, weight-stationary of the top row: ``valid``, in ``used`` slots, leave the array (``out``) or wait on chip, the
    first of a tile ``opens``; ``ends``: the job's last. They belong to ``row`` and ``column``."""
    record = {field.name: field.width for stream in build.outputs for field in stream.record.fields}
    return data.StructLayout({
        "takes": 1, "final": 1, "steps": 5, "slots": 5, "zero": 1, "opens": 1, "closes": 1, "rows": ROWS_BITS + 1, "valid": 1,
        "used": 5, "out": 1, "ends": 1, "row": record["row"], "column": record["column"],
    })


class Sequence(Component):
    """Counts through tiles of columns, then output-stationary tiles of rows and chunks of k; weight-stationary blocks of rows,
    tiles of k and periods, and at the end those in which lower rows finish.

    *Members*: ``job`` with ``start``; ``o`` stream of :func:`period_layout`. *Latency*: offered a cycle after ``start``, one a
    cycle.
    """

    def __init__(self, build):
        self.build = build
        super().__init__({"job": In(layout(build.job_record)), "start": In(1),
                          "o": Out(stream.Signature(period_layout(build)))})

    def elaborate(self, platform):
        m = Module()
        build, job, o = self.build, self.job, self.o.payload
        running, tail = Signal(), Signal()
        columns, column = Signal.like(job.n), Signal.like(o.column)
        rows, row = Signal.like(job.m), Signal.like(o.row)
        chunk, k_left, k_tile = Signal(), Signal.like(job.k), Signal.like(job.k_tiles)
        at = Signal(range(build.ws_rows + build.gap + 1))
        last_columns, last_rows, last_k, next_period = Signal(), Signal(), Signal(), Signal()
        used, slots = self._slots(m, columns, "")
        by_rows = Mux(job.ws, build.ws_rows, build.rows)
        block = Signal(range(max(build.ws_rows, build.rows) + 1))
        m.d.comb += [
            last_columns.eq(columns <= build.tile_columns), last_rows.eq(rows <= by_rows),
            last_k.eq(Mux(job.ws, k_tile == 1, k_left <= 16)), block.eq(Mux(last_rows, rows, by_rows)),
            self.o.valid.eq(running), next_period.eq(running & self.o.ready),
            o.slots.eq(slots), o.used.eq(used), o.column.eq(column),
            o.ends.eq(last_columns & last_rows & last_k & (~job.ws | (at == block - 1))),
        ]
        length, left = self._length(m, block, columns, slots, last_columns, last_rows & last_k), Signal.like(at)
        tile_end = Signal()
        with m.If(job.ws):
            m.d.comb += [
                o.steps.eq(1 << nnz_bits(job)), o.zero.eq(chunk), o.opens.eq(~tail & (at == 0)), o.valid.eq(~tail & (at < block)),
                o.out.eq(last_k), o.row.eq(row + at), tile_end.eq(~tail & (at == length - 1)),
                o.takes.eq(~tail | (left > 2)), o.final.eq(tail & (left == 1)),
            ]
        with m.Else():
            groups = Signal(6)
            m.d.comb += [
                groups.eq((Mux(k_left < 16, k_left[:5], 16) + ((1 << group_bits(job)) - 1)) >> group_bits(job)),
                o.steps.eq(groups << nnz_bits(job)), o.zero.eq(chunk), o.opens.eq(chunk), o.closes.eq(last_k), o.rows.eq(block),
                o.valid.eq(~tail), o.out.eq(1), o.row.eq(row), tile_end.eq(~tail), o.takes.eq(~tail), o.final.eq(tail),
            ]
        with m.If(next_period):
            m.d.sync += at.eq(at + 1)
            with m.If(tail):
                m.d.sync += [left.eq(left - 1), running.eq(left != 1)]
            with m.Elif(tile_end):
                m.d.sync += [at.eq(0), chunk.eq(0), k_left.eq(k_left - 16), k_tile.eq(k_tile - 1)]
                with m.If(last_k):
                    m.d.sync += [chunk.eq(1), k_left.eq(job.k), k_tile.eq(job.k_tiles), rows.eq(rows - by_rows),
                                 row.eq(row + by_rows)]
                    with m.If(last_rows):
                        m.d.sync += [rows.eq(job.m), row.eq(0), columns.eq(columns - build.tile_columns),
                                     column.eq(column + build.tile_columns)]
                        with m.If(last_columns):
                            m.d.sync += [columns.eq(columns), column.eq(column), tail.eq(1),
                                         left.eq(Mux(job.ws, build.rows + 1, 1))]
        with m.If(self.start):
            m.d.sync += [running.eq(1), tail.eq(0), columns.eq(job.n), column.eq(0), rows.eq(job.m), row.eq(0), chunk.eq(1),
                         k_left.eq(job.k), k_tile.eq(job.k_tiles), at.eq(0)]
        return m

    def _slots(self, m, columns, name):
        """(slots with columns, slots) of a tile when ``columns`` are left."""
        build = self.build
        shift = build.cols.bit_length() - 1
        used, slots = Signal(5, name=f"used{name}"), Signal(5, name=f"slots{name}")
        rest = (columns + (build.cols - 1)) >> shift
        m.d.comb += [used.eq(Mux(columns >= build.tile_columns, build.slots, rest[:5])),
                     slots.eq(Mux(used < MIN_SLOTS, MIN_SLOTS, used))]
        return used, slots

    def _length(self, m, block, columns, slots, last_columns, at_end):
        """Periods of a tile, weight-stationary: ``spec.nm_train_cycles.ws_periods``."""
        build = self.build
        length = Signal(range(build.ws_rows + build.gap + 1))
        _, later = self._slots(m, (columns - build.tile_columns)[: len(columns)], "_next")
        with m.If(at_end & last_columns):
            m.d.comb += length.eq(block)
        with m.Elif(at_end & (later != slots)):
            m.d.comb += length.eq(block + build.gap)
        with m.Else():
            m.d.comb += length.eq(Mux(block < build.gap, build.gap, block))
        return length
