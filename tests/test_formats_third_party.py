"""The GGUF formats against the quantisers and dequantisers of the `gguf` package, which shares no code with ours."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType, dequantize, quantize

from sparseloom.models.formats import tq1_0, tq2_0

FORMATS = [(tq1_0, GGMLQuantizationType.TQ1_0), (tq2_0, GGMLQuantizationType.TQ2_0)]


def trits_with_no_empty_block(seed, shape):
    trits = np.random.default_rng(seed).integers(-1, 2, shape, np.int8)
    trits[:, ::256] = 1
    return trits


@pytest.mark.parametrize("module, qtype", FORMATS)
def test_its_blocks_decode_here(module, qtype):
    trits = trits_with_no_empty_block(0, (64, 2048))
    data = quantize(trits * np.float32(0.375), qtype)
    got, scales = module.unpack(data, trits.shape)
    assert np.array_equal(got, trits) and (scales == 0.375).all()


@pytest.mark.parametrize("module, qtype", FORMATS)
def test_our_blocks_are_its_blocks(module, qtype):
    trits = trits_with_no_empty_block(1, (64, 2048))
    assert np.array_equal(module.pack(trits, 0.375), quantize(trits * np.float32(0.375), qtype))


@pytest.mark.parametrize("module, qtype", FORMATS)
def test_it_decodes_our_blocks(module, qtype):
    trits = np.random.default_rng(2).integers(-1, 2, (33, 512), np.int8)
    scales = np.float16(2.0) ** np.random.default_rng(3).integers(-8, 8, (33, 2))
    expected = trits * np.repeat(scales, 256, axis=1).astype(np.float32)
    assert np.array_equal(dequantize(module.pack(trits, scales), qtype), expected)


@pytest.mark.parametrize("module, qtype", FORMATS)
def test_any_legal_block_means_the_same_to_both(module, qtype):
    """Blocks of float weights that are not ternary to begin with: what it rounds them to, we read."""
    weights = np.random.default_rng(4).standard_normal((16, 1024), np.float32)
    data = quantize(weights, qtype)
    trits, scales = module.unpack(data, weights.shape)
    assert np.array_equal(trits * np.repeat(scales, 256, axis=1), dequantize(data, qtype))
    assert {-1, 0, 1} == set(np.unique(trits))
