"""Stand-in for models.spec.nm_update until that is there."""
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class NmUpdateJob:
    n: int
    rule: str = "sgd"
    lr: float = 0.0
    momentum: float = 0.0
    beta1: float = 0.0
    beta2: float = 0.0
    weight_decay: float = 0.0
    pruned_decay: float = 0.0


@dataclass(frozen=True, kw_only=True)
class NmUpdate:
    lanes: int
    max_n: int
    name = "nm_update"

    def job(self, **shape):
        return NmUpdateJob(**shape)

    def cycles(self, job):
        return -(-job.n // self.lanes) + 20
