"""A lane of the pruner: the largest weights of its group, in the order of their indices, as bfloat16."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.floats import CANONICAL_NAN
from ...models.spec.nm_pattern import MAX_GROUP, MAX_NNZ
from ..common.fit import fit
from .prune_merge import leaf, merge, registered, weight_layout

__all__ = ["PruneLane", "control_layout"]

_INDEX_BITS = (MAX_GROUP - 1).bit_length()


def control_layout():
    """What all lanes are told. ``over``: whether groups have more than 1, 4, 8 weights; ``put``: the sorted weights of ``beat``
    of a group are there; ``full``: the list of its largest is complete; ``kept``: how many of them the pattern keeps, a bit
    each; ``turn``: which of these leaves, by index."""
    return data.StructLayout({"over": 3, "beat": _INDEX_BITS, "put": 1, "full": 1, "kept": MAX_NNZ, "turn": MAX_NNZ})


class PruneLane(Component):
    """Takes ``values`` float32 a cycle, gives the kept ones of a group one by one.

    *Members*: ``words`` in, registered here; ``control`` in (:func:`control_layout`), each part in the cycle in which it is
    needed: ``put`` 1 + ``build.levels`` cycles after the words, ``full`` a cycle after the group's last ``put``, ``turn`` from
    the cycle after that; ``value`` bfloat16 and ``index`` out, two cycles after their ``turn``. With ``values`` of 16 a beat is
    a group, and its sorted weights are the list: ``full`` comes when ``put`` would.
    """

    def __init__(self, build):
        self.build = build
        super().__init__({
            "words": In(data.ArrayLayout(32, build.values)), "control": In(control_layout()),
            "value": Out(16), "index": Out(_INDEX_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        words = Signal.like(self.words, reset_less=True)
        m.d.sync += words.eq(self.words)
        best = self._sort(m, words)
        if self.build.listed:
            best = self._collect(m, best)
        self._leave(m, best)
        return m

    def _sort(self, m, words):
        """The largest of a beat, largest first, by a tree of merges: a level a cycle.

        Only groups of at most 8 keep four: of what lies beyond the eighth weight two matter, and two of the whole.
        """
        bits = self.build.levels
        lists = [[leaf(words[at], at, bits)] for at in range(self.build.values)]
        for level in range(bits):
            half, joined = 1 << level, []
            there = self.control.over[max(0, level - 1)]
            for at in range(0, len(lists), 2):
                a, b = lists[at], lists[at + 1]
                if half == MAX_GROUP // 2:
                    values = [*merge(a[:2], b[:2], 2, b_there=there), *map(Value.cast, a[2:])]
                else:
                    values = merge(a, b, 2 if at * half >= MAX_GROUP // 2 else MAX_NNZ, b_there=there)
                joined.append(registered(m, values, weight_layout(bits), f"level_{level}_{at}"))
            lists = joined
        return lists[0]

    def _collect(self, m, best):
        """The largest of a group so far: those of each beat are merged into the list."""
        build, control, shape = self.build, self.control, weight_layout(_INDEX_BITS)
        held = [Signal(shape, name=f"held_{rank}", reset_less=True) for rank in range(MAX_NNZ)]
        number = control.beat[: _INDEX_BITS - build.levels]
        new = [data.View(shape, Cat(one.magnitude, one.sign, one.index, number)) for one in best]
        # So many of the list are of this group: ``values`` for each beat before.
        there = [number > rank // build.values for rank in range(MAX_NNZ)]
        if build.values == MAX_GROUP // 2:
            # Only groups that keep two have a second beat.
            most = merge(held[:2], new[:2], 2, a_there=there[:2])
            most += [Mux(there[rank], Value.cast(held[rank]), Value.cast(new[rank])) for rank in range(2, MAX_NNZ)]
        else:
            most = merge(held, new, MAX_NNZ, a_there=there)
        with m.If(control.put):
            for one, value in zip(held, most, strict=True):
                m.d.sync += Value.cast(one).eq(value)
        return held

    def _leave(self, m, best):
        """The complete list goes to a place of its own and leaves from there in the order of indices."""
        control, kept, picked = self.control, self.control.kept, []
        for rank, one in enumerate(best):
            lower = [kept[other] & (best[other].index < one.index) for other in range(MAX_NNZ) if other != rank]
            low = one.magnitude[:16]
            upper = Signal(16, name=f"upper_{rank}", reset_less=True)
            up, some = (Signal(name=f"{name}_{rank}", reset_less=True) for name in ("up", "some"))
            index = Signal(_INDEX_BITS, name=f"index_{rank}", reset_less=True)
            order = Signal(range(MAX_NNZ), name=f"order_{rank}", reset_less=True)
            with m.If(control.full):
                m.d.sync += [
                    upper.eq(Cat(one.magnitude[16:], one.sign)), index.eq(one.index), some.eq(low.any()),
                    # Half to even: up above half, and at half from an odd number.
                    up.eq(low[15] & (low[:15].any() | one.magnitude[16])),
                    # What is not kept waits for a turn that never comes. At most three are lower: the sum fits.
                    order.eq(Mux(kept[rank], sum(lower), MAX_NNZ - 1)),
                ]
            mine = Cat(upper, up, some, index)
            picked.append(mine & control.turn.bit_select(order, 1).replicate(len(mine)))
        one = Signal(len(picked[0]), name="picked", reset_less=True)
        m.d.sync += fit(one, (picked[0] | picked[1]) | (picked[2] | picked[3]))
        upper, up, some, index = one[:16], one[16], one[17], one[18:]
        # The carry may run into the exponent, up to infinity. Every NaN is one NaN.
        nan = upper[7:15].all() & (upper[:7].any() | some)
        m.d.sync += [self.value.eq(Mux(nan, CANONICAL_NAN >> 16, Cat((upper[:15] + up)[:15], upper[15]))), self.index.eq(index)]
