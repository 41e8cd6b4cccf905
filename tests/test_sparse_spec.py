"""The sparse chain's builds and jobs: what is refused, in which words; what follows from their parameters."""

import dataclasses

import numpy as np
import pytest

from sparseloom.models.golden.sparse_chain import matmul
from sparseloom.models.spec.sparse_chain import SparseChain

BUILD = SparseChain(chains=2, window=32, codebook=True, max_k=256, max_n=6, max_m=4)
DENSE_ONLY = SparseChain(chains=2, window=8, max_bits=4, max_k=256, max_n=6, max_m=4)


@pytest.mark.parametrize("values, error, message", [
    ({"chains": 0}, ValueError, "chains must be 1..64, got 0"),
    ({"chains": 65}, ValueError, "chains must be 1..64, got 65"),
    ({"chains": 2.5}, TypeError, "chains must be an integer, got 2.5"),
    ({"window": 24}, ValueError, "window must be one of 8, 16, 32, 64, 128, got 24"),
    ({"window": 8.0}, TypeError, "window must be an integer, got 8.0"),
    ({"tokens": 3}, ValueError, "tokens must be one of 1, 2, got 3"),
    ({"tokens": True}, TypeError, "tokens must be an integer, got True"),
    ({"max_bits": 9}, ValueError, "max_bits must be 1..8, got 9"),
    ({"codebook": 1}, TypeError, "codebook must be true or false, got 1"),
    ({"codebook": True, "max_bits": 3}, ValueError, "max_bits must be 4 or more with a codebook, got 3"),
    ({"group_dsps": 3}, ValueError, "group_dsps must be one of 1, 2, 4, 8, got 3"),
    ({"max_k": (1 << 15) + 1}, ValueError, "max_k must be 1..32768, got 32769"),
    ({"max_n": 0}, ValueError, "max_n must be 1..262144, got 0"),
    ({"max_m": 257}, ValueError, "max_m must be 1..256, got 257"),
    ({"read_latency": 1}, ValueError, "read_latency must be 2..4, got 1"),
    ({"target": "ice40"}, ValueError, "target must be one of portable, dsp48e2, ecp5, got 'ice40'"),
    ({"target": 8}, ValueError, "target must be one of portable, dsp48e2, ecp5, got 8"),
])
def test_impossible_builds(values, error, message):
    with pytest.raises(error) as caught:
        SparseChain(**values)
    assert type(caught.value) is error and str(caught.value) == message


