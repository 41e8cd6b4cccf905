"""The weight update engine of training: master weights, momentum and the arrays' bfloat16 copy, by SGD or Lion."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from . import nm_update_cycles, nm_update_draw
from .engine import EngineSpec, Stream
from .errors import check_int
from .nm_update_job import FACTORS, NmUpdateJob, check_job, factors
from .record import Field, Record

__all__ = ["NmUpdate"]

_N_BITS = 32


@dataclass(frozen=True, kw_only=True)
class NmUpdate(EngineSpec):
    """Weight update of training, float32, ``lanes`` weights a cycle: SGD with momentum or Lion, weight decay, a bfloat16 copy.

    ``lion``: jobs may choose Lion as well (three multipliers and an adder more in each lane). ``pruned``: operand ``w`` carries
    a bit for each weight, and weights whose bit is 0 decay by ``pruned_decay`` besides (SR-STE).
    """

    name: ClassVar[str] = "nm_update"
    job_class: ClassVar[type] = NmUpdateJob

    lanes: int = 4
    lion: bool = True
    pruned: bool = True
    max_n: int = 1 << 20

    def __post_init__(self):
        for name, low, high in (("lanes", 1, 16), ("max_n", 1, (1 << _N_BITS) - 2)):
            object.__setattr__(self, name, check_int(name, getattr(self, name), low, high))
        for name in ("lion", "pruned"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be true or false, got {getattr(self, name)!r}")

    # Derived ----------------------------------------------------------------------------------------------------------
    @property
    def factors(self):
        """Names of the hyperparameters that its gates multiply by, in the order of the job's record."""
        return tuple(name for name, (lion, pruned) in FACTORS.items() if lion <= self.lion and pruned <= self.pruned)

    @property
    def multipliers(self):
        """Of a lane."""
        return len(self.factors)

    @property
    def adders(self):
        """Of a lane: decay or sign, pruned decay, momentum, Lion's momentum, weight."""
        return 3 + self.pruned + self.lion

    @cached_property
    def job_record(self):
        return Record((
            Field("tag", 8, doc="comes back in the completion"), Field("first", 1, doc="of no effect: no state outlives a job"),
            Field("last", 1, doc="of no effect"), Field("lion", 1, doc="Lion, else SGD"), Field("n", _N_BITS, doc="weights"),
            *(Field(name, 32, doc="bits of float32") for name in self.factors),
        ))

    @property
    def inputs(self):
        value = Field("data", 32, lanes=self.lanes, doc="bits of float32")
        keep = Field("keep", 8 * -(-self.lanes // 8), doc="a bit for each lane: 0, its weight is pruned")
        return (
            Stream("w", Record((value, keep) if self.pruned else (value,)), "master weights"),
            Stream("g", Record((value,)), "gradients"),
            Stream("mom", Record((value,)), "momentum"),
        )

    @property
    def buffers(self):
        return ()

    @property
    def outputs(self):
        return (Stream("y", Record((
            Field("index", _N_BITS, doc="of the weight in lane 0"),
            Field("weight", 32, lanes=self.lanes, doc="bits of float32; lanes beyond n are 0"),
            Field("momentum", 32, lanes=self.lanes, doc="bits of float32"),
            Field("copy", 16, lanes=self.lanes, doc="bits of bfloat16"),
        )), "what the weights have become"),)

    # Jobs -------------------------------------------------------------------------------------------------------------
    def job(self, **shape):
        return check_job(self, shape)

    def job_values(self, job):
        values = {"tag": job.tag, "first": int(job.first), "last": int(job.last), "lion": int(job.rule == "lion"), "n": job.n}
        return values | {name: value for name, value in factors(job).items() if name in self.factors}

    @classmethod
    def draw_build(cls, rng):
        return nm_update_draw.draw_build(cls, rng)

    def draw_job(self, rng):
        return nm_update_draw.draw_job(self, rng)

    def largest_job(self):
        return self.job(n=self.max_n, lr=0.125, momentum=0.875, weight_decay=0.0625)

    def illegal_values(self):
        most = {field.name: field.high for field in self.job_record.fields}["n"]
        return [{"n": value} for value in (0, self.max_n + 1, most)] + ([] if self.lion else [{"lion": 1}])

    # Closed forms -----------------------------------------------------------------------------------------------------
    def beats(self, stream, job):
        if stream not in ("w", "g", "mom", "y"):
            raise ValueError(f"stream must be w, g, mom or y, got {stream!r}")
        return -(-job.n // self.lanes)

    def cycles(self, job):
        return nm_update_cycles.cycles(self, job)

    def cycles_back_to_back(self, job):
        return nm_update_cycles.cycles(self, job) - 1

    def useful_fraction(self, job, cycles):
        useful = job.n / self.lanes / cycles
        return {"stream": useful, "compute": useful, "useful": useful}
