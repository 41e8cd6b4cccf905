"""The MoE gate: softmax over the experts, the best of them for each token, the queues that the linear engine works off."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from .draw import draw_size
from .engine import COUNTERS, Buffer, EngineSpec, Job, Stream
from .errors import check_int
from .functions import EXP2_LATENCY, RECIPROCAL_LATENCY
from .record import Field, Record

__all__ = ["CONVERT_LATENCY", "FIRST_REQUEST", "SCORE_LATENCY", "T_BITS", "MoeGate", "MoeGateJob"]

T_BITS = 20
"""Width of a logit in log2 units with 10 fraction bits: +-512."""
MAX_SHIFT = 47
FIRST_REQUEST = 3
"""The cycle of the first request."""
CONVERT_LATENCY = 6
"""From a word to the logit in log2 units: product, shift in two stages, rounding, clamp."""
SCORE_LATENCY = 6
"""From the reciprocal and an exponential to the score: product, shift in two stages, rounding, and the store."""
_SORT = 5
"""Cycles of the sort and the way out that do not depend on the job."""
_QUEUED = 1


@dataclass(frozen=True, kw_only=True)
class MoeGateJob(Job):
    """Each of ``m`` tokens goes to the ``top_k`` experts with the largest logits (int32, of ``task``); of equal ones the lower
    number comes first. The last ``nulls`` experts are null: chosen like the others, but nothing is to be done for them.

    score[i] = round_half_even(e[i] * 2**15 / S) by the reciprocal of ``models.golden.functions``, e[i] = exp2_neg(max - t[i]),
    t = round_half_even(logit * ``multiplier`` / 2**``shift``) clamped to 20 bits: log2 units with 10 fraction bits. S is the sum
    of e over all experts, with ``renormalise`` over the chosen ones that are not null; max is over the same.

    The pairs leave sorted by expert, tokens ascending within an expert, null experts' pairs last; first and last tell the token's
    first and last expert that is not null. After them nothing: pairs are always m * top_k. Of ``experts`` words of the list the
    first are those of experts that are not null and have tokens, ascending, the last of them marked; the others are 0.
    """

    m: int
    experts: int
    top_k: int = 1
    task: int = 0
    nulls: int = 0
    renormalise: bool = False
    multiplier: int = 1
    shift: int = 0


@dataclass(frozen=True, kw_only=True)
class MoeGate(EngineSpec):
    """Softmax over all experts, top-k with the lowest number first among equals, queues of tokens sorted by expert.

    A logit a cycle. ``max_tasks``: gates whose logits lie side by side, chosen by the job.
    """

    name: ClassVar[str] = "moe_gate"
    job_class: ClassVar[type] = MoeGateJob

    max_m: int = 256
    max_experts: int = 16
    max_top_k: int = 2
    max_tasks: int = 2
    read_latency: int = 2

    def __post_init__(self):
        for name, low, high in (("max_m", 1, 4096), ("max_experts", 2, 64), ("max_top_k", 1, 8), ("max_tasks", 1, 16),
                                ("read_latency", 2, 4)):
            object.__setattr__(self, name, check_int(name, getattr(self, name), low, high))
        if self.max_top_k > self.max_experts:
            raise ValueError(f"max_top_k must be at most max_experts ({self.max_experts}), got {self.max_top_k}")

    # Derived ----------------------------------------------------------------------------------------------------------
    @property
    def max_pairs(self):
        return self.max_m * self.max_top_k

    @property
    def sum_width(self):
        """Of the sum of exponentials, each at most 2**15."""
        return (self.max_experts << 15).bit_length()

    @property
    def words(self):
        """Of the buffer of logits."""
        return self.max_tasks * self.max_m * self.max_experts

    @cached_property
    def job_record(self):
        return Record((
            Field("tag", 8, doc="comes back in the completion"), Field("first", 1, doc="of no effect: no state outlives a job"),
            Field("last", 1, doc="of no effect"), Field("m", 13, doc="tokens"), Field("experts", 7), Field("top_k", 4),
            Field("base", 23, doc="first word of the task's logits: task * m * experts"),
            Field("nulls", 6, doc="experts at the end that are null"), Field("renormalise", 1),
            Field("multiplier", 16, doc="of logits, to log2 units with 10 fraction bits"), Field("shift", 6),
        ))

    @property
    def done_record(self):
        return Record((*COUNTERS, Field("pairs", 16, doc="pairs of experts that are not null"),
                       Field("used", 7, doc="experts that are not null and have tokens")))

    @property
    def inputs(self):
        return ()

    @property
    def buffers(self):
        return (Buffer("logit", 32, self.words, self.read_latency, "logits, word (task * m + token) * experts + expert"),)

    @property
    def outputs(self):
        return (
            Stream("pair", Record((
                Field("expert", 8), Field("token", 16), Field("score", 16, doc="1.0 = 2**15"),
                Field("first", 1, doc="the token's first expert that is not null"), Field("last", 1, doc="its last"),
                Field("null", 1, doc="the expert is null"),
            )), "pairs, sorted by expert"),
            Stream("expert", Record((
                Field("expert", 8), Field("count", 16, doc="its pairs; 0: no expert"),
                Field("last", 1, doc="of those with pairs"),
            )), "the queue of experts that have tokens, then words of 0"),
        )

    # Jobs -------------------------------------------------------------------------------------------------------------
    def job(self, **shape):
        job = MoeGateJob.of(shape)
        limits = {"tag": (0, 255), "m": (1, self.max_m), "experts": (1, self.max_experts), "top_k": (1, self.max_top_k),
                  "task": (0, self.max_tasks - 1), "multiplier": (0, (1 << 16) - 1), "shift": (0, MAX_SHIFT)}
        job = replace(job, **{name: check_int(name, getattr(job, name), *limit) for name, limit in limits.items()})
        if job.top_k > job.experts:
            raise ValueError(f"top_k must be at most experts ({job.experts}), got {job.top_k}")
        for name in ("first", "last", "renormalise"):
            if not isinstance(getattr(job, name), bool):
                raise TypeError(f"{name} must be true or false, got {getattr(job, name)!r}")
        return replace(job, nulls=check_int("nulls", job.nulls, 0, job.experts - 1))

    def job_values(self, job):
        values = {field.name: int(getattr(job, field.name)) for field in self.job_record.fields if field.name != "base"}
        return values | {"base": job.task * job.m * job.experts}

    @classmethod
    def draw_build(cls, rng):
        experts = int(rng.choice([2, 3, 5, 8, 16]))
        return cls(max_m=int(rng.choice([1, 7, 24, 40])), max_experts=experts,
                   max_top_k=int(rng.integers(1, min(experts, 4) + 1)),
                   max_tasks=int(rng.integers(1, 4)), read_latency=int(rng.integers(2, 5)))

    def draw_job(self, rng):
        experts = draw_size(rng, self.max_experts, 1)
        multiplier, shift = (1 << int(rng.integers(4)), int(rng.integers(8))) if rng.integers(2) else (
            int(rng.integers(1 << 16)), int(rng.integers(8, MAX_SHIFT + 1)))
        return self.job(m=draw_size(rng, self.max_m, 1), experts=experts, top_k=draw_size(rng, min(self.max_top_k, experts), 1),
                        task=int(rng.integers(self.max_tasks)), nulls=int(rng.integers(experts)) if rng.integers(2) else 0,
                        renormalise=bool(rng.integers(2)), tag=int(rng.integers(256)), multiplier=multiplier, shift=shift)

    def largest_job(self):
        return self.job(m=self.max_m, experts=self.max_experts, top_k=self.max_top_k, task=self.max_tasks - 1,
                        multiplier=1 << 10, shift=12)

    def illegal_values(self):
        fields = {field.name: field for field in self.job_record.fields}
        values = [{name: value} for name, most in (("m", self.max_m), ("experts", self.max_experts), ("top_k", self.max_top_k))
                  for value in (0, most + 1, fields[name].high)]
        values += [{"shift": MAX_SHIFT + 1}, {"experts": 1, "top_k": 1, "nulls": 1}, {"base": self.words}]
        return values + ([{"experts": 1, "top_k": 2}] if self.max_top_k > 1 else [])

    # Closed forms -----------------------------------------------------------------------------------------------------
    def beats(self, stream, job):
        if stream == "pair":
            return job.m * job.top_k
        if stream == "expert":
            return job.experts
        raise ValueError(f"stream must be pair or expert, got {stream!r}")

    def cycles(self, job):
        """A token takes experts + top_k cycles, its logits and the exponentials of its choice; then the pairs are sorted: two
        passes over the experts, two over the pairs. Whatever the logits are and whatever task came before."""
        slot, pairs = job.experts + job.top_k, job.m * job.top_k
        last_logit = FIRST_REQUEST + job.m * slot - job.top_k - 1
        chosen = last_logit + self.read_latency + CONVERT_LATENCY + 1
        scores = chosen + slot + EXP2_LATENCY + 1 + RECIPROCAL_LATENCY + 1 + job.top_k + SCORE_LATENCY
        return scores + 2 * (job.experts + pairs) + _SORT

    def cycles_back_to_back(self, job):
        return self.cycles(job) - _QUEUED

    def useful_fraction(self, job, cycles):
        useful = np.float64(job.m * job.experts / cycles).item()
        return {"stream": useful, "compute": useful, "useful": useful}