BLOCKS = {"block": 64, "k": 256, "n": 4}
ILLEGAL = [
    ({"n": 1}, ValueError, "job field k is missing"),
    ({"k": 1}, ValueError, "job field n is missing"),
    ({"k": 1, "n": 1, "sparsity": 2}, ValueError,
     "unknown job field 'sparsity'; fields are bits, block, blocks, codebook, first, group, header, k, last, m, n, nnz, "
     "scale_group, shift, tag, x_group"),
    ({"k": 257}, ValueError, "k must be 1..256, got 257"),
    ({"k": 8.5}, TypeError, "k must be an integer, got 8.5"),
    ({"n": 0}, ValueError, "n must be 1..6, got 0"),
    ({"m": 5}, ValueError, "m must be 1..4, got 5"),
    ({"tag": 256}, ValueError, "tag must be 0..255, got 256"),
    ({"bits": 9}, ValueError, "bits must be 1..8, got 9"),
    ({"shift": 48}, ValueError, "shift must be 0..47, got 48"),
    ({"first": 1}, TypeError, "first must be true or false, got 1"),
    ({"last": "no"}, TypeError, "last must be true or false, got 'no'"),
    ({"nnz": 1, "group": 2}, ValueError, "group must be one of 1, 4, 8, 16, got 2"),
    ({"nnz": 32, "group": 32}, ValueError, "group must be one of 1, 4, 8, 16, got 32"),
    ({"nnz": 3, "group": 4}, ValueError, "nnz must be one of 1, 2, 4, got 3"),
    ({"nnz": 8, "group": 4}, ValueError, "nnz must be one of 1, 2, 4, got 8"),
    ({"nnz": 0, "group": 4}, ValueError, "nnz must be one of 1, 2, 4, got 0"),
    ({"nnz": 2.0, "group": 4}, TypeError, "nnz must be an integer, got 2.0"),
    ({"nnz": 1, "group": 8, "scale_group": 64, "x_group": 64}, ValueError,
     "group / nnz must be at most 4 (window / 8), got 8/1"),
    ({"scale_group": 16}, ValueError, "scale_group must be a power of two from 32, or 0, got 16"),
    ({"scale_group": 96}, ValueError, "scale_group must be a power of two from 32, or 0, got 96"),
    ({"scale_group": 1 << 16}, ValueError, "scale_group must be 0..32768, got 65536"),
    ({"x_group": 48}, ValueError, "x_group must be a power of two from 32, or 0, got 48"),
    ({"block": 31}, ValueError, "block must be a power of two from 32, or 0, got 31"),
    ({"header": "zeros"}, ValueError, "header must be one of scale, affine, zero, levels, got 'zeros'"),
    ({"header": "affine", "nnz": 2, "group": 4}, ValueError,
     "header must not be affine with N:M weights: what is left out is 0"),
    ({"header": "affine", "nnz": 4, "group": 4, "block": 64}, ValueError,
     "header must not be affine with N:M weights: what is left out is 0"),
    ({"header": "zero", "bits": 5}, ValueError, "bits must be at most 4 with header zero, got 5"),
    ({"header": "levels", "bits": 8}, ValueError, "bits must be at most 4 with header levels, got 8"),
    ({"codebook": 1}, TypeError, "codebook must be true or false, got 1"),
    ({"codebook": True, "bits": 3}, ValueError,
     "codebook must come with a build that has one, 4 bits and header scale, got codebook=True, 3 bits, header scale"),
    ({"codebook": True, "header": "zero"}, ValueError,
     "codebook must come with a build that has one, 4 bits and header scale, got codebook=True, 4 bits, header zero"),
    ({"blocks": (((0, 1),),)}, ValueError, "blocks must be absent without block"),
    (BLOCKS | {"scale_group": 128}, ValueError, "scale_group must be at most block (64) or 0, got 128"),
    (BLOCKS | {"block": 512}, ValueError,
     "block must divide 256 columns, the most of this build, so that 256 columns fit, got 512"),
    (BLOCKS | {"blocks": 3}, TypeError, "blocks must be tiles of pairs (block, nnz), got 3"),
    (BLOCKS | {"blocks": ((0,), (0,))}, TypeError, "blocks must be tiles of pairs (block, nnz), got ((0,), (0,))"),
    (BLOCKS | {"blocks": (((0, 1),),)}, ValueError, "blocks must list 2 tiles of 2 rows, got 1"),
    (BLOCKS | {"blocks": (((0, 1),), ())}, ValueError, "blocks of tile 1 must hold one block at least"),
    (BLOCKS | {"blocks": (((0, 1),), ((4, 1),))}, ValueError, "block of tile 1 must be 0..3, got 4"),
    (BLOCKS | {"blocks": (((0, 1), (0, 1)), ((1, 1),))}, ValueError, "blocks of tile 0 must ascend, got 0 after 0"),
    (BLOCKS | {"blocks": (((2, 1), (1, 1)), ((1, 1),))}, ValueError, "blocks of tile 0 must ascend, got 1 after 2"),
    (BLOCKS | {"nnz": 4, "group": 4, "blocks": (((1, 3),), ((1, 1),))}, ValueError,
     "nnz of block 1 of tile 0 must be one of 1, 2, 4, got 3"),
    (BLOCKS | {"nnz": 8, "group": 8, "blocks": (((1, 2),), ((1, 1),))}, ValueError,
     "group / nnz must be at most 4 (window / 8) in block 1 of tile 1, got 8/1"),
]


