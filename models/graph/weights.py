"""Compressed weights of a layer, in memory or still in their file.

Every kind of weight is a class of its own with ``kind``, ``format``, ``n``, ``k``, ``nbytes`` and ``load()``; a mapper asks
for the kind first: ``ternary`` here, ``grouped`` (a few bits in groups, dense or N:M) in :mod:`.grouped`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..formats.trits import check_trits
from ..spec.errors import check_int

__all__ = ["StoredWeight", "TernaryWeight"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TernaryWeight:
    """The matrix ``scale * trits``: ``trits`` int8 ``[n, k]`` of -1, 0, +1; ``scale`` finite and not negative.

    TypeError or ValueError for anything else. Compared by identity.
    """

    kind: ClassVar[str] = "ternary"
    format: ClassVar[str] = "int8"

    trits: np.ndarray
    scale: float

    def __post_init__(self):
        check_trits(self.trits)
        if not (np.isfinite(self.scale) and self.scale >= 0):
            raise ValueError(f"scale must be finite and not negative, got {self.scale}")
        object.__setattr__(self, "scale", float(self.scale))

    @property
    def n(self):
        return self.trits.shape[0]

    @property
    def k(self):
        return self.trits.shape[1]

    @property
    def nbytes(self):
        return self.trits.nbytes

    def load(self):
        """Itself: it is in memory."""
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredWeight:
    """A weight ``[n, k]`` that is still in its file: ``nbytes`` bytes in ``format``, of which nothing has been read.

    ``read()`` returns the weight as the class of ``kind`` and raises InputError where the stored bytes are not legal. ``form``:
    what the file's header tells of it, for kinds that have forms; None if only reading tells.
    """

    kind: str
    format: str
    n: int
    k: int
    nbytes: int
    read: Callable[[], Any]
    form: Any = None

    def __post_init__(self):
        for name in ("n", "k", "nbytes"):
            check_int(name, getattr(self, name), 1, 1 << 63)

    def load(self):
        """The weight in memory. It reads anew at each call: nothing is kept."""
        weight = self.read()
        if (weight.kind, weight.n, weight.k) != (self.kind, self.n, self.k):
            raise ValueError(
                f"read must return a {self.kind} weight [{self.n}, {self.k}], got {weight.kind} [{weight.n}, {weight.k}]"
            )
        return weight
