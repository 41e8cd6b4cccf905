"""The N:M pruner: from float32 weights to the bfloat16 operand of the training array, the largest of each group."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from .draw import draw_size
from .engine import COUNTERS, EngineSpec, Job, Stream
from .errors import check_choice, check_int
from .nm_pattern import MAX_GROUP, PATTERNS, check_pattern, groups_of
from .nm_train_job import MIN_SLOTS
from .record import Field, Record

__all__ = ["NmPrune", "NmPruneJob", "QUEUE_DEPTH"]

VALUES = (1, 2, 4, 8, 16)
LANES = (2, 4, 8, 16, 32, 64)
_TILE_BITS, _GROUP_BITS, _REST_BITS, _SLOT_BITS = 17, 16, 11, 5
_FIRST_BEAT = 3
"""The cycle of the first beat."""
_STAGES = 3
"""From a group's kept weights to the queue: place by index, choice of one, rounding."""
_END = 4
"""The queue, the port, the last beat's end, the completion."""
_QUEUED = 1
QUEUE_DEPTH = 32
"""Places for results: more than are under way at full rate, and one more group (:meth:`NmPrune.in_flight`)."""


@dataclass(frozen=True, kw_only=True)
class NmPruneJob(Job):
    """Of each ``group`` of the ``k`` weights of ``n`` columns keep the ``nnz`` of the largest magnitude; 1 of 1 only rounds.

    Magnitudes are bits 30..0 of a float32; of equal ones the lower index is kept. Weights beyond k are +0.
    """

    n: int
    k: int
    nnz: int = 2
    group: int = 8


