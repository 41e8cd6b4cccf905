"""Deliberate faults in the float units; a few thousand pairs in pysim must show each."""

import numpy as np
import pytest

from sparseloom.models.formats.bf16 import BF16
from sparseloom.models.golden import floats
from sparseloom.sim.float_unit import draw_pairs
from sparseloom.sim.mutants import Mutant, verdict

pytestmark = pytest.mark.rtl

EXTRA = [
    # Ties to even and to odd, a carry into the exponent, cancellation by many places, far apart.
    (0x3F800000, 0x33800000), (0x3F800001, 0x33800000), (0x3FFFFFFF, 0x33800000), (0x3F800001, 0xBF800000),
    (0x3F800000, 0x30000001), (0x4B800000, 0xBF000001), (0x00800000, 0x80000001), (0x00FFFFFF, 0x80800000),
    (0x5F800000, 0x1F800000), (0x7F7FFFFF, 0x73000000), (0x7F7FFFFF, 0x72FFFFFF), (0x3FFFFFF5, 0x3E000001),
    # Products that end in the middle of the subnormal numbers, at half of the smallest, just below 2**-126; one whose last bit
    # alone says which way to round.
    (0x1FB504F3, 0x1FB504F4), (0x20000000, 0x1A000000), (0x1A000001, 0x1A000000), (0x1A000000, 0x19800000),
    (0x3F7FFFFF, 0x00800000), (0x3F000000, 0x00000001), (0x3F400000, 0x00000001), (0x3F000000, 0x00000003),
    (0x4B7FFFFF, 0x00000001), (0x5F7FFFFF, 0x5FFFFFFF), (0x1F800001, 0x1F800001),
]
SPECIAL = np.array([sign | size for size in (0, 1, 0x800000, 0x3F800000, 0x7F7FFFFF, 0x7F800000, 0x7FC12345)
                    for sign in (0, 1 << 31)], np.uint32)


def pairs(unit):
    a, b = draw_pairs(np.random.default_rng(7), 1200, "add")
    first, second = (part.ravel() for part in np.meshgrid(SPECIAL, SPECIAL))
    more = np.array(EXTRA, np.uint32)
    a, b = np.concatenate([first, more[:, 0], a]), np.concatenate([second, more[:, 1], b])
    if unit == "product":
        # Upper halves, and the same with few bits: subnormal factors, exact halves.
        a, b = a >> 16, b >> 16
        tiny = np.random.default_rng(8).integers(0, 1 << 16, (2, 900), np.uint32)
        a = np.concatenate([a, tiny[0] & 0x80FF])
        b = np.concatenate([b, tiny[1] & 0x80FF | 0x3F80 - (tiny[1] >> 3 & 0x0C00)])
    return a, b


def check(unit):
    from amaranth.hdl import Module, Signal
    from amaranth.sim import Simulator

    from sparseloom.hdl.nm_train.float_add import FloatAdd
    from sparseloom.hdl.nm_train.float_multiply import FloatMultiply
    from sparseloom.hdl.nm_train.float_product import FloatProduct
    from sparseloom.hdl.nm_train.round_bf16 import round_bf16

    a, b = pairs(unit)
    m, seen = Module(), 0
    if unit == "round":
        source, out, latency = Signal(32), Signal(16), 0
        m.d.comb += out.eq(round_bf16(source))
        m.d.sync += Signal().eq(source.any())
        want = floats.round_bf16(floats.from_bits(a)).view(np.uint16)
    else:
        kind = {"add": FloatAdd, "multiply": FloatMultiply, "product": FloatProduct}[unit]
        m.submodules.unit = gates = kind()
        source, out, latency = gates.a, gates.o, kind.LATENCY
        if unit == "product":
            want = floats.bits(floats.product_bf16(*(part.astype(np.uint16).view(BF16) for part in (a, b))))
        else:
            want = floats.bits(getattr(floats, unit)(floats.from_bits(a), floats.from_bits(b)))

    async def bench(ctx):
        nonlocal seen
        for index in range(len(a) + latency):
            if index < len(a):
                ctx.set(source, int(a[index]))
                if unit != "round":
                    ctx.set(gates.b, int(b[index]))
            # The pair whose result shows after this cycle's edge; there is none to wait for without a latency.
            at = index - max(latency - 1, 0)
            if latency:
                await ctx.tick()
            if 0 <= at < len(a):
                got, seen = ctx.get(out), seen + 1
                assert got == want[at], f"{a[at]:08x} {b[at]:08x}: {got:08x}, not {want[at]:08x}"
            if not latency:
                await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == len(a)


