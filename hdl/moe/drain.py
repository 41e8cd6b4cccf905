"""From the sums of a group to beats, a token and a chunk of rows a cycle, with the numbers that belong to them."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.moe_linear_cycles import HEADERS
from ...models.spec.moe_linear_job import BIAS_BITS, HEADER_BYTES, SCALE_BITS
from ..common.ports import layout
from .pair_queue import group_layout

__all__ = ["Drain", "beat_layout"]


def beat_layout(build):
    """What comes with a beat: ``row``, ``token`` of the result; ``emit``: it leaves; ``ends`` the job; with scores ``score``,
    ``first`` of its token, ``place`` in the memory of sums."""
    members = {"row": 16, "token": 16, "emit": 1, "ends": 1}
    if build.scores:
        members |= {"score": 16, "first": 1, "place": range(build.max_m * build.score_tiles * build.chunks)}
    return data.StructLayout(members)


class Drain(Component):
    """Chooses the sums of a token and a chunk, and their scales and biases from the headers.

    *Members*: ``beat`` with ``header``, ``part``, ``header_at``: it goes into the ring of headers; ``put`` with ``group`` and
    ``scales`` when a group's sums come, in the next cycle in ``sums``; ``valid`` out, with ``acc``, ``w_scale``, ``bias`` a lane,
    ``x_scale``, ``what`` (:func:`beat_layout`); ``header_release`` when a tile's last beat was chosen.
    *Latency*: the first beat two cycles after ``put``, then one a cycle. *Limits*: the next ``put`` comes no sooner than the
    last beat is chosen.
    """

    def __init__(self, build):
        self.build = build
        lanes = build.out_lanes
        super().__init__({
            "beat": In(8 * build.beat_bytes), "header": In(1), "part": In(range(max(2, build.header_beats))),
            "header_at": In(range(HEADERS)), "job": In(layout(build.job_record)), "start": In(1),
            "put": In(1), "group": In(group_layout(build)), "scales": In(data.ArrayLayout(SCALE_BITS, build.tokens)),
            "sums": In(data.ArrayLayout(data.ArrayLayout(signed(build.acc_width), build.rows), build.tokens)),
            "valid": Out(1), "acc": Out(data.ArrayLayout(signed(build.acc_width), lanes)),
            "w_scale": Out(data.ArrayLayout(SCALE_BITS, lanes)), "bias": Out(data.ArrayLayout(signed(BIAS_BITS), lanes)),
            "x_scale": Out(SCALE_BITS), "what": Out(beat_layout(build)), "header_release": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, lanes = self.build, self.build.out_lanes
        group, scales = Signal(group_layout(build), reset_less=True), Signal(self.scales.shape(), reset_less=True)
        active, token, chunk = Signal(), Signal(range(build.tokens)), Signal(range(build.chunks))
        header_get = Signal(range(HEADERS))
        tile_row = Signal(range(build.max_n + build.rows))
        tile_place = Signal(range(build.max_m * build.max_tiles * build.chunks))
        chunk_end, end = Signal(), Signal()
        m.d.comb += [
            chunk_end.eq(chunk + 1 == group.chunks), end.eq(active & chunk_end & (token + 1 == group.count)),
            self.header_release.eq(end & group.closes),
        ]
        with m.If(active):
            m.d.sync += chunk.eq(chunk + 1)
            with m.If(chunk_end):
                m.d.sync += [chunk.eq(0), token.eq(token + 1)]
        with m.If(self.header_release):
            m.d.sync += header_get.eq(header_get + 1)
        with m.If(self.put):
            m.d.sync += [active.eq(1), token.eq(0), chunk.eq(0), group.eq(self.group), scales.eq(self.scales)]
            with m.If(self.group.begins):
                m.d.sync += [tile_row.eq(0), tile_place.eq(0)]
            with m.Elif(self.group.opens):
                m.d.sync += [tile_row.eq(tile_row + build.rows), tile_place.eq(tile_place + build.max_m * build.chunks)]
        with m.Elif(end):
            m.d.sync += active.eq(0)
        with m.If(self.start):
            m.d.sync += header_get.eq(0)
        header, what, own = self._header(m, header_get), self.what, group.tokens[token]
        ends = end & group.ends
        row_bytes = 8 * HEADER_BYTES
        for lane in range(lanes):
            entry = header.word_select(chunk, lanes * row_bytes).word_select(lane, row_bytes)
            sums = self.sums.as_value().word_select(token * build.chunks + chunk, lanes * build.acc_width)
            m.d.sync += [self.acc[lane].eq(sums.word_select(lane, build.acc_width)), self.w_scale[lane].eq(entry[:SCALE_BITS]),
                         self.bias[lane].eq(entry[SCALE_BITS:])]
        m.d.sync += [
            self.valid.eq(active), self.x_scale.eq(scales[token]), what.row.eq(tile_row + chunk * lanes),
            what.token.eq(own.row), what.ends.eq(ends), what.emit.eq(1),
        ]
        if build.scores:
            m.d.sync += [
                what.score.eq(own.score), what.first.eq(own.first), what.emit.eq(~self.job.use_score | own.last | ends),
                # Fits for a legal job: within the memory's tiles and tokens.
                what.place.eq((tile_place + chunk * build.max_m + own.row)[: len(what.place)]),
            ]
        return m

    def _header(self, m, at):
        """The header of the tile at work."""
        build, parts = self.build, []
        left = 8 * HEADER_BYTES * build.rows
        for part in range(build.header_beats):
            width = min(left, len(self.beat))
            left -= width
            m.submodules[f"header_{part}"] = memory = Memory(shape=width, depth=HEADERS, init=[])
            put, get = memory.write_port(), memory.read_port(domain="comb")
            m.d.comb += [put.addr.eq(self.header_at), put.data.eq(self.beat[:width]), get.addr.eq(at),
                         put.en.eq(Mux(self.part == part, self.header, 0))]
            parts.append(get.data)
        return Cat(parts)
