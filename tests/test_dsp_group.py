"""The DSP group of the sparse chain: exact sums at the promised cycle, in pysim."""

import gc
import warnings

import numpy as np
import pytest
from amaranth.hdl import UnusedElaboratable
from amaranth.sim import Simulator

from sparseloom.hdl.sparse_chain.dsp_group import DspGroup
from sparseloom.sim.mutants import Mutant, verdict

CORNERS = (-128, 127, -127, -1, 0, 1)


def vectors(dsps, tokens, count, seed):
    """(x, w): int64 [vector, dsps, tokens] and [vector, dsps], constant corners first, then alternating signs, then random."""
    rng = np.random.default_rng(seed)
    flat = [(a, b, c) for a in CORNERS for b in CORNERS for c in CORNERS]
    x, w = np.empty((len(flat), dsps, tokens), int), np.empty((len(flat), dsps), int)
    for row, (first, last, weight) in enumerate(flat):
        x[row, :, 0], x[row, :, -1], w[row] = first, last, weight
    signs = np.where(np.arange(dsps) % 2, 1, -1)
    mixed = rng.choice((-128, 127), (count, dsps, tokens)), rng.choice((-128, 127), (count, dsps))
    plain = rng.integers(-128, 128, (count, dsps, tokens)), rng.integers(-128, 128, (count, dsps))
    alternating = np.repeat((signs * 127)[None, :, None], tokens, 2), (signs * 127 - (signs < 0))[None]
    order = rng.permutation(len(flat) + 1 + 2 * count)
    return tuple(np.concatenate(parts)[order] for parts in zip((x, w), alternating, mixed, plain, strict=True))


def exact(x, w):
    """Sums by definition, a list of tuples of Python integers."""
    return [tuple(sum(int(a) * int(b) for a, b in zip(column, weights, strict=True)) for column in rows.T)
            for rows, weights in zip(x, w, strict=True)]


def simulate(group, x, w):
    """What ``group`` gives for skewed operands, one tuple a vector, read ``group.latency`` cycles after position 0's operands."""
    results = []

    async def bench(ctx):
        for cycle in range(len(x) + group.latency):
            for j in range(group.dsps):
                if 0 <= cycle - j < len(x):
                    ctx.set(group.w[j], int(w[cycle - j][j]))
                    for token in range(group.tokens):
                        ctx.set(group.x[j][token], int(x[cycle - j][j][token]))
            if cycle >= group.latency:
                results.append(tuple(ctx.get(group.y[token]) for token in range(group.tokens)))
            await ctx.tick()

    simulator = Simulator(group)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return results


@pytest.mark.parametrize("tokens", (1, 2))
@pytest.mark.parametrize("dsps", range(1, 9))
def test_portable_sums_are_exact(dsps, tokens):
    x, w = vectors(dsps, tokens, 40, seed=dsps)
    assert simulate(DspGroup(dsps, tokens), x, w) == exact(x, w)


PORTABLE = "hdl.sparse_chain.dsp_portable"
MUTANTS = [
    Mutant("weights a cycle early", PORTABLE, "delay(m, weight, 2,", "delay(m, weight, 1,"),
    Mutant("sums start anew at each position", PORTABLE, "sums[token] + product", "product"),
    Mutant("sum too narrow for the corner", PORTABLE, "SUM_BITS = 19", "SUM_BITS = 18"),
    Mutant("a register too few", PORTABLE, "sums[token] = total", "sums[token] = total if j else product"),
]


def check():
    from sparseloom.hdl.sparse_chain.dsp_group import DspGroup  # noqa: F811 - a mutant's child process imports it anew
    x, w = vectors(8, 2, 40, seed=3)
    assert simulate(DspGroup(8, 2), x, w) == exact(x, w)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_killed(mutant):
    assert verdict(mutant, check).startswith("AssertionError")


@pytest.mark.parametrize("values, kind, message", [
    ((0, 1), ValueError, "dsps must be 1..8, got 0"),
    ((9, 1), ValueError, "dsps must be 1..8, got 9"),
    ((2, 3), ValueError, "tokens must be 1..2, got 3"),
    ((2.0, 1), TypeError, "dsps must be an integer, got 2.0"),
    ((2, 2, "virtex"), ValueError, "target must be one of portable, dsp48e2, ecp5, got 'virtex'"),
])
def test_bad_parameters_are_refused(values, kind, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)  # a component half made is never elaborated
        with pytest.raises(kind, match=message):
            DspGroup(*values)
        gc.collect()
