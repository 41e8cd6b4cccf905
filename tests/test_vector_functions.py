"""Elementary functions: tables, golden against a slow loop, worst errors over all arguments, gates against golden."""

import gc
import hashlib
import warnings
from fractions import Fraction

import numpy as np
import pytest
from amaranth.hdl import UnusedElaboratable
from amaranth.sim import Simulator

from sparseloom.hdl.vector.exp2 import Exp2Neg
from sparseloom.hdl.vector.gelu import Gelu
from sparseloom.hdl.vector.interpolate import Interpolate
from sparseloom.hdl.vector.normalise import Normalise
from sparseloom.hdl.vector.reciprocal import Reciprocal
from sparseloom.hdl.vector.rsqrt import Rsqrt
from sparseloom.hdl.vector.sigmoid import Sigmoid
from sparseloom.hdl.vector.silu import Silu
from sparseloom.models.golden import functions
from sparseloom.models.golden.function_errors import FUNCTIONS, worst_error
from sparseloom.models.spec import functions as spec

TABLES = spec.EXP2, spec.SIGMOID, spec.GELU, spec.SILU, spec.RECIPROCAL, spec.RSQRT


def test_tables_are_what_they_were():
    digest = hashlib.sha256(repr([(t.name, t.step_bits, t.values) for t in TABLES]).encode()).hexdigest()
    assert digest == "be48e3af5c855a65b6f9a265234f18e9c3730d88f556fcb41650092eb343ca7f"


def test_gelu_table_has_the_published_shape():
    assert len(spec.GELU.values) == 177 and spec.GELU.step_bits == spec.ACTIVATION_FRACTION - 5
    peak = max(spec.GELU.values)
    assert peak / 2**22 == pytest.approx(0.16997, abs=1e-5) and spec.GELU.values.index(peak) == 24


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_interpolation_as_defined(table):
    rng = np.random.default_rng(1)
    arguments = [0, table.reach - 1, *rng.integers(0, table.reach, 300).tolist()]
    for u, y in zip(arguments, functions.interpolate(table, arguments).tolist(), strict=True):
        i, f = divmod(u, 1 << table.step_bits)
        line = table.values[i] + Fraction(table.values[i + 1] - table.values[i]) * f / (1 << table.step_bits)
        assert y == (line + Fraction(1, 2)).__floor__()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_worst_error_is_within_theory(name):
    found = worst_error(name)
    assert found.line < found.worst <= found.bound and found.inputs > 17000
    if name == "gelu":
        assert found.worst <= 1.1e-4


def test_values_by_hand():
    assert functions.exp2_neg([0, 1 << 10, 1 << 11, 16 << 10, (16 << 10) + 1, 1 << 40]).tolist() == [32768, 16384, 8192, 1, 0, 0]
    assert functions.sigmoid([0, 1 << 31, -(1 << 31)]).tolist() == [1 << 14, 1 << 15, 0]
    assert functions.gelu([0, 1 << 30, -(1 << 30)]).tolist() == [0, 1 << 30, 0]
    assert [part.tolist() for part in functions.reciprocal([0, 1, 2, 1 << 47])] == [[0, 65536, 65536, 65536], [0, 16, 17, 63]]
    assert [part.tolist() for part in functions.rsqrt([0, 1, 2, 4])] == [[0, 65536, 92682, 65536], [0, 16, 17, 17]]
    # Just below a power of two the mantissa would round to 2**17.
    assert [int(part) for part in functions.reciprocal((1 << 48) + 1)] == [1 << 16, 64]


def test_python_integers_and_int64_agree():
    rng = np.random.default_rng(2)
    x = rng.integers(0, 1 << 62, 500) >> rng.integers(0, 62, 500)
    for function in functions.reciprocal, functions.rsqrt:
        for small, large in zip(function(x), function(x.astype(object)), strict=True):
            assert (small == large).all()
        mantissa, shift = function((x + 1).astype(object) << 64)
        assert (shift - function(x + 1)[1] == (64 if function is functions.reciprocal else 32)).all()
        assert mantissa.min() >= 1 << 16


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Exp2Neg(10), "width must be more than 10, got 10"),
    (lambda: Normalise(0), "width must be 1..128, got 0"),
    (lambda: Normalise(129), "width must be 1..128, got 129"),
])
def test_widths_are_checked(make, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)  # a component half made is never elaborated
        with pytest.raises(ValueError, match=message) as caught:
            make()
        del caught
        gc.collect()


def run(dut, arguments):
    """int64 [arguments, outputs] of a free-running pipeline, an argument each cycle."""
    names = [name for name in ("o", "o_mantissa", "o_shift") if hasattr(dut, name)]
    seen = []

    async def bench(ctx):
        for cycle in range(len(arguments) + dut.latency):
            if cycle < len(arguments):
                ctx.set(dut.i, int(arguments[cycle]))
            if cycle >= dut.latency:
                seen.append([ctx.get(getattr(dut, name)) for name in names])
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return np.array(seen)


@pytest.mark.rtl
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_interpolating_gates(table):
    # Every entry, at its ends and in its middle.
    steps = np.arange(table.entries) << table.step_bits
    u = np.concatenate([steps, steps + (1 << table.step_bits) - 1, steps + (1 << table.step_bits >> 1)])
    assert (run(Interpolate(table), u)[:, 0] == functions.interpolate(table, u)).all()


@pytest.mark.rtl
def test_exp2_gates_everywhere():
    u = np.concatenate([np.arange(0, 18 << 10, 3), np.arange(1 << 10), [1 << 20, 1 << 31, (1 << 32) - 1]])
    assert (run(Exp2Neg(), u)[:, 0] == functions.exp2_neg(u)).all()
    assert (run(Exp2Neg(width=11), np.arange(1 << 11))[:, 0] == functions.exp2_neg(np.arange(1 << 11))).all()


@pytest.mark.rtl
@pytest.mark.parametrize(("gates", "golden", "table"), [
    (Gelu, functions.gelu, spec.GELU), (Silu, functions.silu, spec.SILU), (Sigmoid, functions.sigmoid, spec.SIGMOID)])
def test_activation_gates(gates, golden, table):
    rng, reach = np.random.default_rng(3), table.reach
    corners = [0, 1, reach - 1, reach, reach + 1, (1 << 31) - 1]
    x = np.concatenate([rng.integers(-(1 << 31), 1 << 31, 200), rng.integers(-reach, reach, 4000), corners, np.negative(corners),
                        [-(1 << 31)]])
    assert (run(gates(), x)[:, 0] == golden(x)).all()


@pytest.mark.rtl
@pytest.mark.parametrize(("gates", "golden"), [(Reciprocal, functions.reciprocal), (Rsqrt, functions.rsqrt)])
@pytest.mark.parametrize("width", [1, 2, 7, 20, 21, 22, 33, 48, 86, 128])
def test_mantissa_gates(gates, golden, width):
    rng = np.random.default_rng(width)
    ones = [(1 << place) + step for place in range(width) for step in (-1, 0, 1) if (1 << place) + step < 1 << width]
    drawn = [int.from_bytes(rng.bytes(16), "little") >> 128 - width >> int(rng.integers(width)) for _ in range(200)]
    x = np.array([0, (1 << width) - 1, *ones, *drawn], object)
    assert (run(gates(width), x) == np.stack(golden(x), axis=1)).all()
