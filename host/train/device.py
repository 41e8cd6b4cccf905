"""What a training machine does for a step: gather operands, multiply, prune, update; every call is a job of an engine, booked."""

from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...models.formats.bf16 import to_bf16
from ...models.golden import nm_load, nm_prune, nm_train, nm_update
from ...models.spec.errors import InputError
from ...models.spec.nm_load import NmLoad
from ...models.spec.nm_prune import NmPrune
from ...models.spec.nm_train import NmTrain
from ...models.spec.nm_update import NmUpdate
from .ledger import Ledger

__all__ = ["GoldenDevice", "Machine", "Operand", "TrainDevice"]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The builds of a training machine: array, pruner, update engine and loader."""

    array: NmTrain
    pruner: NmPrune
    updater: NmUpdate
    loader: NmLoad

    @classmethod
    def of(cls, *, rows=32, cols=16, slots=16, words=2, prune_values=4, update_lanes=16):
        """A machine of ``rows`` x ``cols`` PEs, by default an array of the preset sparseloom-vcu1525, with room for any batch of
        the built-in networks."""
        most = 1 << 17
        return cls(array=NmTrain(rows=rows, cols=cols, slots=slots, words=words, max_m=most, max_n=most - 2, max_k=most),
                   pruner=NmPrune(lanes=cols, values=prune_values, slots=slots, max_n=most - 2, max_k=(1 << 15) - 1),
                   updater=NmUpdate(lanes=update_lanes, max_n=1 << 20),
                   loader=NmLoad(words=words, rows=max(16, rows), slots=slots, map_words=1 << 16))


@dataclass(frozen=True, kw_only=True)
class Operand:
    """The right side of a product: ``values`` bfloat16 and ``index`` uint8 [n, groups, nnz], groups of ``group`` along ``k``."""

    values: np.ndarray
    index: np.ndarray
    group: int
    k: int

    @property
    def nnz(self):
        return self.values.shape[2]

    @property
    def pattern(self):
        return f"{self.nnz}:{self.group}"

    @classmethod
    def dense(cls, b):
        """Of a matrix bfloat16 [k, n]."""
        values, index, group = nm_train.dense(b)
        return cls(values=values, index=index, group=group, k=len(b))


class TrainDevice(ABC):
    """One machine, somewhere. Arrays are bfloat16 maps [batch, height, width, channels] and matrices, float32 weights.

    ``ledger`` books each job under the layer and pass of :meth:`within`; outside of it nothing is booked.
    """

    basis: str

    def __init__(self, machine):
        self.machine, self.ledger = machine, Ledger()
        self._place = None

    @contextmanager
    def within(self, layer, phase):
        """Jobs inside belong to this layer and pass."""
        before, self._place = self._place, (layer, phase)
        try:
            yield self
        finally:
            self._place = before

    def rows(self, x, window):
        """A [pixels of the window, taps * channels] of a map: im2col."""
        return self._gather(x, self._load_job(x, window, "rows"))

    def columns(self, x, window):
        """B, the same matrix, gathered in the order in which columns are taken."""
        return self._gather(x, self._load_job(x, window, "columns"))

    def transposed(self, x):
        """A [channels, pixels] of a map."""
        return self._gather(x, self._load_job(x, None, "transposed"))

    def product(self, a, b, *, dataflow, narrow=False):
        """``a`` bfloat16 [m, k] times an :class:`Operand`: float32 [m, n], ``narrow`` bfloat16."""
        job = self._job(self.machine.array, m=a.shape[0], n=len(b.values), k=a.shape[1], nnz=b.nnz, group=b.group,
                        dataflow=dataflow, narrow=narrow)
        return self._multiply(a, b, job)

    def prune(self, w, nnz, group):
        """The :class:`Operand` of weights float32 [n, k], the ``nnz`` largest of each ``group`` along k; 1, 1: all."""
        return self._prune(w, self._job(self.machine.pruner, n=w.shape[0], k=w.shape[1], nnz=nnz, group=group))

    def update(self, w, g, mom, keep=None, **rule):
        """(new weights, new momentum), float32 of the shape of ``w``; ``rule``: the fields of ``NmUpdateJob``."""
        job = self._job(self.machine.updater, n=w.size, **rule)
        new, moved = self._update(w.reshape(-1), g.reshape(-1), mom.reshape(-1), None if keep is None else keep.reshape(-1), job)
        return new.reshape(w.shape), moved.reshape(w.shape)

    def close(self):  # noqa: B027 -- most devices hold nothing
        """Let go of whatever the device holds open."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _load_job(self, x, window, order):
        batch, height, width, channels = x.shape
        fields = vars(window) if window else {}
        return self._job(self.machine.loader, order=order, batch=batch, height=height, width=width, channels=channels, **fields)

    def _job(self, build, **shape):
        """The job; InputError where the build is too small for it."""
        try:
            return _checked(build, tuple(shape.items()))
        except ValueError as error:
            layer, phase = self._place or ("network", "evaluation")
            raise InputError(f"{layer}, {phase}", "jobs", f"fit the build of {build.name}", str(error)) from None

    def _book(self, build, job, kind, **found):
        if self._place:
            predicted = _cycles(build, job)
            self.ledger.book(build.name, *self._place, kind, **({"cycles": predicted} | found), predicted=predicted)

    @abstractmethod
    def _gather(self, x, job):
        """bfloat16 matrix."""

    @abstractmethod
    def _multiply(self, a, b, job):
        """float32 or bfloat16 matrix."""

    @abstractmethod
    def _prune(self, w, job):
        """Operand."""

    @abstractmethod
    def _update(self, w, g, mom, keep, job):
        """(weights, momentum) of vectors."""


class GoldenDevice(TrainDevice):
    """The golden models; cycles by the closed forms (basis ``exact``)."""

    basis = "exact"

    def _gather(self, x, job):
        self._book(self.machine.loader, job, job.order)
        if job.order == "transposed":
            return np.ascontiguousarray(x.reshape(-1, x.shape[3]).T)
        return nm_load.im2col(x, nm_load.window_of(job))

    def _multiply(self, a, b, job):
        self._book(self.machine.array, job, kind_of(job))
        if b.group == 1 and job.m < job.n:
            # The transposed product has the same bits, as multiplication commutes, and longer rows to run along.
            y = nm_train.product(b.values[:, :, 0], a[:, :, None], np.zeros((*a.shape, 1), np.uint8), 1).T
        else:
            y = nm_train.product(a, b.values, b.index, b.group)
        return to_bf16(y) if job.narrow else np.ascontiguousarray(y)

    def _prune(self, w, job):
        self._book(self.machine.pruner, job, f"{job.nnz}:{job.group}")
        values, index = nm_prune.prune(w, job.nnz, job.group)
        return Operand(values=values, index=index, group=job.group, k=job.k)

    def _update(self, w, g, mom, keep, job):
        self._book(self.machine.updater, job, job.rule)
        new, moved, _ = nm_update.update(w, g, mom, keep=keep, **hyper(job))
        return new, moved


def kind_of(job):
    """How the ledger names a product."""
    return f"{job.nnz}:{job.group} {job.dataflow}"


def hyper(job):
    """The hyperparameters of an update's job, as the golden model takes them."""
    names = ("rule", "lr", "momentum", "beta1", "beta2", "weight_decay", "pruned_decay")
    return {name: getattr(job, name) for name in names}


@lru_cache(maxsize=4096)
def _checked(build, shape):
    return build.job(**dict(shape))


@lru_cache(maxsize=4096)
def _cycles(build, job):
    return build.cycles(job)
