"""The vector engine: norms, activations and I-ViT's integer operators over rows of int32."""

from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from typing import ClassVar

from . import vector_cycles, vector_draw
from .engine import Buffer, EngineSpec, Stream
from .errors import check_choice, check_int
from .record import Field, Record
from .vector_job import (
    ELEMENTWISE,
    EPS_BITS,
    FUNCTIONS,
    ILAYERNORM_BITS,
    MAX_UNIT,
    MULTIPLIER_BITS,
    NORM_FRACTION,
    NORMS,
    SHIFT_BITS,
    SHIFTS,
    VectorJob,
    check_job,
)

__all__ = ["Vector"]

_INT = 32


@dataclass(frozen=True, kw_only=True)
class Vector(EngineSpec):
    """Norms, activations and I-ViT's integer operators over rows of int32, a beat of ``lanes`` elements a cycle.

    ``function``: gelu, silu, sigmoid, exp2, reciprocal, rsqrt; layernorm, rmsnorm; shiftmax, shiftgelu, ilayernorm.
    ``narrow``: jobs may ask for int8 results.
    """

    name: ClassVar[str] = "vector"
    job_class: ClassVar[type] = VectorJob

    function: str = "layernorm"
    lanes: int = 8
    max_m: int = 256
    max_k: int = 1024
    narrow: bool = True
    read_latency: int = 2

    def __post_init__(self):
        check_choice("function", self.function, FUNCTIONS)
        for name, low, high in (("lanes", 1, 64), ("max_m", 1, 1 << 16), ("max_k", 1, 1 << 14), ("read_latency", 2, 4)):
            object.__setattr__(self, name, check_int(name, getattr(self, name), low, high))
        if not isinstance(self.narrow, bool):
            raise TypeError(f"narrow must be true or false, got {self.narrow!r}")

    # Derived ----------------------------------------------------------------------------------------------------------
    @property
    def max_beats(self):
        return -(-self.max_k // self.lanes)

    @property
    def weighted(self):
        """Whether it reads gamma or beta."""
        return self.function in NORMS or self.function == "ilayernorm"

    @property
    def element_width(self):
        """Of an element as it enters a row's sums."""
        return ILAYERNORM_BITS if self.function == "ilayernorm" else _INT

    @property
    def count_width(self):
        """Of k."""
        return self.max_k.bit_length()

    @property
    def sum_width(self):
        """Of a row's sum, |S1| <= max_k * 2**(element_width - 1)."""
        return (self.max_k << self.element_width - 1).bit_length() + 1

    @property
    def square_width(self):
        """Of a row's sum of squares, S2 <= max_k * 2**(2 * element_width - 2); unsigned."""
        return (self.max_k << 2 * self.element_width - 2).bit_length()

    @property
    def variance_width(self):
        """Of V = k * S2 - S1**2 + eps <= k * S2 + eps; unsigned. At most 128: k is below 2**15."""
        return ((self.max_k**2 << 2 * _INT - 2) + (1 << EPS_BITS)).bit_length()

    @property
    def normal_peak(self):
        """Largest magnitude of n.

        |c| <= sqrt(k * V) (Cauchy and Schwarz for rmsnorm, Samuelson for layernorm), and rsqrt is at most 1.15e-5 too large:
        |n| <= sqrt(k) * 1.0000115 * 2**20 + 1/2, which for k <= 2**14 is below (isqrt(k) + 1) * 2**20.
        """
        return (isqrt(self.max_k) + 1) << NORM_FRACTION

    @property
    def divide_width(self):
        """Of ilayernorm's dividends: the row's sum of squares of x - mu, |x - mu| < 2**16, and 2**31 - 1."""
        return max(31, (self.max_k << 2 * ILAYERNORM_BITS).bit_length())

    @property
    def value_width(self):
        """Of v, signed: v = n * gamma + beta, n * gamma <= normal_peak * 2**15; floor(y * f / 2) + bias; x * sig."""
        if self.function in NORMS:
            return max((self.normal_peak << MULTIPLIER_BITS - 1).bit_length() + 1, _INT) + 1
        return {"shiftgelu": _INT + 8, "ilayernorm": _INT + 1}.get(self.function, _INT)

    @property
    def job_record(self):
        fields = [
            Field("tag", 8, doc="comes back in the completion"), Field("first", 1, doc="of no effect: no state outlives a job"),
            Field("last", 1, doc="of no effect"), Field("m", 17, doc="rows"), Field("beats", 15, doc="ceil(k / lanes)"),
            Field("tail", 7, doc="elements of a row's last beat"),
            Field("out_multiplier", MULTIPLIER_BITS), Field("out_shift", SHIFT_BITS, doc="to the right, rounded half to even"),
            Field("narrow", 1, doc="results are int8"),
        ]
        if self.function in ELEMENTWISE:
            fields += [Field("in_multiplier", MULTIPLIER_BITS), Field("in_shift", SHIFT_BITS)]
        if self.function in NORMS:
            fields += [Field("eps", EPS_BITS, doc="added to the variance"), Field("shift", SHIFT_BITS, doc="of n * gamma")]
        if self.function in SHIFTS:
            fields.append(Field("unit", MAX_UNIT[self.function].bit_length() + 1, doc="-x0"))
        return Record(tuple(fields))

    @property
    def inputs(self):
        return (Stream("x", Record((Field("data", _INT, True, self.lanes),)), "rows, the last beat of each padded with 0"),)

    @property
    def weight_record(self):
        """A word of the buffer."""
        beta = Field("beta", _INT, True, self.lanes)
        return Record((beta,) if self.function == "ilayernorm" else (beta, Field("gamma", 16, True, self.lanes)))

    @property
    def buffers(self):
        if not self.weighted:
            return ()
        return (Buffer("weight", self.weight_record.bits, self.max_beats, self.read_latency,
                       "what scales and shifts each element, a word for a beat of a row"),)

    @property
    def outputs(self):
        return (Stream("y", Record((
            Field("row", 16), Field("beat", 14, doc="of the row"),
            Field("data", _INT, True, self.lanes, "results; elements beyond k are 0"),
        )), "rows in order, in each the beats"),)

    # Jobs -------------------------------------------------------------------------------------------------------------
    def job(self, **shape):
        return check_job(self, shape)

    def beats_of(self, job):
        """Beats of a row."""
        return -(-job.k // self.lanes)

    def job_values(self, job):
        beats = self.beats_of(job)
        values = vars(job) | {"beats": beats, "tail": job.k - (beats - 1) * self.lanes}
        return {field.name: int(values[field.name]) for field in self.job_record.fields}

    @classmethod
    def draw_build(cls, rng):
        return vector_draw.draw_build(cls, rng)

    def draw_job(self, rng):
        return vector_draw.draw_job(self, rng)

    def largest_job(self):
        return self.job(m=self.max_m, k=self.max_k)

    def illegal_values(self):
        fields = {field.name: field for field in self.job_record.fields}
        values = [{name: value} for name, most in (("m", self.max_m), ("beats", self.max_beats), ("tail", self.lanes))
                  for value in (0, most + 1, fields[name].high)]
        if self.max_k % self.lanes:
            values.append({"beats": self.max_beats, "tail": self.max_k - (self.max_beats - 1) * self.lanes + 1})
        if not self.narrow:
            values.append({"narrow": 1})
        if self.function in SHIFTS:
            values += [{"unit": 0}, {"unit": MAX_UNIT[self.function] + 1}, {"unit": fields["unit"].high}]
        return values

    # Closed forms -----------------------------------------------------------------------------------------------------
    def beats(self, stream, job):
        if stream not in ("x", "y"):
            raise ValueError(f"stream must be x or y, got {stream!r}")
        return job.m * self.beats_of(job)

    @cached_property
    def memory_depths(self):
        """Words of the row memories."""
        return vector_cycles.memory_depths(self)

    def cycles(self, job):
        return vector_cycles.cycles(self, job)

    def cycles_back_to_back(self, job):
        return vector_cycles.cycles_back_to_back(self, job)

    def useful_fraction(self, job, cycles):
        useful = job.m * job.k / self.lanes / cycles
        return {"stream": useful, "compute": useful, "useful": useful}
