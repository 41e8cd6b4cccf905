"""Elementary functions in integers: piecewise-linear tables. Tables and rules here are the definition, nothing beside them.

:class:`Table` says how a table is interpolated; each function then says how its argument becomes the table's and what is made of
the table's answer. ``models.golden.functions`` computes them, ``hdl.vector`` builds them.
"""

from dataclasses import dataclass
from functools import cached_property
from math import erf, exp, sqrt

__all__ = [
    "ACTIVATION_FRACTION", "EXP2", "EXP2_LATENCY", "EXP_FRACTION", "EXP_GUARD", "EXP_ONE", "EXP_REACH", "FUNCTION_FRACTION",
    "GELU", "GELU_LATENCY", "INTERPOLATE_LATENCY", "MANTISSA_BITS", "MANTISSA_GUARD", "NORMALISE_LATENCY", "NORMAL_BITS",
    "RECIPROCAL", "RECIPROCAL_LATENCY", "RECTIFIED_GUARD", "RSQRT", "RSQRT_LATENCY", "SIGMOID", "SIGMOID_GUARD",
    "SIGMOID_LATENCY", "SILU", "SILU_LATENCY", "Table", "function_latency",
]


@dataclass(frozen=True)
class Table:
    """A function on unsigned integers 0 <= u < ``reach``: straight lines between ``values``, ``2**step_bits`` apart.

    With i = u >> step_bits and f = u mod 2**step_bits: y = v[i] + floor((d[i] * f + 2**(step_bits - 1)) / 2**step_bits), where
    d[i] = v[i + 1] - v[i].
    """

    name: str
    step_bits: int
    values: tuple[int, ...]

    @property
    def entries(self):
        """Lines: one less than values."""
        return len(self.values) - 1

    @property
    def reach(self):
        return self.entries << self.step_bits

    @cached_property
    def deltas(self):
        return tuple(b - a for a, b in zip(self.values, self.values[1:], strict=False))

    @property
    def value_width(self):
        """Bits of an unsigned value."""
        return max(self.values).bit_length()

    @property
    def delta_width(self):
        """Bits of a signed difference."""
        return max(max(self.deltas).bit_length(), (-min(self.deltas) - 1).bit_length() if min(self.deltas) < 0 else 0) + 1


def _round(value):
    return int(value + 0.5)


def _table(name, step_bits, entries, scale, function):
    return Table(name, step_bits, tuple(_round(scale * function(i)) for i in range(entries + 1)))


def _gelu_delta(a):
    return a - a * (1 + erf(a / sqrt(2))) / 2


# 2**-t, t >= 0 with EXP_FRACTION fraction bits: unsigned, 1.0 = EXP_ONE. The table has the fraction of t, with EXP_GUARD bits
# more; its answer is shifted right by EXP_GUARD + floor(t) and rounded half up. From t = EXP_REACH on that is 0.
EXP_FRACTION = 10
EXP_ONE = 1 << 15
EXP_GUARD = 5
EXP_REACH = 17
EXP2 = _table("exp2", 4, 64, EXP_ONE << EXP_GUARD, lambda i: 2.0 ** (-i / 64))

# 1 / (1 + e**-x), x signed with FUNCTION_FRACTION fraction bits: unsigned, 1.0 = 2**15. The table has |x| < 12, with
# SIGMOID_GUARD bits more, rounded half up; beyond it is 1.0; a negative x has 1.0 less the answer of -x.
FUNCTION_FRACTION = 12
SIGMOID_GUARD = 5
SIGMOID = _table("sigmoid", 7, 384, EXP_ONE << SIGMOID_GUARD, lambda i: 1 / (1 + exp(-i / 32)))

# gelu(x) = relu(x) - delta(|x|), erf form; silu alike. x and y signed with ACTIVATION_FRACTION fraction bits; the tables have
# RECTIFIED_GUARD bits more, rounded half up, and delta is 0 beyond them (5.5; 16). With 12 fraction bits the rounding of y alone
# would cost 1.2e-4.
ACTIVATION_FRACTION = 16
RECTIFIED_GUARD = 6
GELU = _table("gelu", 11, 176, 1 << 22, lambda i: _gelu_delta(i / 32))
SILU = _table("silu", 11, 512, 1 << 22, lambda i: i / 32 / (1 + exp(i / 32)))

# 1 / x, x unsigned: x = 2**p * (1 + u / 2**NORMAL_BITS), u without what lies below its last bit. The table gives 2**17 / (1 + u)
# with MANTISSA_GUARD bits more, rounded half up to the mantissa; shift = 17 + p. A mantissa of 2**17 becomes 2**16, the shift one
# less. x = 0 has mantissa 0 and shift 0.
MANTISSA_BITS = 17
MANTISSA_GUARD = 3
NORMAL_BITS = 20
RECIPROCAL = _table("reciprocal", NORMAL_BITS - 9, 512, 1 << MANTISSA_BITS + MANTISSA_GUARD, lambda i: 512 / (512 + i))
# 1 / sqrt(x) alike, shift = 17 + p // 2: the first half of the table has even p, the second odd p.
RSQRT = _table("rsqrt", NORMAL_BITS - 8, 512, 1 << MANTISSA_BITS + MANTISSA_GUARD,
               lambda i: 1 / sqrt(1 + i / 256 if i < 256 else 2 * i / 256))

INTERPOLATE_LATENCY = 4
NORMALISE_LATENCY = 4
EXP2_LATENCY = INTERPOLATE_LATENCY + 3
RECIPROCAL_LATENCY = NORMALISE_LATENCY + INTERPOLATE_LATENCY + 2
RSQRT_LATENCY = RECIPROCAL_LATENCY
GELU_LATENCY = SILU_LATENCY = SIGMOID_LATENCY = INTERPOLATE_LATENCY + 3


def function_latency(name):
    """Cycles from an argument to the answer of the function's gates; KeyError for an unknown name."""
    return {"exp2": EXP2_LATENCY, "reciprocal": RECIPROCAL_LATENCY, "rsqrt": RSQRT_LATENCY, "gelu": GELU_LATENCY,
            "silu": SILU_LATENCY, "sigmoid": SIGMOID_LATENCY}[name]
