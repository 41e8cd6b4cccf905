"""Datapath ``tree``: masked activations through an add/subtract tree with deferred signs."""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from ..common.adder_tree import Node, adder_tree
from ..common.delay import delay
from ..common.fit import fit
from .decode import pair_zeros, split, triple_zeros

__all__ = ["TernaryTree"]


class TernaryTree(Component):
    """One sum a row and cycle: (-1)**sign * value = sum over the lanes of activation * trit.

    *Behaviour*: a zero trit clears its lane's register through the synchronous reset, so masking takes no LUT; signs are not
    applied to activations: each node adds or subtracts by the relative sign and passes one sign on.
    *Members*: ``w`` in, the beat accepted in the cycle before; ``act`` in, its activations, ``read_latency`` cycles after
    acceptance;
    ``value``, ``sign`` out, one of each a row.
    *Latency*: ``latency`` cycles from the acceptance of a beat to its sums; one beat a cycle.
    """

    def __init__(self, build):
        self.build = build
        self.latency = build.datapath_latency
        self.width = build.act_bits + build.levels
        super().__init__({
            "w": In(8 * build.beat_bytes), "act": In(build.lanes * build.act_bits),
            "value": Out(data.ArrayLayout(signed(self.width), build.rows)), "sign": Out(build.rows),
        })

    def elaborate(self, platform):
        m = Module()
        build = self.build
        beat = delay(m, self.w, build.read_latency - 2, "beat")
        row_bits = 8 * build.beat_bytes // build.rows
        for row in range(build.rows):
            node = self._row(m, beat[row * row_bits : (row + 1) * row_bits], f"row{row}")
            m.d.comb += [fit(self.value[row], node.value), self.sign[row].eq(node.sign)]
        return m

    def _row(self, m, codes, name):
        pairs, singles = [], []
        for index in range(len(codes) // 8):
            triple, pair = split(codes[8 * index : 8 * index + 8])
            zeros = Signal(5, name=f"{name}_zeros{index}", reset_less=True, attrs={"direct_reset": "yes"})
            tail = Signal(5, name=f"{name}_code{index}", reset_less=True)
            m.d.sync += [
                zeros.eq(Cat(*triple_zeros(triple), *pair_zeros(pair))),
                tail.eq(Cat(triple[1], triple[0], triple[4], pair[0], pair[1])),
            ]
            # One register stage later the signs must stand beside the masked activations.
            c, d, g, x0, x1 = delay(m, tail, 1, f"{name}_sign{index}")
            trits = [self._lane(m, 5 * index + place, zeros[place], f"{name}_a{5 * index + place}") for place in range(5)]
            t0, t1, t2, t3, t4 = trits
            pairs.append(self._node(t0, g).join(m, self._node(t1, None), f"{name}_p{2 * index}", relative=c))
            pairs.append(self._node(t3, x0).join(m, self._node(t4, None), f"{name}_p{2 * index + 1}", relative=x1))
            singles.append(self._node(t2, g ^ d))
        for index in range(0, len(singles) - 1, 2):
            pairs.append(singles[index].join(m, singles[index + 1], f"{name}_s{index}"))
        if len(singles) % 2:
            pairs.append(singles[-1].wait(m, f"{name}_s_odd"))
        root, _ = adder_tree(m, pairs, f"{name}_n")
        return root

    def _lane(self, m, lane, zero, name):
        bits = self.build.act_bits
        value = Signal(signed(bits), name=name, reset_less=True)
        with m.If(zero):
            m.d.sync += value.eq(0)
        with m.Else():
            m.d.sync += value.eq(self.act[lane * bits : (lane + 1) * bits].as_signed())
        return value

    def _node(self, value, sign):
        peak = self.build.act_peak
        return Node(value, sign, -peak, peak - 1)

