"""The two-stage search: its parts on functions whose best is known, the whole against trying everything."""

import itertools

import numpy as np
import pytest

from sparseloom.perfmodel.search import Kernel, bisect, exhaustive, genetic, two_stage

SPACES = [[[number], [1, 2, 3, 4, 6, 8, 12, 16], [8, 16, 32, 64]] for number in (1, 2, 3)]
LADDER = [Kernel((size,), -(-2_000_000 // size), size // 2 + 20) for size in (16, 32, 64, 128, 256, 512, 768, 1024, 2048)]


def attention(genes):
    number, p, lanes = genes
    return Kernel(genes, -(-3 // number) * -(-197 // p) * 197 * -(-64 // lanes) * 12, number * (2 * p * lanes + 10))


def everything():
    return [attention(genes) for space in SPACES for genes in itertools.product(*space)]


def test_genetic_finds_a_peak_and_asks_once():
    asked = []

    def fitness(genes):
        asked.append(genes)
        return -sum((gene - 7) ** 2 for gene in genes)

    best = genetic([range(16)] * 3, fitness, rng=np.random.default_rng(0))
    assert best == (7, 7, 7)
    assert len(asked) == len(set(asked)) < 16**3 // 2


def test_genetic_stops_when_it_has_enough():
    asked = []
    genetic([range(100)] * 4, lambda genes: asked.append(genes) or 1.0, rng=np.random.default_rng(0), enough=1.0)
    assert 1 <= len(asked) <= 24


@pytest.mark.parametrize("first", range(9))
def test_bisect_finds_the_first_rung(first):
    seen = []
    assert bisect(range(8), lambda rung: seen.append(rung) or rung >= first) == min(first, 8)
    assert len(seen) <= 4


@pytest.mark.parametrize("budget", [60, 200, 500, 900, 1850, 3413, 9024])
def test_two_stages_find_what_trying_everything_finds(budget):
    best = exhaustive(everything(), LADDER, budget)
    found = two_stage(SPACES, attention, LADDER, budget)
    assert found.dsp <= budget and found.cycles == best.cycles
    assert found == two_stage(SPACES, attention, LADDER, budget)


def test_the_linear_kernel_is_no_larger_than_it_must_be():
    found = two_stage(SPACES, attention, LADDER, 9024)
    below = LADDER[LADDER.index(found.linear) - 1]
    assert found.linear.cycles <= found.attention.cycles < below.cycles


@pytest.mark.parametrize("budget", [0, 27, 40])
def test_a_budget_too_small_is_refused(budget):
    with pytest.raises(ValueError, match=f"budget must allow .* got {budget} DSP"):
        two_stage(SPACES, attention, LADDER, budget)
    with pytest.raises(ValueError, match="budget must allow a pair"):
        exhaustive(everything(), LADDER, budget)


def test_genes_that_make_no_kernel_are_left_out():
    def picky(genes):
        return None if genes[1] > 4 else attention(genes)

    found = two_stage(SPACES, picky, LADDER, 1850)
    assert found.attention.genes[1] <= 4
    with pytest.raises(ValueError, match="attention kernel beside"):
        two_stage(SPACES, lambda genes: None, LADDER, 1850)