ADD = [
    ("the smaller number stays", "swap.eq(b[:31] > a[:31])", "swap.eq(b[:31] < a[:31])"),
    ("exponents alone are compared", "swap.eq(b[:31] > a[:31])", "swap.eq(b[23:31] > a[23:31])"),
    ("subnormals have exponent 0", "exponents.append(Cat(x[23] | ~normal, x[24:31]))", "exponents.append(x[23:31])"),
    ("subnormals have a hidden one", "fractions.append(Cat(x[:23], normal))", "fractions.append(Cat(x[:23], Const(1, 1)))"),
    ("the first one's sign", "minus.eq(Mux(swap, b[31], a[31]))", "minus.eq(a[31])"),
    ("infinities of unlike sign are infinite", "(infinities[0] & infinities[1] & (a[31] ^ b[31]))", "Const(0, 1)"),
    ("infinities of like sign are NaN", "infinities[1] & (a[31] ^ b[31])", "infinities[1]"),
    ("what falls off is forgotten", "Cat(lost, value)", "Cat(Const(0, 1), value)"),
    ("what is far is not", "Mux(apart[5:].any(), 0, Cat(lost, value))", "Cat(lost, value)"),
    ("a difference is one too small", "whole, other = Cat(Const(1, 1)", "whole, other = Cat(Const(0, 1)"),
    ("differences are sums", "^ differ.replicate(_SUM)", "^ Const(0, _SUM)"),
    ("below the smallest exponent", "Mux(zeros < room, zeros, room)", "zeros"),
    ("room for every shift", "Mux(exponent[5:].any(), 31, exponent[:5])", "31"),
    ("ties go up", "shifted[: drop - 1].any() | shifted[drop]", "shifted[: drop - 1].any() | 1"),
    ("ties go down", "shifted[: drop - 1].any() | shifted[drop]", "shifted[: drop - 1].any()"),
    ("the last sticky bit does not count", "shifted[: drop - 1].any() |", "shifted[1 : drop - 1].any() |"),
    ("overflow keeps its fraction", "Mux(special | ~some, 0, packed[:23])", "Mux(infinite | ~some, 0, packed[:23])"),
    ("an infinity is a number", "special = infinite | packed", "special = packed"),
    ("0 has an exponent", "Mux(some, packed[23:], 0)", "packed[23:]"),
    ("-0 + -0 = +0", "minus & (some | ~differ)", "minus & some"),
    ("x - x = -0", "minus & (some | ~differ)", "minus"),
]
MULTIPLY = [
    ("subnormals have exponent 0", "exponents.append(Cat(x[23] | ~normal, x[24:31]))", "exponents.append(x[23:31])"),
    ("infinity times 0 is infinite", "| (tops[0] & zeros[1]) | (tops[1] & zeros[0])", "| (tops[0] & zeros[1])"),
    ("signs are or-ed", "Cat(self.a[31] ^ self.b[31]", "Cat(self.a[31] | self.b[31]"),
    ("a product's parts are a place off", "Cat(Const(0, _CHUNK), high)", "Cat(Const(0, _CHUNK - 1), high)"),
    ("the shift is one too short", "exponent[:6], lead))", "exponent[:6], lead - lead[0]))"),
    ("below the smallest exponent", "up.eq(Mux(left < 0, exponent[:6], lead))", "up.eq(lead)"),
    ("tiny ones are not", "Mux(exponent < -_LOWEST, _LOWEST, (-exponent)[:5])", "(-exponent)[:5]"),
    ("25 places are too many", "_LOWEST = 25", "_LOWEST = 23"),
    ("what falls off is forgotten", "sticky.eq(tiny & lost)", "sticky.eq(0)"),
    ("huge ones wrap", "Mux(left > _HUGE, _HUGE, left[:8])", "left[:8]"),
    ("ties go up", "| sticky | chosen[drop])", "| sticky | 1)"),
    ("ties go down", "| sticky | chosen[drop])", "| sticky)"),
    ("one bit of overflow", "infinite | packed[31:].any() |", "infinite |"),
    ("the largest exponent is a number", "| packed[23:31].all()", ""),
    ("0 has an exponent", "Mux(some, packed[23:31], 0)", "packed[23:31]"),
]
PRODUCT = [
    ("subnormals have exponent 0", "exponents.append(Cat(x[7] | ~normal, x[8:15]))", "exponents.append(x[7:15])"),
    ("one factor's zeros", "fit(lead, leads[0] + leads[1])", "fit(lead, leads[0])"),
    ("infinity times 0 is infinite", "| (tops[0] & zeros[1]) | (tops[1] & zeros[0])", "| (tops[1] & zeros[0])"),
    ("signs are or-ed", "Cat(self.a[15] ^ self.b[15]", "Cat(self.a[15] | self.b[15]"),
    ("no last place up", "again.eq(more & ~raised[-1])", "again.eq(0)"),
    ("a place up beyond the smallest exponent", "again.eq(more & ~raised[-1])", "again.eq(~raised[-1])"),
    ("a place up without the exponent", "(base - again)[:9]", "base"),
    ("ties go up", "one.eq(tiny & half & (lost | lower[0]))", "one.eq(tiny & half)"),
    ("ties go down", "one.eq(tiny & half & (lost | lower[0]))", "one.eq(tiny & half & lost)"),
    ("nothing is rounded", "one.eq(tiny & half & (lost | lower[0]))", "one.eq(0)"),
    ("24 places are too many", "_LOWEST = 25", "_LOWEST = 23"),
    ("tiny ones are not", "Mux(exponent < -_LOWEST, _LOWEST, (-exponent)[:5])", "(-exponent)[:5]"),
    ("huge ones wrap", "Mux(left > _HUGE, _HUGE, left[:9])", "left[:8]"),
    ("the smallest huge one is a number", "_HUGE = 256", "_HUGE = 254"),
    ("0 has an exponent", "Mux(some, packed[23:31], 0)", "packed[23:31]"),
]
ROUND = [
    ("cut off", "half & (below | kept[0])", "half & ~half"), ("ties go up", "half & (below | kept[0])", "half"),
    ("ties go down", "half & (below | kept[0])", "half & below"),
    ("NaN may become infinite", "Mux(nan, Const", "Mux(nan & ~nan, Const"),
    ("infinity is NaN", "nan = bits[23:31].all() & bits[:23].any()", "nan = bits[23:31].all()"),
    ("no sign", "Cat(rounded, bits[31])", "Cat(rounded, Const(0, 1))"),
]
SHIFTS = [
    ("only the last step loses", "lost = lost | (places[bit] & value[:by].any())", "lost = places[bit] & value[:by].any()"),
    ("an odd place is no place", "for bit in reversed(range(len(places)))", "for bit in reversed(range(1, len(places)))"),
    ("zeros are counted from the wrong half", "Mux(empty, _count(low), _count(high))", "Mux(empty, _count(high), _count(low))"),
]
FILES = {"float_add": ("add", ADD), "float_multiply": ("multiply", MULTIPLY), "float_product": ("product", PRODUCT),
         "round_bf16": ("round", ROUND), "shifts": ("add", SHIFTS)}
CASES = [(unit, Mutant(f"{file}: {name}", f"hdl.nm_train.{file}", old, new)) for file, (unit, faults) in FILES.items()
         for name, old, new in faults]


@pytest.mark.parametrize("unit", ["add", "multiply", "product", "round"])
def test_the_check_passes_without_a_fault(unit):
    check(unit)


@pytest.mark.parametrize("unit, mutant", [pytest.param(*case, id=case[1].name) for case in CASES])
def test_each_fault_is_seen(unit, mutant):
    assert verdict(mutant, lambda: check(unit)) is not None
