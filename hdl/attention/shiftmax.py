"""I-ViT's integer softmax: maximum, exponentials by shifts, one division a query, probabilities; a round each."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ...models.spec.attention_cycles import DIVIDE_LATENCY, SHIFT_EXP_LATENCY
from ...models.spec.attention_job import MAX_UNIT
from ..common.delay import delay
from ..common.fit import fit
from .divide import DIVIDEND_BITS
from .two_pass import kept_scores
from .weights import Weights

__all__ = ["Shiftmax"]

_STEPS = 15
"""n of the paper: exponentials have so many bits below the point, and 2**-n is the least power."""
_HALF = 16
_EXP_BITS = (MAX_UNIT << _STEPS).bit_length()


class Shiftmax(Weights):
    """P = floor(e * floor((2**31 - 1) / sum) / 2**16), e = floor((r / 2 + unit) * 2**(15 - q)).

    Further members: ``leaves`` in, with ``first``: this slot has a query whose values begin; ``divisor`` out: its sum then, 0 in
    all other cycles; ``inverse`` in, ``DIVIDE_LATENCY`` + 1 cycles later: the largest 31-bit number divided by it.
    """

    def __init__(self, build):
        super().__init__(build, leaves=In(1), divisor=Out(DIVIDEND_BITS), inverse=In(DIVIDEND_BITS))

    def elaborate(self, platform):
        m = Module()
        e = self._exponential(m)
        valid = delay(m, self.valid, SHIFT_EXP_LATENCY, "valid_exp", reset_less=False)
        first, lists = delay(m, self.first, SHIFT_EXP_LATENCY, "first_exp"), delay(m, self.lists, SHIFT_EXP_LATENCY, "lists_exp")
        old = self._kept(m, valid, first, lists, e)
        self._divisor(m, valid, first, e)
        # The inverse of a round's sum is there when its first value is.
        wait = DIVIDE_LATENCY + 4
        started = delay(m, valid & first, wait - 1, "started", reset_less=False)
        inverse = Signal(DIVIDEND_BITS, reset_less=True)
        with m.If(started):
            m.d.sync += inverse.eq(self.inverse)
        late = delay(m, old, wait - 1, "old")
        live = delay(m, lists[2], wait, "live")
        lower = Signal(_EXP_BITS + _HALF, reset_less=True)
        upper = Signal(_EXP_BITS + DIVIDEND_BITS - _HALF, reset_less=True)
        total = Signal(len(upper) + 1, reset_less=True)
        factor = Mux(live, inverse, 0)
        m.d.sync += [fit(lower, late * factor[:_HALF]), fit(upper, late * factor[_HALF:]), fit(total, upper + lower[_HALF:])]
        begins = delay(m, first, wait + 2, "begins")
        with m.If(delay(m, valid, wait + 2, "valid_late", reset_less=False)):
            # Fits: e is no more than the sum that divides it.
            m.d.sync += [self.weight.eq(total[: len(self.weight)]), self.empties.eq(begins), self.raised.eq(0)]
        return m

    def _exponential(self, m):
        """The exponential of the old score, ``SHIFT_EXP_LATENCY`` cycles behind the new one; 0 where nothing is seen."""
        unit = self.job.unit
        old, seen, most = kept_scores(m, self)
        live = delay(m, seen & delay(m, self.lists[1], 1, "there"), SHIFT_EXP_LATENCY - 2, "seen")
        distance, stretched = Signal(8, reset_less=True), Signal(range(384), reset_less=True)
        # x * 1.4375 ~ x * log2(e), each part rounded away from 0 as floor does below 0.
        m.d.sync += [distance.eq((most - old)[:8]),
                     stretched.eq(distance + ((distance + 1) >> 1) - ((distance + 15) >> 4))]
        most_units, rest = Signal(range(_STEPS * MAX_UNIT + 1), reset_less=True), Signal(range(384), reset_less=True)
        m.d.sync += [most_units.eq((unit << 4) - unit), rest.eq(Mux(stretched > most_units, most_units, stretched))]
        quotient = []
        for place in reversed(range(4)):
            left, fits = Signal.like(rest, name=f"rest_{place}", reset_less=True), Signal(name=f"fits_{place}", reset_less=True)
            reaches = rest >= (unit << place)
            m.d.sync += [left.eq(Mux(reaches, rest - (unit << place), rest)), fits.eq(reaches)]
            quotient.append(delay(m, fits, place + 1, f"quotient_{place}"))
            rest = left
        base = Signal(range(2 * MAX_UNIT + 1), reset_less=True)
        m.d.sync += base.eq((unit << 1) - rest)
        e = Signal(_EXP_BITS, reset_less=True)
        m.d.sync += e.eq(Mux(live, ((base << _STEPS) >> Cat(reversed(quotient))) >> 1, 0))
        return e

    def _kept(self, m, valid, first, lists, e):
        """The exponential that the round before left in this key's place, a cycle later."""
        build = self.build
        at = Signal(range(max(build.max_keys, build.p)), name="exp_at")
        following = Signal(at.shape(), name="exp_following", reset_less=True)
        m.d.comb += at.eq(Mux(first, 0, following))
        with m.If(valid):
            m.d.sync += following.eq(at + 1)
        m.submodules.exponentials = memory = Memory(shape=_EXP_BITS, depth=build.max_keys, init=[])
        put, get = memory.write_port(), memory.read_port()
        m.d.comb += [put.addr.eq(at), put.data.eq(e), put.en.eq(valid & lists[1]), get.addr.eq(at), get.en.eq(1)]
        return get.data

    def _divisor(self, m, valid, first, e):
        """The sum of the round before, clamped to 31 bits."""
        total = Signal(range(self.build.max_keys << _EXP_BITS), reset_less=True)
        whole = Signal(len(total), reset_less=True)
        with m.If(valid):
            # Fits: as many exponentials as there are keys.
            m.d.sync += total.eq((Mux(first, 0, total) + e)[: len(total)])
            with m.If(first):
                m.d.sync += whole.eq(total)
        clamped = Signal(DIVIDEND_BITS)
        m.d.comb += clamped.eq(Mux(whole[DIVIDEND_BITS:].any(), (1 << DIVIDEND_BITS) - 1, whole[:DIVIDEND_BITS]))
        leaves = delay(m, self.leaves, SHIFT_EXP_LATENCY, "leaves")
        now = delay(m, valid & first & leaves, 1, "whole", reset_less=False)
        # Where nothing is seen the sum is 0, and nothing is multiplied by its inverse.
        m.d.sync += self.divisor.eq(Mux(now, clamped, 0))
