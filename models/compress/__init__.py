"""One-shot compression: second-order N:M pruning and group quantisation of language models, on a CPU."""

from .scheme import Scheme
from .solver import Inputs, Problem, Solution, solve

__all__ = ["Inputs", "Problem", "Scheme", "Solution", "solve"]
