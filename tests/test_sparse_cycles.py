"""Closed forms of the sparse chain: by hand, and what they promise of a real model's shapes."""

import numpy as np
import pytest

from sparseloom.models.spec import sparse_cycles
from sparseloom.models.spec.sparse_chain import SparseChain

# SmolLM2-135M: (name, columns, rows, how often a token).
LINEAR = [("q", 576, 576, 30), ("k", 576, 192, 30), ("v", 576, 192, 30), ("o", 576, 576, 30), ("gate", 576, 1536, 30),
          ("up", 576, 1536, 30), ("down", 1536, 576, 30)]
HEAD = [("head", 576, 49152, 1)]
MODEL = SparseChain(max_k=1536, max_n=49152)


def smollm2(name, k, n, m=1):
    return MODEL.job(k=k, n=n, m=m, **({"bits": 8} if name == "head" else {"bits": 4, "header": "affine"}))


def test_a_decode_token_is_bound_by_its_stream():
    """Useful bits, counted here: 4 a weight and 32 a group of 32 (the head: 8 and 16), of 512 a beat."""
    bits, cycles = 0, 0
    for name, k, n, times in LINEAR + HEAD:
        own = n * (k * 8 + k // 32 * 16 if name == "head" else k * 4 + k // 32 * 32)
        job = smollm2(name, k, n)
        assert job.useful_bits(MODEL.chains) == own
        assert MODEL.useful_fraction(job, 1)["stream"] == own / 512
        bits, cycles = bits + times * own, cycles + times * MODEL.cycles(job)
    assert bits / 512 / cycles >= 0.99
    assert cycles == 1_514_412


def test_a_prefill_of_64_keeps_the_multipliers_busy():
    """Of 16 chains of 8 multipliers for two tokens: k * n * 64 / 256 cycles at best."""
    best, cycles = 0, 0
    for name, k, n, times in LINEAR:
        job = smollm2(name, k, n, m=64)
        took = MODEL.cycles(job)
        assert MODEL.useful_fraction(job, took)["compute"] == k * n * 64 / 256 / took >= 0.99
        best, cycles = best + times * k * n * 64 // 256, cycles + times * took
    assert best / cycles >= 0.99


@pytest.mark.parametrize("nnz, group", [(2, 4), (1, 4), (4, 8), (2, 8), (1, 8), (8, 16), (4, 16), (2, 16), (1, 16)])
def test_fewer_products_take_less_time(nnz, group):
    """Bound by multipliers: group / nnz times as fast, less 5 % at most; beyond 8:1 a pass is one step, half as fast."""
    build = SparseChain(window=128, max_k=2048, max_n=512)
    shape = {"k": 2048, "n": 512, "m": 64, "scale_group": 128, "x_group": 0}
    dense, sparse = (build.cycles(build.job(**shape, **more)) for more in ({}, {"nnz": nnz, "group": group}))
    ratio = group // nnz
    assert dense / sparse >= 0.95 * (ratio if ratio <= 8 else ratio / 2)
    assert dense / sparse <= ratio


@pytest.mark.parametrize("ratio, group", [(2, 4), (4, 8)])
def test_fewer_weights_take_less_time(ratio, group):
    """Bound by the stream of 8-bit codes: an index of 2 or 3 bits a weight is paid for."""
    build = SparseChain(max_k=2048, max_n=512)
    shape = {"k": 2048, "n": 512, "bits": 8, "scale_group": 128, "x_group": 0}
    dense, sparse = (build.beats("w", build.job(**shape, **more)) for more in ({}, {"nnz": group // ratio, "group": group}))
    index = group.bit_length() - 1
    # A word of headers for two groups of 128: every eighth quad of dense weights, 8 quads are 64 planes.
    assert (dense, sparse) == (32 * (64 * 8 + 8), 32 * (64 // ratio * (8 + index) + 8))


BY_HAND = SparseChain(chains=2, window=8, tokens=1, group_dsps=8, max_k=256, max_n=8, max_m=4, read_latency=2)
# From the issue of the last step to the completion: 2 cycles of buffer, 1 register, 1 multiplexer and 1 weight register, 8 of the
# cascade and 4 of its ends make 17; scaling, rounding, queue and completion 10.
BEHIND = 17 + 10


@pytest.mark.parametrize("shape, cycles", [
    # One step: the header and the plane are taken in cycles 4 and 5, the step issues 3 cycles later.
    ({"k": 8, "n": 1, "bits": 1}, 5 + 3 + BEHIND),
    # Four tiles of 8 quads of 8 planes, a header for two quads: the last of 272 words comes in cycle 275, the last of its
    # segment's 4 steps issues 3 + 3 cycles later.
    ({"k": 256, "n": 8, "bits": 8}, 3 + 4 * (8 * 8 + 4) + 3 + 3 + BEHIND),
    # Four tokens of 4 tiles of 32 steps, from when the first quad is there (2 words): the multipliers never wait.
    ({"k": 256, "n": 8, "m": 4, "bits": 1}, 3 + 2 + 3 + 4 * 4 * 32 - 1 + BEHIND),
])
def test_cycles_by_hand(shape, cycles):
    assert BY_HAND.cycles(BY_HAND.job(**shape)) == cycles


def last_issue(build, job):
    """The cycle of the last step, every tile counted."""
    line = sparse_cycles._Timeline(build, job)
    for _ in range(build.tiles(job)):
        line.run_span(job.spans(0)[0], True)
    return line.issued


def test_cycles_count_every_tile():
    """What few tiles tell of many: the recurrence, run to the end, says the same."""
    rng, compared = np.random.default_rng(5), 0
    for _ in range(150):
        build = SparseChain.draw_build(rng)
        job = build.draw_job(rng)
        if job.block or build.tiles(job) < 5:
            continue
        short = build.job(k=8, n=1, m=job.m, bits=1)
        assert build.cycles(job) - last_issue(build, job) == build.cycles(short) - last_issue(build, short)
        compared += 1
    assert compared > 20
