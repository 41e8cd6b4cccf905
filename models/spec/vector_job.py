"""Jobs of the vector engine: rows of int32, and the scales of the function that is made of them."""

from dataclasses import dataclass, fields, replace

from .engine import Job
from .errors import check_int

__all__ = [
    "ELEMENTWISE", "EPS_BITS", "FUNCTIONS", "ILAYERNORM_BITS", "MULTIPLIER_BITS", "NORMS", "NORM_FRACTION", "POWER_FRACTION",
    "MAX_UNIT", "SHIFTS", "SHIFT_BITS", "SHIFT_STEPS", "VectorJob", "check_job",
]

ELEMENTWISE = ("gelu", "silu", "sigmoid", "exp2", "reciprocal", "rsqrt")
NORMS = ("layernorm", "rmsnorm")
SHIFTS = ("shiftmax", "shiftgelu")
FUNCTIONS = (*ELEMENTWISE, *NORMS, *SHIFTS, "ilayernorm")
MULTIPLIER_BITS, SHIFT_BITS, EPS_BITS = 16, 6, 48
NORM_FRACTION = 20
"""Fraction bits of a normalised element."""
POWER_FRACTION = 30
"""Fraction bits of a reciprocal and of a reciprocal square root."""
SHIFT_STEPS = {"shiftmax": 15, "shiftgelu": 23}
"""The n of I-ViT's ShiftExp: its exponentials have as many fraction bits more than their argument."""
MAX_UNIT = {"shiftmax": (1 << 15) - 1, "shiftgelu": (1 << 8) - 1}
"""Largest 1 / scale of I-ViT's arguments: exponentials stay below 2**31."""
ILAYERNORM_BITS = 16
"""I-LayerNorm takes int16: nothing that I-ViT normalises is wider."""
_USED = {
    "in_multiplier": ELEMENTWISE, "in_shift": ELEMENTWISE, "eps": NORMS, "shift": NORMS, "unit": SHIFTS,
}


@dataclass(frozen=True, kw_only=True)
class VectorJob(Job):
    """y[m, k] = clamp(round_half_even(v * out_multiplier / 2**out_shift)) to int32, ``narrow``: int8; v of x int32 [m, k]:

    - elementwise functions: v = f(t), t = clamp(round_half_even(x * in_multiplier / 2**in_shift)) to int32. t has the fraction
      that the function wants, v the one that it gives (``models.spec.functions``). exp2: of min(t, 0), 10 fraction bits.
      reciprocal, rsqrt: t an integer, v with 30 fraction bits, rounded half to even; 0 where t <= 0.
    - layernorm: c = k * x - S1, V = k * S2 - S1**2 + ``eps``, with the row's sums S1 of x and S2 of x**2; rmsnorm: c = k * x,
      V = k * S2 + ``eps``. n = round_half_even(c * M * 2**20 / 2**s), (M, s) = rsqrt(V); n has 20 fraction bits;
      v = round_half_even(n * gamma / 2**shift) + beta. ``eps`` counts in units of k**2 * the square of x's.
    - shiftmax, shiftgelu, ilayernorm: as I-ViT's PyTorch code, in exact integers (``models.golden.ivit``). 1 / scale of the
      exponentials' argument is ``unit``, rounded up: x0 = -unit. ilayernorm clamps x to int16.
    """

    m: int = 1
    k: int
    in_multiplier: int = 1
    in_shift: int = 0
    out_multiplier: int = 1
    out_shift: int = 0
    narrow: bool = False
    eps: int = 0
    shift: int = NORM_FRACTION
    unit: int = 16


def check_job(build, shape):
    """The legal job of ``shape`` on ``build``; TypeError or ValueError names field, rule and value."""
    job = VectorJob.of(shape)
    multiplier, shift = (0, (1 << MULTIPLIER_BITS) - 1), (0, (1 << SHIFT_BITS) - 1)
    limits = {"tag": (0, 255), "m": (1, build.max_m), "k": (1, build.max_k), "in_multiplier": multiplier, "in_shift": shift,
              "out_multiplier": multiplier, "out_shift": shift, "eps": (0, (1 << EPS_BITS) - 1), "shift": shift,
              "unit": (1, MAX_UNIT.get(build.function, 1 << 15))}
    job = replace(job, **{name: check_int(name, getattr(job, name), *limit) for name, limit in limits.items()})
    for name in ("first", "last", "narrow"):
        if not isinstance(getattr(job, name), bool):
            raise TypeError(f"{name} must be true or false, got {getattr(job, name)!r}")
    if job.narrow and not build.narrow:
        raise ValueError("narrow must be false on a build without narrow results, got True")
    usual = {field.name: field.default for field in fields(VectorJob)}
    for name, functions in _USED.items():
        if build.function not in functions and getattr(job, name) != usual[name]:
            raise ValueError(f"{name} must be {usual[name]} for {build.function}, got {getattr(job, name)}")
    return job
