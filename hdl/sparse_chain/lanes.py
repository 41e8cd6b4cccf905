"""Multiplexers, decoders and chains: from a step's codes and activations to the sums of all rows."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.sparse_cycles import pipeline
from ...models.spec.sparse_job import POSITIONS
from ..common.adder_tree import Node, adder_tree, signed_width
from ..common.delay import delay
from ..common.fit import fit
from .dsp_group import DspGroup

__all__ = ["BLOCK", "Lanes"]

BLOCK = 16
"""Columns that a sparse multiplexer chooses from: the largest group."""
PRODUCT_PEAK = 128 * 128
_POSITIVE = Const(0, 1)


class Lanes(Component):
    """Eight products a chain and token, summed.

    *Members*: ``word`` in: codes of the buffer's word, with ``ratio``, ``slice`` of the step; ``index_bits`` of the job;
    ``codes_j``, ``indices_j`` of position j from the store a cycle later plus j modulo ``group_dsps``; ``zero`` a chain, with
    position 0's; ``centre``: whether it counts; ``book``, ``codebook``: the codebook and whether it decodes; ``y`` out: the sums,
    ``x_sum``: of the first eight columns a token, what offsets multiply.
    *Latency*: ``latency`` cycles from ``word`` to ``y`` and ``x_sum``.
    """

    def __init__(self, build, planes):
        self.build, self.planes = build, planes
        self.latency = pipeline(build) - build.read_latency
        self.width = signed_width(-POSITIONS * PRODUCT_PEAK, POSITIONS * PRODUCT_PEAK)
        super().__init__({
            "word": In(data.ArrayLayout(data.ArrayLayout(signed(8), build.window), build.tokens)),
            "ratio": In(3), "slice": In(range(build.window // POSITIONS)), "index_bits": In(3),
            "zero": In(data.ArrayLayout(8, build.chains)), "book": In(128), "codebook": In(1),
            **{f"codes_{j}": In(build.chains * build.max_bits) for j in range(POSITIONS)},
            **{f"indices_{j}": In(build.chains * planes) for j in range(POSITIONS)},
            "y": Out(data.ArrayLayout(data.ArrayLayout(signed(self.width), build.tokens), build.chains)),
            "x_sum": Out(data.ArrayLayout(signed(11), build.tokens)),
        })

    def elaborate(self, platform):
        m = Module()
        build = self.build
        # One register for the word; the multiplexers follow.
        raw, size = delay(m, self.word, 1, "word"), 8 * build.window
        word = [raw[size * token : size * (token + 1)] for token in range(build.tokens)]
        ratio, place = delay(m, self.ratio, 1, "ratio"), delay(m, self.slice, 1, "slice")
        weights, acts = [], []
        for j in range(POSITIONS):
            skew = j % build.group_dsps
            columns, index = self._columns(m, j, word, ratio, place, skew)
            weights.append(self._weights(m, j, skew))
            acts.append(self._choose(m, j, columns, index))
        for chain in range(build.chains):
            self._chain(m, chain, [row[chain] for row in weights], [row[chain] for row in acts])
        self._x_sum(m, word, place)
        return m

    def _columns(self, m, j, word, ratio, place, skew):
        """(the columns position j chooses from, a Value a token; the part of the index that the step decides)."""
        build = self.build
        if build.window == POSITIONS:
            return [delay(m, part[8 * j : 8 * j + 8], 1 + skew, f"column_{j}_{t}") for t, part in enumerate(word)], None
        block, known = Signal(range(build.window // BLOCK)), Signal(4)
        with m.Switch(ratio):
            with m.Case(2):
                m.d.comb += block.eq((place >> 1) | j >> 2)
            with m.Case(3):
                m.d.comb += block.eq((place >> 1) | j >> 1)
            with m.Case(4):
                m.d.comb += block.eq((place >> 1) | j)
            with m.Default():
                m.d.comb += block.eq(place >> 1)
        # Groups smaller than a block: which one the position is in follows from how many a group keeps.
        with m.Switch(Cat(ratio, self.index_bits)):
            for log_group in (2, 3, 4):
                for log_ratio in range(1, log_group + 1):
                    kept = 1 << log_group - log_ratio
                    with m.Case(log_group << 3 | log_ratio):
                        m.d.comb += known.eq(j % (BLOCK >> log_ratio) // kept << log_group)
            with m.Default():
                m.d.comb += known.eq(Cat(Const(j, 3), place[0]))
        size = BLOCK * 8
        parts = [part.word_select(block, size) if build.window > BLOCK else part for part in word]
        columns = [delay(m, part, 1 + skew, f"block_{j}_{t}") for t, part in enumerate(parts)]
        return columns, delay(m, Cat(known, ratio == 0), 1 + skew, f"known_{j}")

    def _choose(self, m, j, columns, index):
        """Each chain's activations at position j, a list of tokens."""
        chains, chosen = self.build.chains, []
        for chain in range(chains):
            if index is None:
                values = columns
            else:
                own = Cat(getattr(self, f"indices_{j}")[p * chains + chain] for p in range(self.planes))
                at = index[:4] | Mux(index[4], 0, own)
                values = [column.word_select(at, 8) for column in columns]
            row = []
            for token, value in enumerate(values):
                out = Signal(signed(8), name=f"x_{j}_{chain}_{token}", reset_less=True)
                m.d.sync += out.eq(value)
                row.append(out)
            chosen.append(row)
        return chosen

    def _weights(self, m, j, skew):
        build, chains = self.build, self.build.chains
        zero, rows = delay(m, self.zero.as_value(), skew, f"zero_{j}"), []
        for chain in range(chains):
            code = Cat(getattr(self, f"codes_{j}")[p * chains + chain] for p in range(build.max_bits))
            # Fits: codes and zeros of a legal stream are at most 128 apart; the engine reports others.
            value = (code - zero.word_select(chain, 8))[:8].as_signed()
            out = Signal(signed(8), name=f"w_{j}_{chain}", reset_less=True)
            if build.codebook:
                value = Mux(self.codebook, self.book.word_select(code[:4], 8).as_signed(), value)
            m.d.sync += out.eq(value)
            rows.append(out)
        return rows

    def _chain(self, m, chain, weights, acts):
        """The cascades of a chain and the reduction nodes that join them."""
        build, size = self.build, self.build.group_dsps
        groups = []
        for at in range(0, POSITIONS, size):
            group = DspGroup(size, build.tokens, build.target)
            m.submodules[f"group_{chain}_{at}"] = group
            for j in range(size):
                m.d.comb += [group.w[j].eq(weights[at + j]),
                             *(group.x[j][t].eq(acts[at + j][t]) for t in range(build.tokens))]
            groups.append(group)
        peak = size * PRODUCT_PEAK
        for token in range(build.tokens):
            nodes = [Node(group.y[token], _POSITIVE, -peak, peak) for group in groups]
            total, _ = adder_tree(m, nodes, f"node_{chain}_{token}")
            m.d.comb += self.y[chain][token].eq(total.value)

    def _x_sum(self, m, word, place):
        for token in range(self.build.tokens):
            eight = Signal(POSITIONS * 8, name=f"eight_{token}", reset_less=True)
            m.d.sync += eight.eq(word[token].word_select(place, POSITIONS * 8))
            nodes = [Node(eight.word_select(j, 8).as_signed(), _POSITIVE, -128, 127) for j in range(POSITIONS)]
            total, levels = adder_tree(m, nodes, f"x_sum_{token}")
            m.d.comb += fit(self.x_sum[token], delay(m, total.value, self.latency - 2 - levels, f"x_sum_{token}"))