@dataclass(frozen=True, kw_only=True)
class NmPrune(EngineSpec):
    """The nnz largest of each group of float32 weights as bfloat16 with their indices, as the N:M training array reads them.

    ``lanes`` columns at once, as many as the array has; ``slots`` beats of columns make a tile, as in the array. A lane takes
    ``values`` weights a cycle: with 1 it inserts them into a list of the largest, one by one, as published; with more it merges
    sorted lists. A group takes max(ceil(group / values), nnz) cycles.
    """

    name: ClassVar[str] = "nm_prune"
    job_class: ClassVar[type] = NmPruneJob

    lanes: int = 8
    values: int = 1
    slots: int = 8
    max_n: int = 1024
    max_k: int = 4096

    def __post_init__(self):
        for name, choices in (("lanes", LANES), ("values", VALUES)):
            object.__setattr__(self, name, check_choice(name, getattr(self, name), choices))
        for name, low, high in (("slots", MIN_SLOTS, 16), ("max_n", 1, (1 << 17) - 2), ("max_k", 1, (1 << 15) - 1)):
            object.__setattr__(self, name, check_int(name, getattr(self, name), low, high))

    # Derived ----------------------------------------------------------------------------------------------------------
    @property
    def tile_columns(self):
        """Columns of a full tile."""
        return self.lanes * self.slots

    @property
    def max_tiles(self):
        return -(-self.max_n // self.tile_columns)

    @property
    def levels(self):
        """Of the tree that sorts the weights of a beat."""
        return self.values.bit_length() - 1

    @property
    def listed(self):
        """Whether a group may come in several beats, so that a list collects its largest."""
        return self.values < MAX_GROUP

    @property
    def latency(self):
        """Cycles from a group's last beat to its first result's way into the queue."""
        return 1 + self.levels + self.listed + _STAGES

    def in_flight(self, nnz):
        """Results that may be on their way at full rate when the last beat of a group is taken, that group's included."""
        # A place is given back when its result leaves the queue, two cycles after it came and counted a cycle later.
        return nnz * (1 + -(-(self.latency + nnz + 2) // nnz))

    @cached_property
    def job_record(self):
        return Record((
            Field("tag", 8, doc="comes back in the completion"), Field("first", 1, doc="of no effect: no state outlives a job"),
            Field("last", 1, doc="of no effect"), Field("tiles", _TILE_BITS, doc="tiles of lanes * slots columns"),
            Field("rest", _REST_BITS, doc="columns of the last tile"),
            Field("last_slots", _SLOT_BITS, doc="slots of the last tile: max(4, ceil(rest / lanes))"),
            Field("groups", _GROUP_BITS, doc="ceil(k / group)"),
            Field("pattern", 3, doc="nnz of group: place in 1:1, 2:4, 1:4, 4:8, 2:8, 2:16"),
        ))

    @property
    def done_record(self):
        return Record(COUNTERS)

    @property
    def inputs(self):
        data = Field("data", 32, lanes=self.lanes * self.values, doc="float32; values of lane 0, of lane 1, ...")
        return (Stream("w", Record((data,)), "weights, formats.nm_prune_stream"),)

    @property
    def buffers(self):
        return ()

    @property
    def outputs(self):
        return (Stream("y", Record((
            Field("place", 32, doc="of the beat in the array's operand"),
            Field("value", 16, lanes=self.lanes, doc="bfloat16, columns beyond n are 0"),
            Field("index", 4, lanes=self.lanes, doc="in the group, ascending; columns beyond n are 0"),
            Field("keep", MAX_GROUP, lanes=self.lanes, doc="the group's weights kept so far, in its last beat all of them"),
        )), "kept weights, group after group"),)

    # Jobs -------------------------------------------------------------------------------------------------------------
    def job(self, **shape):
        job = NmPruneJob.of(shape)
        limits = {"n": (1, self.max_n), "k": (1, self.max_k), "tag": (0, 255)}
        job = replace(job, **{name: check_int(name, getattr(job, name), *limit) for name, limit in limits.items()})
        for name in ("first", "last"):
            if not isinstance(getattr(job, name), bool):
                raise TypeError(f"{name} must be true or false, got {getattr(job, name)!r}")
        nnz, group = check_pattern(job.nnz, job.group)
        return replace(job, nnz=nnz, group=group)

    def groups(self, job):
        return groups_of(job.k, job.group)

    def tiles(self, job):
        return -(-job.n // self.tile_columns)

    def rest(self, job):
        """Columns of the last tile."""
        return job.n - (self.tiles(job) - 1) * self.tile_columns

    def last_slots(self, job):
        return max(MIN_SLOTS, -(-self.rest(job) // self.lanes))

    def all_slots(self, job):
        """Slots of all tiles."""
        return (self.tiles(job) - 1) * self.slots + self.last_slots(job)

    def group_beats(self, job):
        """Beats of a group of each lane."""
        return -(-job.group // self.values)

    def job_values(self, job):
        return {"tag": job.tag, "first": int(job.first), "last": int(job.last), "tiles": self.tiles(job), "rest": self.rest(job),
                "last_slots": self.last_slots(job), "groups": self.groups(job), "pattern": PATTERNS.index((job.nnz, job.group))}

    @classmethod
    def draw_build(cls, rng):
        return cls(lanes=int(rng.choice([2, 2, 4])), values=int(rng.choice(VALUES)), slots=int(rng.integers(4, 8)),
                   max_n=int(rng.choice([1, 9, 30, 60])), max_k=int(rng.choice([1, 17, 40, 70])))

    def draw_job(self, rng):
        nnz, group = PATTERNS[int(rng.integers(len(PATTERNS)))]
        return self.job(n=draw_size(rng, self.max_n, self.lanes), k=draw_size(rng, self.max_k, group), nnz=nnz, group=group,
                        tag=int(rng.integers(256)))

    def largest_job(self):
        """Dense: the most groups, and so the most results."""
        return self.job(n=self.max_n, k=self.max_k, nnz=1, group=1)

    def illegal_values(self):
        fields = {field.name: field for field in self.job_record.fields}
        shapes = {"tiles": self.max_tiles, "rest": self.tile_columns, "groups": self.max_k, "last_slots": self.slots}
        values = [{name: value} for name, most in shapes.items() for value in (0, most + 1, fields[name].high)]
        return [*values, {"last_slots": MIN_SLOTS - 1}, *({"pattern": value} for value in range(len(PATTERNS), 8))]

    # Closed forms -----------------------------------------------------------------------------------------------------
    def beats(self, stream, job):
        groups = self.groups(job) * self.all_slots(job)
        if stream == "w":
            return groups * self.group_beats(job)
        if stream == "y":
            return groups * job.nnz
        raise ValueError(f"stream must be w or y, got {stream!r}")

    def cycles(self, job):
        """A group of each lane takes its beats or its results, whichever are more."""
        groups, beats = self.groups(job) * self.all_slots(job), self.group_beats(job)
        last_beat = _FIRST_BEAT + (groups - 1) * max(beats, job.nnz) + beats - 1
        return last_beat + self.latency + job.nnz - 1 + _END

    def cycles_back_to_back(self, job):
        return self.cycles(job) - _QUEUED

    def useful_fraction(self, job, cycles):
        weights = job.n * job.k / self.lanes
        useful = weights * max(1 / self.values, job.nnz / job.group) / cycles
        return {"stream": useful, "compute": useful, "useful": useful}
