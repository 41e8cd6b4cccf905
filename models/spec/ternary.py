"""The ternary engine: int4..int8 activations times ternary weights, exact sums. Build, job, ports and closed forms."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from . import ternary_cycles
from .draw import draw_size
from .engine import Buffer, EngineSpec, Job, Stream
from .errors import check_choice, check_int
from .record import Field, Record

__all__ = ["TernaryEngine", "TernaryJob", "TRITS_PER_BYTE"]

TRITS_PER_BYTE = 5
MAX_LANES = 1280
"""Trits of the widest beat, 2048 bits."""


@dataclass(frozen=True, kw_only=True)
class TernaryJob(Job):
    """y[m, n] = x[m, k] . w[n, k], x int codes, w in {-1, 0, +1}; y raw int32 or requantised.

    ``requantise``: y = clamp(round_half_even(acc * multiplier / 2**shift)) to -128..127. ``first``/``last`` bound the jobs over
    which the statistics of a token (largest magnitude and sum of squares of the raw sums) are gathered; ``last`` emits them.
    """

    k: int
    n: int
    m: int = 1
    requantise: bool = False
    multiplier: int = 1
    shift: int = 0


@dataclass(frozen=True, kw_only=True)
class TernaryEngine(EngineSpec):
    """Ternary matrix products: int4..int8 activations times {-1, 0, +1}, exact sums.

    A beat of ``i_w`` carries ``rows`` x ``lanes`` trits, five to the byte.

    ``datapath`` ``tree``: masked activations through an add/subtract tree with deferred signs; a beat serves ``m`` tokens.
    ``table``: sums of two and three activations are looked up; a beat serves one token, the stream is repeated for each.
    ``result_lanes`` results leave per beat of ``o_y``: a divisor of ``rows``; None chooses at most 4 (tree) or ``rows`` (table,
    no choice).
    """

    name: ClassVar[str] = "ternary_engine"
    job_class: ClassVar[type] = TernaryJob
    max_shift: ClassVar[int] = 47

    rows: int = 16
    lanes: int = 20
    datapath: str = "tree"
    act_bits: int = 8
    max_k: int = 4096
    max_n: int = 16384
    max_m: int = 8
    requantise: bool = False
    statistics: bool = False
    result_lanes: int | None = None
    read_latency: int = 2

    def __post_init__(self):
        def put(name, value):
            object.__setattr__(self, name, value)

        put("rows", check_int("rows", self.rows, 1, 128))
        put("lanes", check_int("lanes", self.lanes, TRITS_PER_BYTE, 320))
        if self.lanes % TRITS_PER_BYTE:
            raise ValueError(f"lanes must be a multiple of {TRITS_PER_BYTE}, got {self.lanes}")
        if self.rows * self.lanes > MAX_LANES:
            raise ValueError(f"rows * lanes must be at most {MAX_LANES}, got {self.rows * self.lanes}")
        check_choice("datapath", self.datapath, ("tree", "table"))
        put("act_bits", check_int("act_bits", self.act_bits, 4, 8))
        put("max_k", check_int("max_k", self.max_k, 1, 1 << 16))
        put("max_n", check_int("max_n", self.max_n, 1, 1 << 20))
        put("max_m", check_int("max_m", self.max_m, 1, 32))
        put("read_latency", check_int("read_latency", self.read_latency, 2, 4))
        for name in ("requantise", "statistics"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be true or false, got {getattr(self, name)!r}")
        lanes = self.result_lanes
        if lanes is None:
            lanes = self.rows if self.datapath == "table" else next(d for d in (4, 3, 2, 1) if self.rows % d == 0)
        put("result_lanes", check_int("result_lanes", lanes, 1, self.rows))
        if self.rows % self.result_lanes:
            raise ValueError(f"result_lanes must divide rows ({self.rows}), got {self.result_lanes}")
        if self.datapath == "table" and self.result_lanes != self.rows:
            raise ValueError(f"result_lanes must equal rows ({self.rows}) with datapath table, got {self.result_lanes}")

    # Derived ----------------------------------------------------------------------------------------------------------
    @property
    def beat_bytes(self):
        return self.rows * self.lanes // TRITS_PER_BYTE

    @property
    def max_k_blocks(self):
        return -(-self.max_k // self.lanes)

    @property
    def max_groups(self):
        return -(-self.max_n // self.rows)

    @property
    def levels(self):
        """Register levels of the adder tree over a row's lanes (tree) or over its groups of five lanes (table)."""
        operands = self.lanes if self.datapath == "tree" else self.lanes // TRITS_PER_BYTE
        return (operands - 1).bit_length()

    @property
    def datapath_latency(self):
        """Cycles from the acceptance of a beat to its sums."""
        return self.levels + (self.read_latency + 1 if self.datapath == "tree" else 4)

    @property
    def result_latency(self):
        """Cycles from a finished sum to the offer of its first result beat."""
        return 7 if self.requantise else 4

    @property
    def act_peak(self):
        """Largest magnitude of an activation code: -2**(act_bits-1) is accepted."""
        return 1 << (self.act_bits - 1)

    @property
    def acc_peak(self):
        """Largest magnitude of a sum: the proof that ``acc_width`` cannot overflow."""
        return self.act_peak * self.max_k

    @property
    def acc_width(self):
        return self.acc_peak.bit_length() + 1

    @property
    def square_width(self):
        """Bits of the sum of squares: sums over 16 jobs of the largest shape cannot overflow; beyond that, status OVERFLOW."""
        return (16 * self.max_n * self.acc_peak**2).bit_length()

    @cached_property
    def job_record(self):
        return Record((
            Field("tag", 8), Field("first", 1), Field("last", 1), Field("requantise", 1),
            Field("k_blocks", 17, doc="ceil(k / lanes)"), Field("n", 21), Field("m", 6),
            Field("multiplier", 16), Field("shift", 6),
        ))

    @property
    def inputs(self):
        return (Stream("w", Record((Field("data", 8 * self.beat_bytes),)), "weights, formats.ternary_stream"),)

    @property
    def buffers(self):
        return (Buffer("act", self.lanes * self.act_bits, self.max_k_blocks * self.max_m, self.read_latency,
                       "activation codes, word k_block * m + token, lane 0 lowest"),)

    @property
    def outputs(self):
        result = Stream("y", Record((
            Field("row", 20, doc="first output row of the beat"), Field("token", 5),
            Field("data", 32, True, self.result_lanes, "one result a row; rows beyond n are 0"),
        )), "results; every ceil over n only, in order of row group, then token (tree) or token, then row group (table)")
        stat = Stream("stat", Record((
            Field("token", 5), Field("absmax", self.acc_width), Field("squares", self.square_width),
        )), "statistics of the raw sums, one beat a token, after the last result of a job marked last")
        return (result, stat) if self.statistics else (result,)

    # Jobs -------------------------------------------------------------------------------------------------------------
    def job(self, **shape):
        job = TernaryJob.of(shape)
        check_int("k", job.k, 1, self.max_k)
        check_int("n", job.n, 1, self.max_n)
        check_int("m", job.m, 1, self.max_m)
        check_int("tag", job.tag, 0, 255)
        check_int("multiplier", job.multiplier, 0, (1 << 16) - 1)
        check_int("shift", job.shift, 0, self.max_shift)
        if job.requantise and not self.requantise:
            raise ValueError("requantise must be false: this build has no requantiser")
        return job

    def k_blocks(self, job):
        return -(-job.k // self.lanes)

    def groups(self, job):
        return -(-job.n // self.rows)

    def job_values(self, job):
        return {"tag": job.tag, "first": int(job.first), "last": int(job.last), "requantise": int(job.requantise),
                "k_blocks": self.k_blocks(job), "n": job.n, "m": job.m, "multiplier": job.multiplier, "shift": job.shift}

    @classmethod
    def draw_build(cls, rng):
        datapath = str(rng.choice(["tree", "table"]))
        rows, lanes = int(rng.integers(1, 13)), 5 * int(rng.integers(1, 8))
        divisors = [d for d in range(1, rows + 1) if rows % d == 0]
        return cls(
            rows=rows, lanes=lanes, datapath=datapath, act_bits=int(rng.integers(4, 9)),
            max_k=int(np.exp(rng.uniform(np.log(10), np.log(500)))), max_n=int(np.exp(rng.uniform(np.log(4), np.log(500)))),
            max_m=int(rng.choice([1, 2, 3, 8])), requantise=bool(rng.integers(2)), statistics=bool(rng.integers(2)),
            result_lanes=int(rng.choice(divisors)) if datapath == "tree" else None, read_latency=int(rng.integers(2, 5)))

    def draw_job(self, rng):
        k, n, m = draw_size(rng, self.max_k, self.lanes), draw_size(rng, self.max_n, self.rows), draw_size(rng, self.max_m, 1)
        requantise = self.requantise and bool(rng.integers(2))
        # Powers of two with a short shift make ties; general multipliers make the rest.
        multiplier, shift = (1 << int(rng.integers(4)), int(rng.integers(8))) if rng.integers(2) else (
            int(rng.integers(1 << 16)), int(rng.integers(8, self.max_shift + 1)))
        return self.job(k=k, n=n, m=m, last=bool(rng.integers(4)), tag=int(rng.integers(256)), requantise=requantise,
                        multiplier=multiplier, shift=shift)

    def largest_job(self):
        return self.job(k=self.max_k, n=self.max_n, m=self.max_m)

    def illegal_values(self):
        most = (1 << 17) - 1, (1 << 21) - 1, 63
        values = [{"k_blocks": 0}, {"n": 0}, {"m": 0}, {"shift": self.max_shift + 1}]
        values += [{name: peak} for name, peak in zip(("k_blocks", "n", "m"), most, strict=True)]
        values += [{"k_blocks": self.max_k_blocks + 1}, {"n": self.max_n + 1}, {"m": self.max_m + 1}]
        return values if self.requantise else [*values, {"requantise": 1}]

    # Closed forms -----------------------------------------------------------------------------------------------------
    def beats(self, stream, job):
        groups = self.groups(job)
        if stream == "w":
            return groups * self.k_blocks(job) * (job.m if self.datapath == "table" else 1)
        if stream == "y":
            return -(-job.n // self.result_lanes) * job.m
        if stream == "stat":
            return job.m if job.last else 0
        raise ValueError(f"stream must be w, y or stat, got {stream!r}")

    def cycles(self, job):
        return ternary_cycles.cycles(self, job)

    def cycles_back_to_back(self, job):
        return ternary_cycles.cycles_back_to_back(self, job)

    def useful_fraction(self, job, cycles):
        stream = 1.6 * job.k * job.n / (8 * self.beat_bytes) / cycles
        compute = job.m * job.k * job.n / (self.rows * self.lanes) / cycles
        return {"stream": stream, "compute": compute, "useful": max(stream, compute)}
