"""Jobs of the N:M training array: a product, its pattern and its data flow."""

from dataclasses import dataclass, replace

from .engine import Job
from .errors import check_choice, check_int
from .floats import ADD_LATENCY
from .nm_pattern import MAX_GROUP, check_pattern

__all__ = ["DATAFLOWS", "MIN_SLOTS", "WORD", "NmTrainJob", "check_job"]

DATAFLOWS = ("os", "ws")
WORD = MAX_GROUP
"""Values of a word of ``a``, channels of a word of a map: the largest group."""
MIN_SLOTS = ADD_LATENCY + 1
"""Cycles from a sum's use to its next: the latency of the adder and of the memory that it goes to."""


@dataclass(frozen=True, kw_only=True)
class NmTrainJob(Job):
    """C[m, n] = A[m, k] x B[k, n]: ``nnz`` of each ``group`` of B's elements along k are kept (1 of 1: dense), ``dataflow`` "os"
    or "ws"; ``narrow``: results as bfloat16."""

    m: int
    n: int
    k: int
    nnz: int = 1
    group: int = 1
    dataflow: str = "os"
    narrow: bool = False


def check_job(build, shape):
    """The legal job of ``shape`` on ``build``; TypeError or ValueError names field, rule and value."""
    job = NmTrainJob.of(shape)
    limits = {"m": (1, build.max_m), "n": (1, build.max_n), "k": (1, build.max_k), "tag": (0, 255)}
    job = replace(job, **{name: check_int(name, getattr(job, name), *limit) for name, limit in limits.items()})
    for name in ("first", "last", "narrow"):
        if not isinstance(getattr(job, name), bool):
            raise TypeError(f"{name} must be true or false, got {getattr(job, name)!r}")
    nnz, group = check_pattern(job.nnz, job.group)
    return replace(job, nnz=nnz, group=group, dataflow=check_choice("dataflow", job.dataflow, DATAFLOWS))
