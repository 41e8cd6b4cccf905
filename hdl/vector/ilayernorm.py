"""I-ViT's LayerNorm: sums as the row comes, an integer square root, then the row again."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component

from ...models.spec.vector_cycles import MULTIPLY_LATENCY, ROWS, memory_depths
from ...models.spec.vector_job import ILAYERNORM_BITS
from ..common.delay import delay
from ..common.fifo import Fifo
from ..common.fit import fit
from ..common.ports import layout
from .multiply import multiply
from .root import Root
from .row_memory import RowMemory
from .row_sums import RowSums
from .stage import stage_ports

__all__ = ["Ilayernorm"]


class Ilayernorm(Component):
    """v = floor((x - mean) * factor / 2) + beta, x clamped to int16.

    *Members*: :func:`~.stage.stage_ports`. *Latency*: ``spec.vector_cycles``; rows wait for their root, one at a time.
    """

    def __init__(self, build):
        self.build = build
        super().__init__(stage_ports(build))

    def elaborate(self, platform):
        m = Module()
        build, job = self.build, self.job
        m.submodules.sums = sums = RowSums(build)
        m.submodules.root = root = Root(build)
        m.submodules.queue = queue = Fifo(root.i.payload.shape(), ROWS)
        statistic = data.StructLayout({"mean": signed(ILAYERNORM_BITS), "factor": 31})
        m.submodules.rows = rows = RowMemory(
            build, signed(ILAYERNORM_BITS), memory_depths(build)[0], statistic, build.read_latency)
        over = Signal(build.lanes)
        for lane in range(build.lanes):
            x, high = self.x[lane], self.x[lane][ILAYERNORM_BITS - 1 :]
            outside, top = high.any() & ~high.all(), 1 << ILAYERNORM_BITS - 1
            limited = Signal(signed(ILAYERNORM_BITS), name=f"limited_{lane}", reset_less=True)
            edge = Mux(x[-1], -top, top - 1)
            m.d.sync += limited.eq(Mux(outside, edge, x[:ILAYERNORM_BITS].as_signed()))
            m.d.comb += [over[lane].eq(outside), sums.x[lane].eq(limited), rows.data[lane].eq(limited)]
        put = delay(m, self.put, 1, "put", reset_less=False)
        early, count = Signal.like(self.early), Signal(build.count_width, reset_less=True)
        m.d.sync += [early.eq(Mux(self.put, sum(over), 0)),
                     count.eq(((job.beats - 1) * build.lanes + job.tail)[: build.count_width])]
        weight = self.x_weight
        m.d.comb += [
            self.early.eq(early), sums.put.eq(put), sums.first.eq(delay(m, self.first, 1, "first")),
            sums.last.eq(delay(m, self.last, 1, "last")),
            queue.i.valid.eq(sums.known), queue.i.payload.total.eq(sums.total), queue.i.payload.squares.eq(sums.squares),
            root.i.valid.eq(queue.o.valid), root.i.payload.eq(queue.o.payload), queue.o.ready.eq(root.i.ready),
            root.count.eq(count), rows.job.eq(job), rows.start.eq(self.start), rows.took.eq(self.took),
            rows.took_last.eq(self.took_last), self.room.eq(rows.room), rows.put.eq(put), rows.known.eq(root.known),
            rows.statistic.mean.eq(root.mean), rows.statistic.factor.eq(root.factor),
            weight.valid.eq(rows.offers & self.credit), weight.addr.eq(rows.beat), rows.go.eq(weight.valid & weight.ready),
            self.stall.eq(weight.valid & ~weight.ready), self.issued.eq(rows.go),
        ]
        latency = [self._lane(m, lane, rows) for lane in range(build.lanes)][0]
        m.d.comb += [self.y_put.eq(delay(m, rows.o_put, latency, "made", reset_less=False)),
                     self.y_last.eq(delay(m, rows.o_last, latency, "made_last"))]
        return m

    def _lane(self, m, lane, rows):
        """Cycles from a row's word to the value of its lane."""
        build, word = self.build, rows.o_statistic
        y = Signal(signed(ILAYERNORM_BITS + 1), name=f"y_{lane}", reset_less=True)
        m.d.sync += fit(y, rows.o_data[lane] - word.mean)
        # |y| <= root: the product has 32 bits.
        product = multiply(m, y, delay(m, word.factor, 1, f"factor_{lane}"), f"scaled_{lane}")
        half = Signal(signed(31), name=f"half_{lane}", reset_less=True)
        m.d.sync += half.eq(product[1:32].as_signed())
        weights = data.View(layout(build.weight_record), self.x_weight.data)
        beta = weights.beta[lane] if build.lanes > 1 else weights.beta
        at = 1 + MULTIPLY_LATENCY + 1
        value = Signal(signed(build.value_width), name=f"value_{lane}", reset_less=True)
        m.d.sync += fit(value, half + delay(m, beta, at, f"beta_{lane}"))
        m.d.comb += self.y[lane].eq(value)
        return at + 1