@pytest.mark.parametrize("shape, error, message", ILLEGAL, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_illegal_jobs(shape, error, message):
    if "missing" not in message:
        shape = {"k": 64, "n": 2} | shape
    with pytest.raises(error) as caught:
        BUILD.job(**shape)
    assert type(caught.value) is error and str(caught.value) == message


@pytest.mark.parametrize("build, shape, message", [
    (DENSE_ONLY, {"nnz": 2, "group": 4}, "group / nnz must be at most 1 (window / 8), got 4/2"),
    (DENSE_ONLY, {"bits": 5}, "bits must be 1..4, got 5"),
    (DENSE_ONLY, {"codebook": True},
     "codebook must come with a build that has one, 4 bits and header scale, got codebook=False, 4 bits, header scale"),
    (dataclasses.replace(BUILD, window=128), {"nnz": 1, "group": 8},
     "group / nnz must be at most 4 with scales for 32 columns, got 8/1"),
    (dataclasses.replace(BUILD, window=128), {"nnz": 1, "group": 16, "scale_group": 128, "x_group": 64},
     "group / nnz must be at most 8 with scales for 64 columns, got 16/1"),
])
def test_jobs_beyond_a_build(build, shape, message):
    with pytest.raises(ValueError) as caught:
        build.job(k=64, n=2, **shape)
    assert str(caught.value) == message


def test_whole_numbers_of_other_libraries_become_plain_ones():
    build = SparseChain(chains=np.int8(2), window=np.int64(16), tokens=np.uint8(1), group_dsps=np.int16(4))
    job = build.job(k=np.int64(64), n=np.int32(2), nnz=np.int8(2), group=np.uint8(4), block=np.int64(32),
                    blocks=[[[np.int64(1), np.int64(4)]]])
    values = [getattr(build, name) for name in ("chains", "window", "tokens", "group_dsps")]
    assert {type(value) for value in (*values, job.k, job.nnz, job.block, *job.blocks[0][0])} == {int}
    assert job == build.job(k=64, n=2, nnz=2, group=4, block=32, blocks=(((1, 4),),)) and len({job, job}) == 1


def test_blocks_by_default_are_every_second():
    job = BUILD.job(k=250, n=5, nnz=2, group=4, block=64)
    assert job.blocks == (((0, 2), (2, 2)),) * 3 and job.columns == 256 and BUILD.x_words(job) == 8


def test_every_field_of_a_job_record_holds_its_largest_value():
    build = SparseChain(chains=1, window=8, max_k=1 << 15, max_n=1 << 18, max_m=256)
    job = dataclasses.replace(build.largest_job(), tag=255, shift=47)
    values = build.job_values(job)
    assert build.job_record.decode(build.job_record.encode(values)) == values
    assert values["k_steps"] == values["x_words"] == 4096 and values["n"] == 1 << 18 and values["m"] == 256


CORNERS = ("scale", "affine")


@pytest.mark.parametrize("max_k", [1, 127, 128, 4096, 1 << 15])
@pytest.mark.parametrize("header", CORNERS)
def test_accumulator_holds_the_largest_sum(max_k, header):
    """x = -128 and weights of -128 under the largest scales: no sum of any job is further from 0."""
    build = SparseChain(chains=1, max_k=max_k, max_n=1, max_m=1)
    job = build.job(k=max_k, n=1, bits=8, header=header, scale_group=0, x_group=0)
    operands = {"x": np.full((1, max_k), -128, np.int8), "x_scale": np.full((1, 1), 65535, np.int32),
                "codes": np.zeros((1, max_k), np.uint8), "mask": np.ones((1, max_k), bool),
                "scale": np.full((1, 1), -(1 << 15), np.int32), "offset": np.full((1, 1), (1 << 15) - 1, np.int32)}
    total = int(matmul(job, operands)[0, 0])
    column = (1 << 14) * (1 << 15) + (128 * ((1 << 15) - 1) if header == "affine" else 0)
    assert total == -65535 * max_k * column
    assert -total <= build.acc_peak and -(1 << build.acc_width - 1) <= total and build.acc_width <= 64
    if header == "affine" and max_k % 128 == 0:
        # The bound takes offsets for symmetric: nothing else is given away, and no bit of the accumulator.
        assert build.acc_peak + total == 65535 * max_k * 128
        assert total < -(1 << build.acc_width - 2)


def test_widths():
    """Derived by hand for the default build: 16 chains of 32 bits; 2 x 32 codes and 2 x 1 scales a word."""
    build = SparseChain()
    assert build.beat_bytes == 64 and build.max_ratio == 4 and build.max_tiles == 4096 and build.max_pairs == 32
    assert build.activation_record.bits == 2 * 32 * 8 + 2 * 16 and build.buffers[0].words == 128 * 32
    assert build.segment_peak == 128 * 128 * 128
    wide = SparseChain(window=128, tokens=1, max_k=300)
    assert wide.activation_record.bits == 128 * 8 + 4 * 16 and wide.buffers[0].words == 3 * 64


def test_closed_forms_know_their_streams():
    with pytest.raises(ValueError, match="stream must be w or y, got 'x'"):
        BUILD.beats("x", BUILD.job(k=1, n=1))
