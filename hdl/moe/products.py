"""The ring of weights, the cascades of multipliers, and the sums of a group of tokens."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.moe_linear import POSITIONS
from ...models.spec.moe_linear_cycles import front_latency
from ..common.adder_tree import Node, adder_tree
from ..common.delay import delay
from ..common.fit import fit
from ..sparse_chain.dsp_group import DspGroup

__all__ = ["Products"]

_POSITIVE = Const(0, 1)
_PEAK = POSITIONS * 128 * 128


class Products(Component):
    """Multiplies a step's activations of ``tokens`` tokens with its weights of ``rows`` rows and adds up a group's steps.

    A multiplier of two products has the weights of two rows for its two operands, and the activation that they share.
    *Members*: ``beat`` with ``weights``, ``part``, ``word_at``: it goes into the ring; ``step``, ``first``, ``last``, ``at`` of
    a step when it is issued; ``asked[t]`` when the request for a token's activations was accepted, ``codes[t]`` their data;
    ``sums[t][r]`` of a whole group, from the cycle after ``put`` until the next group's.
    *Latency*: ``put`` comes ``front_latency`` cycles after a group's last step. *Handshake*: none, a step a cycle.
    """

    def __init__(self, build):
        self.build = build
        self.sum_shape = signed(build.acc_width)
        super().__init__({
            "beat": In(8 * build.beat_bytes), "weights": In(1), "part": In(range(max(2, build.word_beats))),
            "word_at": In(range(build.ring_words)),
            "step": In(1), "first": In(1), "last": In(1), "at": In(range(build.ring_words)),
            "asked": In(build.tokens), "codes": In(data.ArrayLayout(data.ArrayLayout(8, build.lanes), build.tokens)),
            "sums": Out(data.ArrayLayout(data.ArrayLayout(self.sum_shape, build.rows), build.tokens)), "put": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        build, eights = self.build, self.build.lanes // POSITIONS
        columns = [self._column(m, j) for j in range(POSITIONS)]
        acts = []
        for t in range(build.tokens):
            come = delay(m, self.asked[t], build.read_latency, f"come_{t}", reset_less=False)
            codes = Signal(8 * build.lanes, name=f"codes_{t}", reset_less=True)
            # What came early waits here for the other tokens' activations of the step.
            with m.If(come):
                m.d.sync += codes.eq(self.codes[t].as_value())
            acts.append([delay(m, Cat(codes.word_select(i * POSITIONS + j, 8) for i in range(eights)), j, f"act_{t}_{j}")
                         for j in range(POSITIONS)])
        whole = front_latency(build)
        valid = delay(m, self.step, whole, "valid", reset_less=False)
        first, last = delay(m, self.first, whole, "first"), delay(m, self.last, whole, "last")
        m.d.comb += self.put.eq(valid & last)
        for t in range(build.tokens):
            totals = [None] * build.rows
            for pair in range(build.rows // 2):
                rows = [2 * pair, 2 * pair + 1]
                nodes = [[], []]
                for i in range(eights):
                    group = DspGroup(POSITIONS, 2, build.target)
                    m.submodules[f"group_{t}_{pair}_{i}"] = group
                    for j in range(POSITIONS):
                        m.d.comb += [group.w[j].eq(acts[t][j].word_select(i, 8).as_signed()),
                                     *(group.x[j][side].eq(columns[j].word_select(row * eights + i, 8).as_signed())
                                       for side, row in enumerate(rows))]
                    for side in range(2):
                        nodes[side].append(group.y[side])
                for side, row in enumerate(rows):
                    totals[row] = self._total(m, nodes[side], f"total_{t}_{row}")
            for row, total in enumerate(totals):
                self._accumulate(m, t, row, total, valid, first)
        return m

    def _column(self, m, j):
        """The ring of the weights of position j: bytes row * eights + i of the step, skewed by j cycles."""
        build = self.build
        size, beat = 8 * build.word_bytes // POSITIONS, build.beat_bytes // POSITIONS
        m.submodules[f"ring_{j}"] = ring = Memory(shape=size, depth=build.ring_words, init=[])
        put, get = ring.write_port(granularity=8 * beat), ring.read_port()
        part = Cat(self.beat.word_select(i * POSITIONS + j, 8) for i in range(beat))
        m.d.comb += [
            put.addr.eq(self.word_at), put.data.eq(part.replicate(build.word_beats)),
            put.en.eq(Mux(self.weights, 1 << self.part, 0)[: build.word_beats]),
            # A cycle for the read, one for the register behind it; the activations have a register of their own.
            get.addr.eq(delay(m, self.at, build.read_latency - 1 + j, f"at_{j}")),
        ]
        return delay(m, get.data, 1, f"column_{j}")

    def _total(self, m, values, name):
        total, _ = adder_tree(m, [Node(value, _POSITIVE, -_PEAK, _PEAK) for value in values], name)
        return total.value

    def _accumulate(self, m, t, row, total, valid, first):
        """A token's sum of a row over the steps of its group, and the register that holds it when it is whole."""
        acc = Signal(self.sum_shape, name=f"acc_{t}_{row}", reset_less=True)
        held = Signal(self.sum_shape, name=f"held_{t}_{row}", reset_less=True)
        # Fits: the spec's acc_width holds every sum of max_k products.
        after = (Mux(first, 0, acc) + total)[: len(acc)].as_signed()
        with m.If(valid):
            m.d.sync += acc.eq(after)
        with m.If(self.put):
            m.d.sync += held.eq(after)
        m.d.comb += fit(self.sums[t][row], held)

