"""Jobs of any families on simulated gates, one by one, each held to the golden model and to the closed form of its cycles."""

from dataclasses import dataclass, field

import numpy as np

from ..models.formats.engines import collect, pack
from ..models.golden.engines import results
from ..models.spec.engine import Status
from .runner import Simulator, Work

__all__ = ["CheckedRun", "Seen"]


@dataclass
class Seen:
    """What the jobs of a build came to: ``values`` results compared, ``wrong`` of them; ``cycles`` on gates, ``predicted`` by the
    closed form, ``off`` jobs where the two differ."""

    jobs: int = 0
    values: int = 0
    wrong: int = 0
    cycles: int = 0
    predicted: int = 0
    off: int = 0


@dataclass
class CheckedRun:
    """``run(build, job, operands)`` returns the gates' results, right or wrong, as ``golden.engines.results`` returns its own.

    ``opt`` as :class:`~.runner.Simulator` takes it. ``seen``: a :class:`Seen` for each engine's name.
    """

    opt: str = "quick"
    seen: dict = field(default_factory=dict)
    _open: dict = field(default_factory=dict)

    def __call__(self, build, job, operands):
        if build not in self._open:
            self._open[build] = Simulator(build, opt=self.opt)
        (receipt,) = self._open[build].run([Work(job, pack(build, job, operands))])
        got = collect(build, job, receipt.outputs) | {"saturated": receipt.done["saturated"]}
        want, seen = results(build, job, operands), self.seen.setdefault(build.name, Seen())
        seen.jobs += 1
        for name in set(got) | set(want):
            have, need = (np.asarray(side[name]) if name in side else np.zeros(0) for side in (got, want))
            seen.values += need.size
            seen.wrong += int((have != need).sum()) if have.shape == need.shape else max(have.size, need.size)
        seen.wrong += receipt.done["status"] != Status.OK
        seen.cycles += receipt.cycles
        seen.predicted += build.cycles(job)
        seen.off += receipt.cycles != build.cycles(job)
        return got

    def close(self):
        """Free the simulated gates."""
        for simulator in self._open.values():
            simulator.close()
        self._open.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
