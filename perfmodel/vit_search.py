"""The two-stage search on the closed forms of our engines: attention modules against one linear engine, for an image."""

import itertools
from dataclasses import replace

from ..models.spec.attention import Attention
from ..models.spec.moe_linear import MoeLinear
from .cost.kernels import dsp
from .search import Kernel, exhaustive, two_stage
from .vit import VitMachine, image_steps

__all__ = ["attention_kernel", "best_of_all", "ladder", "search", "spaces"]

QUERIES = (1, 2, 3, 4, 6, 8, 12, 16)
LANES = (8, 16, 32, 64)
LINEAR = tuple(itertools.product((1, 2, 3, 4), (8, 16, 32), (16, 32, 64)))
"""``tokens``, ``rows``, ``lanes`` of the linear engines that may be built."""


def spaces(shape):
    """For each number of attention modules: that number, the queries in parallel, the lanes of each."""
    return [[[modules], QUERIES, LANES] for modules in range(1, shape.heads + 1)]


def attention_kernel(shape, score, genes):
    """The Kernel of ``genes`` = (modules, queries, lanes): cycles of an image's attention jobs, DSP slices of all modules."""
    modules, queries, lanes = genes
    build = Attention(p=queries, d_lanes=lanes, score=score, max_queries=shape.tokens, max_keys=shape.tokens,
                      max_d=shape.head_width, max_heads=shape.heads)
    job = build.job(queries=shape.tokens, keys=shape.tokens, d=shape.head_width, heads=-(-shape.heads // modules))
    return Kernel(genes, shape.depth * build.cycles(job), modules * dsp(build))


def ladder(shape, beat_bytes):
    """The linear Kernels that no other beats in both cycles and DSP slices, the smallest first: cycles of all linear jobs of an
    image."""
    rungs = []
    for tokens, rows, lanes in LINEAR:
        if rows * lanes % beat_bytes:
            continue
        machine = VitMachine.sized(shape, queries=1, attention_lanes=8, tokens=tokens, rows=rows, lanes=lanes,
                                   beat_bytes=beat_bytes, target="dsp48e2")
        cycles = sum(step.cycles for _, step in image_steps(machine, shape) if isinstance(step.build, MoeLinear))
        # Counted with everything that a job may ask for.
        whole = replace(machine.linear, score=True, max_experts=max(2, machine.linear.max_experts))
        rungs.append(Kernel((tokens, rows, lanes), cycles, dsp(whole)))
    best, kept = None, []
    for rung in sorted(rungs, key=lambda rung: (rung.dsp, rung.cycles)):
        if best is None or rung.cycles < best:
            best = rung.cycles
            kept.append(rung)
    return kept


def search(shape, budget, *, score="two_pass", beat_bytes=64, seed=0):
    """The :class:`~.search.Choice` of the two-stage search for at most ``budget`` DSP slices."""
    return two_stage(spaces(shape), lambda genes: attention_kernel(shape, score, genes), ladder(shape, beat_bytes), budget,
                     seed=seed)


def best_of_all(shape, budget, *, score="two_pass", beat_bytes=64):
    """The best Choice there is, by trying everything: what :func:`search` is judged by."""
    kernels = [attention_kernel(shape, score, genes) for space in spaces(shape) for genes in itertools.product(*space)]
    return exhaustive(kernels, ladder(shape, beat_bytes), budget)
