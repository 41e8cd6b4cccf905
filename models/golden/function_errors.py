"""How far the integer functions are from the real ones, over every input there is."""

from dataclasses import dataclass
from math import erf, log, pi, sqrt

import numpy as np

from ..spec import functions as spec
from . import functions

__all__ = ["FUNCTIONS", "WorstError", "worst_error"]


@dataclass(frozen=True)
class WorstError:
    """``worst`` error, ``kind`` absolute or relative, at argument ``at`` of ``inputs`` arguments looked at.

    ``line``: what theory allows straight lines, step**2 / 8 * max |f''|; ``bound``: that and every rounding and cut.
    """

    name: str
    kind: str
    inputs: int
    worst: float
    at: float
    line: float
    bound: float


def worst_error(name):
    """The :class:`WorstError` of a function over all its arguments, against float64; KeyError for an unknown name.

    exp2: every argument below 17 and 17 itself. From there on the answer is 0 and the true value falls: nothing is worse.
    sigmoid: every argument within +-12, both ends too. Beyond, the answer is 0 or 1 and the true value comes nearer to it.
    gelu, silu: every argument within the table and the ends of it. Beyond, the answer is relu(x) and the difference from it,
    delta(|x|), falls (its slope is negative from 0.75 or 1.28 on).
    reciprocal, rsqrt: the mantissa depends on the leading one and the 20 bits below it alone (rsqrt: and on whether the place of
    the leading one is odd), and between two such arguments mantissa * x (mantissa * sqrt(x)) rises with x: the worst relative
    error of the numbers that share a mantissa is at the first of them or, in the limit, at the next. So all 2**20 (2**21) pairs
    of ends cover arguments of any width.
    """
    return _FUNCTIONS[name](name)


def _worst(name, kind, x, errors, line, bound):
    at = int(np.argmax(np.abs(errors)))
    return WorstError(name, kind, len(x), float(np.abs(errors[at])), float(x[at]), line, bound)


def _exp2(name):
    u = np.arange((spec.EXP_REACH << spec.EXP_FRACTION) + 1)
    x = u / (1 << spec.EXP_FRACTION)
    line = log(2) ** 2 / 64**2 / 8
    return _worst(name, "absolute", x, functions.exp2_neg(u) / spec.EXP_ONE - 2.0**-x, line, line + 2**-20 + 2**-16)


def _sigmoid(name):
    u = np.arange(-spec.SIGMOID.reach, spec.SIGMOID.reach + 1)
    x = u / (1 << spec.FUNCTION_FRACTION)
    line = 1 / (6 * sqrt(3)) / 32**2 / 8
    errors = functions.sigmoid(u) / spec.EXP_ONE - 1 / (1 + np.exp(-x))
    return _worst(name, "absolute", x, errors, line, line + 2**-20 + 2**-16)


def _rectified(name):
    table, function = {"gelu": (spec.GELU, functions.gelu), "silu": (spec.SILU, functions.silu)}[name]
    u = np.arange(-table.reach, table.reach + 1)
    x = u / (1 << spec.ACTIVATION_FRACTION)
    if name == "gelu":
        true, curve = x * (1 + np.array([erf(value) for value in x / sqrt(2)])) / 2, 2 / sqrt(2 * pi)
    else:
        true, curve = x / (1 + np.exp(-x)), 0.5
    line = curve / 32**2 / 8
    return _worst(name, "absolute", x, function(u) / (1 << spec.ACTIVATION_FRACTION) - true, line, line + 2**-22 + 2**-17)


def _mantissas(name):
    power, function, halves, line, cut = {
        "reciprocal": (-1.0, functions.reciprocal, 1, 2 / 512**2 / 8, 2**-20),
        "rsqrt": (-0.5, functions.rsqrt, 2, 0.75 / 256**2 / 8, 2**-21)}[name]
    first = np.arange(1 << spec.NORMAL_BITS, 2 << spec.NORMAL_BITS)
    first = np.concatenate([first << half for half in range(halves)])
    after = first + (first >> spec.NORMAL_BITS)  # the next of the same place: 1 of 20 bits, 2 of 21
    mantissa, shift = function(first)
    answer = np.ldexp(mantissa.astype(float), -shift.astype(np.int32))
    ends = np.concatenate([first, after])
    errors = np.tile(answer, 2) / ends.astype(float) ** power - 1
    return _worst(name, "relative", ends, errors, line, line + cut + 2**-19 + 2**-17)


_FUNCTIONS = {"exp2": _exp2, "sigmoid": _sigmoid, "gelu": _rectified, "silu": _rectified, "reciprocal": _mantissas,
              "rsqrt": _mantissas}
FUNCTIONS = tuple(_FUNCTIONS)
