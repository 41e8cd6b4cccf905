"""The training machine on simulated gates: every operand gathered, product, pruning and update is a job of an engine's gates."""

from copy import copy

import numpy as np

from ..host.train.device import Machine, Operand, TrainDevice, kind_of
from ..models.formats.bf16 import BF16
from ..models.spec.nm_load import NmLoad
from ..models.spec.nm_prune import NmPrune
from ..models.spec.nm_train import NmTrain
from ..models.spec.nm_update import NmUpdate
from .checked_run import CheckedRun, Seen

__all__ = ["SMALL", "SimTrainDevice"]

SMALL = Machine(
    array=NmTrain(rows=4, cols=4, slots=4, words=1, ws_rows=16, max_m=1024, max_n=1024, max_k=2048),
    pruner=NmPrune(lanes=4, values=4, slots=4, max_n=1024, max_k=2048),
    updater=NmUpdate(lanes=2, max_n=8192),
    loader=NmLoad(words=1, rows=16, slots=4, map_words=4096),
)
"""A machine of 16 PEs: what it computes has the bits of any other, and its gates are compiled within a minute. ``digits-small``
fits with batches of 64 at most."""


class SimTrainDevice(TrainDevice):
    """Simulated gates, a simulation an engine; each result goes on as the gates gave it. Cycles are counted (basis ``rtl``).

    Each job is also held to the golden model and to the closed form of its cycles: the ledger's ``wrong`` and ``off``.
    ``machine`` None: :data:`SMALL`. ``opt`` as :class:`~.runner.Simulator` takes it.
    """

    basis = "rtl"

    def __init__(self, machine=None, *, opt="quick"):
        super().__init__(machine or SMALL)
        self._run = CheckedRun(opt=opt)

    def close(self):
        self._run.close()

    def _job_done(self, build, job, kind, operands):
        """The gates' results of a job, booked."""
        before = copy(self._run.seen.get(build.name, Seen()))
        found = self._run(build, job, operands)
        after = self._run.seen[build.name]
        self._book(build, job, kind, cycles=after.cycles - before.cycles, compared=after.values - before.values,
                   wrong=after.wrong - before.wrong)
        return found

    def _gather(self, x, job):
        bits = self._job_done(self.machine.loader, job, job.order, {"x": x})["w"][0]
        rows, columns = (job.channels, job.pixels) if job.order == "transposed" else (job.rows, 16 * job.tap_words)
        matrix = bits[:rows, :columns].astype(np.uint16)
        if job.order != "transposed" and job.channels % 16:
            # The map's padding is no part of the matrix.
            matrix = matrix.reshape(rows, -1, 16 * job.channel_words)[:, :, : job.channels].reshape(rows, -1)
        return np.ascontiguousarray(matrix).view(BF16)

    def _multiply(self, a, b, job):
        bits = self._job_done(self.machine.array, job, kind_of(job), {"a": a, "values": b.values, "index": b.index})["y"]
        return bits.astype(np.uint16).view(BF16) if job.narrow else bits.view(np.float32)

    def _prune(self, w, job):
        found = self._job_done(self.machine.pruner, job, f"{job.nnz}:{job.group}", {"w": np.ascontiguousarray(w)})
        return Operand(values=found["values"].view(BF16), index=found["index"], group=job.group, k=job.k)

    def _update(self, w, g, mom, keep, job):
        operands = {"w": w, "g": g, "mom": mom}
        if self.machine.updater.pruned:
            operands["keep"] = np.ones(job.n, bool) if keep is None else keep
        found = self._job_done(self.machine.updater, job, job.rule, operands)
        return found["weight"].view(np.float32), found["momentum"].view(np.float32)
