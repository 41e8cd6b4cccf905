"""From whole sums to result beats: queue, serialise, apply signs, requantise, gather statistics."""

from amaranth.hdl import Const, Module, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ..common.adder_tree import add_sub
from ..common.countdown import Countdown
from ..common.fifo import Fifo
from ..common.fit import fit
from ..common.ports import layout
from ..common.requantise import Requantise
from ..common.statistics import Statistics
from ..common.stream_register import StreamRegister

__all__ = ["Results"]


class Results(Component):
    """Takes the ``rows`` sums of a row group and token, delivers them ``result_lanes`` a beat with row and token.

    *Parameters*: ``sums``, layout of the sums (with ``value`` and ``sign``, or plain); ``pipeline``, cycles from ``issued`` to
    ``put``: the queue holds so many that a sum may begin in every cycle while results leave as fast.
    *Members*: ``sums`` with ``put``; ``issued``: a sum that will be put was begun; ``credit`` out: one more may begin; ``job``
    with ``start``;
    ``o_y``, ``o_stat``; ``finish`` high when the last beat of the job was taken; ``saturated``, ``overflow`` for its
    completion; ``stall`` high while a result is refused.
    *Latency*: ``latency`` cycles from ``put`` to the offer of the sum's first beat.
    """

    def __init__(self, build, sums, pipeline):
        self.build, self.sums_layout = build, sums
        self.depth = 1 << (pipeline + 3).bit_length()
        self.latency = build.result_latency
        outputs = {f"o_{s.name}": Out(stream.Signature(layout(s.record))) for s in build.outputs}
        super().__init__({
            "sums": In(sums), "put": In(1), "issued": In(1), "credit": Out(1),
            "job": In(layout(build.job_record)), "start": In(1),
            "finish": Out(1), "saturated": Out(32), "overflow": Out(1), "stall": Out(1), **outputs,
        })

    def elaborate(self, platform):
        m = Module()
        beat = self.o_y.payload.shape()
        m.submodules.queue = queue = Fifo(self.sums_layout, self.depth)
        m.submodules.out = out = StreamRegister(data.StructLayout({"beat": beat, "final": 1}))
        m.d.comb += [queue.i.payload.eq(self.sums), queue.i.valid.eq(self.put)]
        self._give_credit(m, queue.o)

        en = out.i.ready | ~out.i.valid
        lanes, way = self._serialise(m, queue.o, en)
        chosen = Signal(lanes.shape(), name="chosen", reset_less=True)
        width, count = signed(self.build.acc_width), self.build.result_lanes
        values = [Signal(width, name=f"value_{i}", reset_less=True) for i in range(count)]
        ways = [way]
        for index in range(self.latency - 2):
            ways.append(Signal(way.shape(), name=f"way_{index}"))
        with m.If(en):
            m.d.sync += [chosen.eq(lanes), *(after.eq(before) for before, after in zip(ways[:-1], ways[1:], strict=True))]
            for value, lane in zip(values, chosen, strict=True):
                m.d.sync += value.eq(add_sub(Const(0), lane.value, lane.sign) if self._signed else lane)
        results = self._requantise(m, en, ways[-1].valid, values) if self.build.requantise else values
        m.d.comb += [
            out.i.valid.eq(ways[-1].valid), out.i.payload.final.eq(ways[-1].final),
            out.i.payload.beat.row.eq(ways[-1].row), out.i.payload.beat.token.eq(ways[-1].token),
            self.o_y.payload.eq(out.o.payload.beat), self.o_y.valid.eq(out.o.valid), out.o.ready.eq(self.o_y.ready),
        ]
        place = out.i.payload.beat.data
        m.d.comb += [fit(place[i] if count > 1 else place, result) for i, result in enumerate(results)]
        taken = out.o.valid & out.o.ready & out.o.payload.final
        if self.build.statistics:
            self._statistics(m, en & ways[2].valid, ways[2], values, taken)
        else:
            m.d.comb += [self.finish.eq(taken), self.stall.eq(self.o_y.valid & ~self.o_y.ready)]
        return m

    @property
    def _signed(self):
        return isinstance(self.sums_layout.elem_shape, data.StructLayout)

    def _give_credit(self, m, head):
        free, some = Signal(range(self.depth + 1), init=self.depth), Signal(init=1)
        taken = head.valid & head.ready
        with m.If(self.issued & ~taken):
            m.d.sync += [free.eq(free - 1), some.eq(free != 1)]
        with m.Elif(taken & ~self.issued):
            m.d.sync += [free.eq(free + 1), some.eq(1)]
        m.d.comb += self.credit.eq(some)

    def _serialise(self, m, head, en):
        """(lanes, way) of the present part of the sum at the queue's head; rows and tokens in the order of the datapath."""
        build, lanes = self.build, self.build.result_lanes
        parts = build.rows // lanes
        part, token = Signal(range(parts)), Signal(range(build.max_m))
        groups = Countdown(build.max_n, "result_row", by=build.rows)
        tokens = Countdown(build.max_m, "result_token")
        # ``rest``: results left in the row group, this part included; ``row``: first of this part, ``base``: of the row group.
        rest, last_part = Signal(range(build.max_n + 1)), Signal()
        row, base, fresh, fresh_group = Signal(20), Signal(20), Signal(), Signal()
        way = Signal(data.StructLayout({"valid": 1, "row": 20, "token": token.shape(), "final": 1, "first": 1}))
        shape = data.ArrayLayout(self.sums_layout.elem_shape, lanes)
        bits = head.payload.as_value()
        m.d.comb += [
            head.ready.eq(en & last_part), way.valid.eq(head.valid), way.row.eq(row), way.token.eq(token),
            way.final.eq(last_part & groups.last & tokens.last), way.first.eq(fresh),
        ]

        def begin(left, row_base, first):
            """The first part of a sum whose row group begins at ``row_base`` with ``left`` results to go."""
            return [part.eq(0), rest.eq(left), last_part.eq((left <= lanes) | (parts == 1)), row.eq(row_base), base.eq(row_base),
                    fresh_group.eq(first), fresh.eq(first)]

        next_token = [*tokens.advance(), token.eq(token + 1)]
        with m.If(head.valid & en):
            m.d.sync += [part.eq(part + 1), rest.eq(rest - lanes), row.eq(row + lanes), fresh.eq(0),
                         last_part.eq((part == parts - 2) | (rest <= 2 * lanes))]
            with m.If(last_part):
                next_group = [*groups.advance(), *begin(groups.left - build.rows, base + build.rows, 0)]
                if build.datapath == "tree":
                    m.d.sync += [*next_token, *begin(groups.left, base, fresh_group)]
                    with m.If(tokens.last):
                        m.d.sync += [*tokens.load(self.job.m), token.eq(0), *next_group]
                else:
                    m.d.sync += next_group
                    with m.If(groups.last):
                        m.d.sync += [*groups.load(self.job.n), *next_token, *begin(self.job.n, 0, self.job.first)]
        with m.If(self.start):
            m.d.sync += [*groups.load(self.job.n), *tokens.load(self.job.m), token.eq(0), *begin(self.job.n, 0, self.job.first)]
        return data.View(shape, bits.word_select(part, shape.size) if parts > 1 else bits), way

    def _requantise(self, m, en, valid, values):
        """Results three moves after ``values``; counts the clamped ones."""
        units = []
        for index, value in enumerate(values):
            unit = Requantise(self.build.acc_width, len(self.job.multiplier), (1 << len(self.job.shift)) - 1)
            m.submodules[f"requantise_{index}"] = unit
            m.d.comb += [unit.x.eq(value), unit.multiplier.eq(self.job.multiplier), unit.shift.eq(self.job.shift),
                         unit.bypass.eq(~self.job.requantise), unit.en.eq(en)]
            units.append(unit)
        with m.If(self.start):
            m.d.sync += self.saturated.eq(0)
        with m.Elif(en & valid):
            m.d.sync += self.saturated.eq(self.saturated + sum(unit.saturated for unit in units))
        return [unit.y for unit in units]

    def _statistics(self, m, valid, way, values, taken):
        build = self.build
        m.submodules.statistics = unit = Statistics(build.acc_width, len(values), build.max_m, build.square_width)
        token, ended = Signal(range(build.max_m)), Signal()
        m.d.comb += [
            unit.valid.eq(valid), unit.first.eq(way.first), unit.token.eq(way.token), unit.read_token.eq(token),
            unit.clear.eq(self.start & self.job.first), self.overflow.eq(unit.overflow),
            *(fit(x, value) for x, value in zip(unit.x, values, strict=True)),
            self.o_stat.payload.token.eq(token), self.o_stat.payload.absmax.eq(unit.absmax),
            self.o_stat.payload.squares.eq(unit.squares),
            self.o_stat.valid.eq(ended & unit.idle & self.job.last),
            self.finish.eq(ended & unit.idle & (~self.job.last | (self.o_stat.ready & (token + 1 == self.job.m)))),
            self.stall.eq((self.o_y.valid & ~self.o_y.ready) | (self.o_stat.valid & ~self.o_stat.ready)),
        ]
        with m.If(taken):
            m.d.sync += [ended.eq(1), token.eq(0)]
        with m.If(self.o_stat.valid & self.o_stat.ready):
            m.d.sync += token.eq(token + 1)
        with m.If(self.finish | self.start):
            m.d.sync += ended.eq(0)
        return unit
