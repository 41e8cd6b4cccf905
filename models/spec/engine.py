"""The contract that every engine family meets: build parameters apart from jobs, ports, closed forms.

A family adds a frozen dataclass derived from :class:`EngineSpec` (build parameters: they make gates) and one derived from
:class:`Job` (shapes and flags: they make work). Everything that drives, wraps, models or checks an engine reads these two.
"""

from dataclasses import MISSING, dataclass, fields
from enum import IntEnum
from typing import ClassVar

from .record import Field, Record

__all__ = ["Buffer", "EngineSpec", "Job", "Status", "Stream", "COUNTERS"]


class Status(IntEnum):
    """How a job ended."""

    OK = 0
    ILLEGAL = 1
    OVERFLOW = 2


@dataclass(frozen=True)
class Stream:
    """A valid/ready stream port. RTL member and exported prefix: ``i_<name>`` or ``o_<name>``."""

    name: str
    record: Record
    doc: str = ""


@dataclass(frozen=True)
class Buffer:
    """An on-chip buffer the engine reads through ``x_<name>``: ``words`` words of ``width`` bits.

    A request (addr, valid/ready) accepted in cycle c has its data in cycle c + ``read_latency``, neither sooner nor later.
    """

    name: str
    width: int
    words: int
    read_latency: int
    doc: str = ""

    @property
    def addr_width(self):
        return max(1, (self.words - 1).bit_length())

    @property
    def bytes(self):
        return -(-self.width // 8)


# The fields that every completion record begins with. cycles = busy + stall_i + stall_x + stall_o.
COUNTERS = (
    Field("tag", 8, doc="tag of the job"),
    Field("status", 2, doc="0 ok, 1 illegal job (no output was made), 2 what came did not fit (statistics; words of a stream)"),
    Field("cycles", 32, doc="clock edges after the job's acceptance by the idle engine through this record's first offer"),
    Field("busy", 32, doc="cycles without a stall"),
    Field("stall_i", 32, doc="cycles in which an operand stream offered nothing that was wanted"),
    Field("stall_x", 32, doc="cycles in which a buffer refused a request"),
    Field("stall_o", 32, doc="cycles in which a result was refused"),
    Field("saturated", 32, doc="results clamped to their width"),
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of work for an engine. ``tag`` 0..255 comes back in the completion record."""

    tag: int = 0
    first: bool = True
    last: bool = True

    @classmethod
    def of(cls, shape):
        """The job of a dict of fields, values unchecked; ValueError for an unknown or a missing one."""
        known = {field.name: field for field in fields(cls)}
        for name in shape:
            if name not in known:
                raise ValueError(f"unknown job field {name!r}; fields are {', '.join(sorted(known))}")
        for name, field in known.items():
            if field.default is MISSING and name not in shape:
                raise ValueError(f"job field {name} is missing")
        return cls(**shape)


class EngineSpec:
    """Base of a family's build parameters (a frozen, keyword-only dataclass that validates itself)."""

    name: ClassVar[str]
    """The family's name in every room and on the command line."""
    job_class: ClassVar[type]

    # Ports -------------------------------------------------------------------------------------------------------------
    @property
    def job_record(self) -> Record:
        """Payload of ``job``."""
        raise NotImplementedError

    @property
    def done_record(self) -> Record:
        """Payload of ``done``; begins with :data:`COUNTERS`."""
        return Record(COUNTERS)

    @property
    def inputs(self) -> tuple[Stream, ...]:
        """Operand streams ``i_<name>``; each record is one field ``data`` of a whole number of bytes."""
        raise NotImplementedError

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """On-chip buffers read through ``x_<name>``."""
        raise NotImplementedError

    @property
    def outputs(self) -> tuple[Stream, ...]:
        """Result streams ``o_<name>``."""
        raise NotImplementedError

    # Jobs --------------------------------------------------------------------------------------------------------------
    def job(self, **shape) -> Job:
        """A legal job of this build; TypeError or ValueError names the field, the rule and the value."""
        raise NotImplementedError

    def resized(self, job, **sizes) -> Job:
        """``job`` with other sizes; ValueError if that is not legal."""
        return self.job(**vars(job) | sizes)

    def job_values(self, job) -> dict:
        """The values of ``job_record`` for a legal job."""
        raise NotImplementedError

    @classmethod
    def draw_build(cls, rng) -> "EngineSpec":
        """A random small build, every parameter varied: what the conformance suite simulates."""
        raise NotImplementedError

    def draw_job(self, rng) -> Job:
        """A random legal job: shapes log-uniform, plus 1, the maximum, and multiples of the lanes +- 1."""
        raise NotImplementedError

    def largest_job(self) -> Job:
        """The job with every shape at its maximum."""
        raise NotImplementedError

    def illegal_values(self) -> list[dict]:
        """Overrides of ``job_values`` that this build must refuse: 0, the maximum + 1, the field's largest value of each
        shape."""
        raise NotImplementedError

    # Closed forms ------------------------------------------------------------------------------------------------------
    def beats(self, stream, job) -> int:
        """Transfers on the named operand or result stream."""
        raise NotImplementedError

    def cycles(self, job) -> int:
        """Clock edges after the job's acceptance through that of ``done``: engine empty, buffers loaded, nothing refuses."""
        raise NotImplementedError

    def cycles_back_to_back(self, job) -> int:
        """Clock edges from the previous job's ``done`` to this one's, this one waiting in the queue."""
        raise NotImplementedError

    def useful_fraction(self, job, cycles) -> dict:
        """``stream``: unpadded stream bits / beat bits / cycles; ``compute``: useful MACs / peak MACs / cycles; ``useful``: the
        larger."""
        raise NotImplementedError
