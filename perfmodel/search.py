"""Two-stage search of an accelerator with two kinds of kernels that work at the same time, each on an image of its own.

The method of UbiMoE (arXiv 2502.05602): the linear kernel alone gets the whole budget, which tells the least time that is worth
reaching; a genetic search finds attention kernels that keep up with it; bisection finds the smallest linear kernel that is no
slower than they are. Population settings were not published: those here are ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Choice", "Kernel", "bisect", "exhaustive", "genetic", "two_stage"]


@dataclass(frozen=True)
class Kernel:
    """A kernel that may be built: ``genes`` say which, ``cycles`` an image takes, ``dsp`` slices."""

    genes: tuple
    cycles: int
    dsp: int


@dataclass(frozen=True)
class Choice:
    """A pair of kernels, and how many kernels of both kinds were evaluated to find it. ``cycles``: the slower one's, the time
    from one image to the next."""

    attention: Kernel
    linear: Kernel
    evaluated: int

    @property
    def cycles(self):
        return max(self.attention.cycles, self.linear.cycles)

    @property
    def dsp(self):
        return self.attention.dsp + self.linear.dsp

    @property
    def order(self):
        """The better of two choices has the smaller."""
        return self.cycles, self.dsp


def genetic(space: Sequence[Sequence], fitness: Callable, *, rng, population=24, generations=40, enough=None):
    """The genes with the largest ``fitness(genes)`` that were met: a tuple with one of each of the lists in ``space``.

    Tournaments of two, uniform crossover, each gene redrawn with probability 1 / len(space), the best two survive. Ends after
    ``generations``, or as soon as the best is ``enough``. ``fitness`` is asked once for the same genes.
    """
    known = {}

    def score(genes):
        if genes not in known:
            known[genes] = fitness(genes)
        return known[genes]

    def draw():
        return tuple(values[int(rng.integers(len(values)))] for values in space)

    def parent():
        return max((people[int(rng.integers(len(people)))] for _ in range(2)), key=score)

    people = [draw() for _ in range(population)]
    for _ in range(generations):
        people.sort(key=score, reverse=True)
        if enough is not None and score(people[0]) >= enough:
            break
        children = people[:2]
        while len(children) < population:
            pair = parent(), parent()
            child = tuple(pair[int(rng.integers(2))][at] for at in range(len(space)))
            children.append(tuple(value if rng.random() >= 1 / len(space) else draw()[at] for at, value in enumerate(child)))
        people = children
    return max(people, key=score)


def bisect(ladder: Sequence, meets: Callable):
    """Index of the first rung that ``meets`` (False up to some rung, True from there on), len(ladder) if none does."""
    low, high = 0, len(ladder)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(ladder[middle]) else (middle + 1, high)
    return low


def two_stage(spaces, attention, ladder, budget, *, seed=0):
    """The best :class:`Choice` found with at most ``budget`` DSP slices.

    ``spaces``: for each number of attention modules the lists of genes to draw from, the number first; ``attention(genes)`` makes
    the Kernel, or None for genes that make none. ``ladder``: linear Kernels, each slower and smaller than the one behind it.
    ValueError if nothing fits.
    """
    rng, made = np.random.default_rng(seed), {}

    def kernel(genes):
        if genes not in made:
            made[genes] = attention(genes)
        return made[genes]

    def affordable(spare):
        return ladder[: bisect(ladder, lambda rung: rung.dsp > spare)]

    if not ladder or not affordable(budget):
        raise ValueError(f"budget must allow the smallest linear kernel, got {budget} DSP slices")
    target, best = affordable(budget)[-1].cycles, None

    def fitness(genes):
        found = kernel(genes)
        rungs = affordable(budget - found.dsp) if found else []
        # What does not fit counts by how much it is too large, so that the search finds its way back.
        return -found.dsp if found and not rungs else target / max(found.cycles, rungs[-1].cycles) if found else -float("inf")

    for space in spaces:
        found = kernel(genetic(space, fitness, rng=rng, enough=1.0))
        rungs = affordable(budget - found.dsp) if found else []
        if not rungs:
            continue
        # The smallest linear kernel that is no slower than attention; if none is, the largest that fits.
        rung = rungs[min(bisect(rungs, lambda rung, most=found.cycles: rung.cycles <= most), len(rungs) - 1)]
        choice = Choice(found, rung, 0)
        best = choice if best is None or choice.order < best.order else best
    if best is None:
        raise ValueError(f"budget must allow an attention kernel beside a linear one, got {budget} DSP slices")
    return Choice(best.attention, best.linear, len(made) + len(ladder))


def exhaustive(attention, ladder, budget):
    """The best :class:`Choice` of all: ``attention`` is a list of Kernels. What :func:`two_stage` is judged by."""
    choices = [Choice(one, rung, len(attention) + len(ladder)) for one in attention for rung in ladder
               if one.dsp + rung.dsp <= budget]
    if not choices:
        raise ValueError(f"budget must allow a pair of kernels, got {budget} DSP slices")
    return min(choices, key=lambda choice: choice.order)
