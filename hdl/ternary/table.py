"""Datapath ``table``: signed sums of three and of two activations looked up in distributed memory."""

from amaranth.hdl import Cat, Const, Module, Signal, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..common.adder_tree import Node, adder_tree
from ..common.delay import delay
from ..common.fit import fit
from .decode import pair_zeros, split, triple_zeros

__all__ = ["TernaryTable", "FILL_ENTRIES"]

FILL_ENTRIES = 16
_READ_PORTS = 7
"""Rows that share one copy of a table: the read ports of an eight-LUT memory. More rows get copies filled alike."""
_FILL_LATENCY = 3


class TernaryTable(Component):
    """One sum a row and cycle, as :class:`~.tree.TernaryTree`, by look-up (after T-MAC, arXiv 2407.00088, with ternary entries).

    *Behaviour*: every five lanes have a table of triples, addressed by a triple code without its sign, and one of pairs. Two
    sets of tables alternate: one is read while the other fills, an entry a cycle.
    *Members*: ``w`` in, the beat accepted in the cycle before; ``set`` in, beside ``w``: the set to read; ``fill`` in: write
    entry
    ``fill_entry`` of set ``fill_set`` from ``act``, which stands still meanwhile; ``value``, ``sign`` out.
    *Latency*: ``latency`` cycles from the acceptance of a beat to its sums. A beat may be accepted ``FILL_READY`` cycles after
    the fill's last entry was asked for; a set may be asked to fill again in the cycle after its last beat was accepted.
    """

    FILL_READY = _FILL_LATENCY - 1

    def __init__(self, build):
        self.build = build
        self.fives = build.lanes // 5
        self.latency = build.datapath_latency
        self.width = build.act_bits + 3 + build.levels
        super().__init__({
            "w": In(8 * build.beat_bytes), "set": In(1), "act": In(build.lanes * build.act_bits),
            "fill": In(1), "fill_set": In(1), "fill_entry": In(range(FILL_ENTRIES)),
            "value": Out(data.ArrayLayout(signed(self.width), build.rows)), "sign": Out(build.rows),
        })

    def elaborate(self, platform):
        m = Module()
        build = self.build
        write = delay(m, Cat(self.fill_entry, self.fill_set), _FILL_LATENCY, "write_addr")
        enable = delay(m, self.fill, _FILL_LATENCY, "write_enable", reset_less=False)
        chosen = delay(m, self.set, 1, "set")
        triples, pairs = [], []
        for five in range(self.fives):
            triple, pair = self._fill(m, five)
            triples.append(self._table(m, f"triples{five}", triple, write, enable))
            pairs.append(self._table(m, f"pairs{five}", pair, write, enable))
        row_bits = 8 * build.beat_bytes // build.rows
        for row in range(build.rows):
            nodes = []
            for five in range(self.fives):
                offset = row * row_bits + 8 * five
                byte = self.w[offset : offset + 8]
                nodes.append(self._row(m, byte, chosen, triples[five][row], pairs[five][row], f"row{row}_{five}"))
            root, _ = adder_tree(m, nodes, f"row{row}_n")
            m.d.comb += [fit(self.value[row], root.value), self.sign[row].eq(root.sign)]
        return m

    def _fill(self, m, five):
        """The sums to write for ``fill_entry``, ``_FILL_LATENCY`` cycles later: (triple, pair)."""
        bits, peak = self.build.act_bits, self.build.act_peak
        code = self.fill_entry
        zeros = Cat(*triple_zeros(code), *pair_zeros(code))
        lanes = []
        for place in range(5):
            lane = Signal(signed(bits), name=f"fill{five}_{place}", reset_less=True)
            start = (5 * five + place) * bits
            with m.If(zeros[place]):
                m.d.sync += lane.eq(0)
            with m.Else():
                m.d.sync += lane.eq(self.act[start : start + bits].as_signed())
            lanes.append(Node(lane, Const(0), -peak, peak - 1))
        d, c, x1, x0 = (delay(m, code[bit], 1, f"fill{five}_code{index}") for index, bit in enumerate((0, 1, 1, 0)))
        pair01 = lanes[0].join(m, lanes[1], f"fill{five}_01", relative=c)
        pair34 = lanes[3].join(m, lanes[4], f"fill{five}_34", relative=x1)
        triple = pair01.join(m, lanes[2].wait(m, f"fill{five}_2"), f"fill{five}_012", relative=delay(m, d, 1, f"fill{five}_d")[0])
        zero = Node(Const(0, signed(1)), Const(0), 0, 0)
        pair = zero.join(m, pair34, f"fill{five}_pm34", relative=delay(m, x0, 1, f"fill{five}_x0")[0])
        return triple, pair

    def _table(self, m, name, node, addr, enable):
        """Read data of one table for every row: a list of (addr, data) port pairs."""
        ports = []
        for first in range(0, self.build.rows, _READ_PORTS):
            memory = Memory(shape=signed(len(node.value)), depth=2 * FILL_ENTRIES, init=[])
            m.submodules[f"{name}_{first}"] = memory
            port = memory.write_port()
            m.d.comb += [port.addr.eq(addr), port.en.eq(enable), port.data.eq(node.value)]
            for _ in range(first, min(first + _READ_PORTS, self.build.rows)):
                ports.append((memory.read_port(domain="comb"), node))
        return ports

    def _row(self, m, byte, chosen, triple, pair, name):
        code3, code2 = split(byte)
        address = Signal(9, name=f"{name}_address", reset_less=True)
        m.d.sync += address.eq(Cat(code3, code2))
        looked = []
        for (port, node), code, label in ((triple, address[0:4], "t"), (pair, address[5:9], "p")):
            m.d.comb += port.addr.eq(Cat(code, chosen))
            value = Signal(signed(len(node.value)), name=f"{name}_{label}", reset_less=True)
            m.d.sync += value.eq(port.data)
            looked.append((value, node))
        sign = delay(m, address[4], 1, f"{name}_sign")
        (triple_value, triple_node), (pair_value, pair_node) = looked
        first = Node(triple_value, sign, triple_node.low, triple_node.high)
        return first.join(m, Node(pair_value, Const(0), pair_node.low, pair_node.high), f"{name}_tp")
