"""What every device is to the driver: load a plan, write operands, run steps, read results."""

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..models.spec.errors import InputError
from .families import family_of
from .plan import build_digest

__all__ = ["Device", "Receipt"]


@dataclass(frozen=True)
class Receipt:
    """What some jobs cost, summed over them.

    ``cycles``: clock edges from a job's acceptance through that of its completion; filling buffers between jobs is not in it.
    ``nbytes``: bytes by stream of the engine, operands and results. ``stalls``: cycles by cause (``i`` operands, ``x`` buffers,
    ``o`` results). ``saturations``: results clamped. ``basis`` says where the cycles come from: ``exact`` or ``rtl``.
    """

    basis: str
    jobs: int = 0
    cycles: int = 0
    saturations: int = 0
    nbytes: dict = None
    stalls: dict = None

    def __post_init__(self):
        for name in ("nbytes", "stalls"):
            object.__setattr__(self, name, Counter(getattr(self, name) or {}))

    def __add__(self, other):
        if self.basis != other.basis:
            raise ValueError(f"receipts must have one basis, got {self.basis} and {other.basis}")
        names = ("jobs", "cycles", "saturations", "nbytes", "stalls")
        return Receipt(self.basis, **{name: getattr(self, name) + getattr(other, name) for name in names})


class Device(ABC):
    """One engine build, somewhere. A subclass says how its steps are carried out; names and shapes are checked here."""

    basis: str

    def __init__(self, build):
        self.build = build
        self._family = family_of(build)
        self._stored, self._written, self._results = {}, {}, {}

    def load(self, plan):
        """Take over a plan's packed weights. InputError if the plan is for another build, ValueError if it holds no weights."""
        digest = build_digest(self.build)
        if plan.digest != digest:
            raise InputError(plan.source, "build digest", f"be {digest}, that of the device", plan.digest)
        lacking = [tile.name for name in plan.layers for tile in plan.tiles(name) if tile.name not in plan.stored]
        if lacking:
            raise ValueError(f"the plan must hold packed weights of every tile, {lacking[0]} has none")
        self._stored = dict(plan.stored)
        self._written.clear()
        self._results.clear()

    def write(self, name, codes, scale=None):
        """Write an operand: activation codes int8 [m, k]; for families that multiply by them, their scales, int32 [m, groups]."""
        codes = np.asarray(codes)
        if codes.dtype != np.int8 or codes.ndim != 2:
            raise ValueError(f"operand {name} must be int8 [m, k], got {codes.dtype} {list(codes.shape)}")
        self._written[name] = np.ascontiguousarray(codes), scale

    def run(self, steps):
        """Carry out the steps in order and return one Receipt for all of them."""
        steps = list(steps)
        for step in steps:
            for what, held in (("stored", self._stored), ("operand", self._written)):
                if getattr(step, what) not in held:
                    raise ValueError(f"{what} {getattr(step, what)!r} must be on the device; it holds {len(held)} others")
        total = Receipt(self.basis)
        for step, (result, receipt) in zip(steps, self._execute(steps), strict=True):
            self._results[step.result] = result
            total += receipt
        return total

    def read(self, name):
        """The latest result written under ``name``: int32 [m, n]. KeyError if there is none."""
        return self._results[name]

    def close(self):  # noqa: B027 -- most devices hold nothing
        """Let go of whatever the device holds open."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @abstractmethod
    def _execute(self, steps):
        """``(result int32 [m, n], Receipt)`` of each step."""

    def _receipt(self, job, **counts):
        """The receipt of one job; its bytes follow from the spec."""
        streams = (*self.build.inputs, *self.build.outputs)
        sizes = {stream.name: self.build.beats(stream.name, job) * stream.record.bytes for stream in streams}
        return Receipt(self.basis, jobs=1, nbytes=sizes, **counts)
