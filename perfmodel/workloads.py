"""Models as lists of matrix products, for estimates without a file."""

from dataclasses import dataclass

__all__ = ["LLAMA2_7B", "Matrix", "Workload"]


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A weight matrix [n, k]. ``each_token``: a prefill multiplies it by every token, else by the last alone. ``sparse``: kept
    with the density of the sparse matrices of a preset."""

    name: str
    n: int
    k: int
    each_token: bool = True
    sparse: bool = False


@dataclass(frozen=True)
class Workload:
    """``blocks`` times the matrices of ``block``, then those of ``after``."""

    name: str
    blocks: int
    block: tuple
    after: tuple

    @property
    def weights(self):
        """Weights of all matrices."""
        return self.blocks * sum(part.n * part.k for part in self.block) + sum(part.n * part.k for part in self.after)


_WIDTH, _INNER, _VOCABULARY = 4096, 11008, 32000

LLAMA2_7B = Workload(
    "LLaMA2-7B", 32,
    (
        Matrix(name="query", n=_WIDTH, k=_WIDTH, sparse=True), Matrix(name="key", n=_WIDTH, k=_WIDTH, sparse=True),
        Matrix(name="value", n=_WIDTH, k=_WIDTH), Matrix(name="attention output", n=_WIDTH, k=_WIDTH),
        Matrix(name="gate", n=_INNER, k=_WIDTH), Matrix(name="up", n=_INNER, k=_WIDTH), Matrix(name="down", n=_WIDTH, k=_INNER),
    ),
    (Matrix(name="head", n=_VOCABULARY, k=_WIDTH, each_token=False),),
)
"""Touvron et al., arXiv 2307.09288."""
