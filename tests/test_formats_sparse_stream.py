"""The sparse chain's streams: vectors worked out by hand from the module's text, the way back, refusals."""

import dataclasses

import numpy as np
import pytest

from sparseloom.models.formats.engines import pack
from sparseloom.models.formats.sparse_stream import pack_activations, pack_weights, unpack_weights
from sparseloom.models.golden.engines import draw_operands, results
from sparseloom.models.golden.sparse_chain import integers
from sparseloom.models.spec.sparse_chain import SparseChain

ONE = SparseChain(chains=1, window=16, max_k=128, max_n=8, max_m=4)
TWO = SparseChain(chains=2, window=16, codebook=True, max_k=128, max_n=8, max_m=4)


def column(values, dtype=np.int32):
    return np.array([values], dtype)


def kept(columns, k):
    mask = np.zeros((1, k), bool)
    mask[0, columns] = True
    return mask


def codes_at(columns, values, k):
    codes = np.zeros((1, k), np.uint8)
    codes[0, columns] = values
    return codes


PLACES = [1, 3, 4, 5, 10, 11, 15]
VECTORS = {
    # 9 columns, 2 bits: steps of 8 and 1. Plane 0 of 1 2 3 0 1 2 3 0 is 1 0 1 0 ...: 0x55, of the ninth, 3: bit 8.
    "scale": (ONE, {"k": 9, "n": 1, "bits": 2}, {
        "codes": np.array([[1, 2, 3, 0, 1, 2, 3, 0, 3]], np.uint8), "mask": np.ones((1, 9), bool), "scale": column([-2])},
        "feff0000"     # scale -2; the word's second half has no group
        "55010000"     # plane 0
        "66010000"),   # plane 1
    # 40 columns are two groups and two quads: the header of each stands before the quad in which it begins.
    "affine": (ONE, {"k": 40, "n": 1, "bits": 1, "header": "affine"}, {
        "codes": np.tile(np.array([[1, 0, 0, 0, 1, 1, 0, 1]], np.uint8), 5), "mask": np.ones((1, 40), bool),
        "scale": column([0x1234, -1]), "offset": column([-3, 0x7FFF])},
        "3412fdff" "b1b1b1b1"
        "ffffff7f" "b1000000"),
    # 2 of 4 in 16 columns: one step. Columns modulo 4: 1 3 | 0 1 | 2 3 | (0) 3. The last group keeps one; column 12 stands in
    # with the code of zero, 2. Codes 3 1 2 0 3 3 (2) 2.
    "zero, N:M": (ONE, {"k": 16, "n": 1, "bits": 2, "header": "zero", "nnz": 2, "group": 4}, {
        "codes": codes_at(PLACES, [3, 1, 2, 0, 3, 3, 2], 16), "mask": kept(PLACES, 16),
        "scale": column([0x0102]), "zero": column([2], np.uint8)},
        "02010200"              # scale, zero, 0
        "ab000000" "b2000000"   # planes of 1 3 0 1 2 3 0 3
        "33000000" "f5000000"), # planes of 3 1 2 0 3 3 2 2
    # Two groups share a word; the second quad has no header.
    "levels": (ONE, {"k": 40, "n": 1, "bits": 1, "header": "levels"}, {
        "codes": np.tile(np.array([[0, 1, 1, 0, 0, 0, 0, 1]], np.uint8), 5), "mask": np.ones((1, 40), bool),
        "scale": column([5, 255]), "zero": column([1, 0], np.uint8)},
        "0501ff00" "86868686" "86000000"),
    # One group a row: its header once.
    "channel": (ONE, {"k": 33, "n": 1, "bits": 1, "scale_group": 0}, {
        "codes": np.ones((1, 33), np.uint8), "mask": np.ones((1, 33), bool), "scale": column([7])},
        "07000000" "ffffffff" "01000000"),
    # Two lanes, three rows: the beat of the second tile has one row, the other lane is 0. A codebook in front, in lane 0.
    "codebook, lanes": (TWO, {"k": 8, "n": 3, "bits": 4, "codebook": True}, {
        "codes": np.array([[0] * 8, [15] * 8, [1, 2, 4, 8, 1, 2, 4, 8]], np.uint8), "mask": np.ones((3, 8), bool),
        "scale": np.array([[1], [2], [3]], np.int32), "codebook": np.arange(-8, 8, dtype=np.int8)},
        "f8f9fafb00000000" "fcfdfeff00000000" "0001020300000000" "0405060700000000"
        "0100000002000000" + 4 * "00000000ff000000"
        + "0300000000000000" "1100000000000000" "2200000000000000" "4400000000000000" "8800000000000000"),
    # Row 0 keeps blocks 0 (dense) and 2 (2 of 4), row 1 block 1. A span: its word, header, planes.
    "blocks": (ONE, {"k": 96, "n": 2, "bits": 1, "block": 32, "nnz": 2, "group": 4, "blocks": (((0, 4), (2, 2)), ((1, 4),))}, {
        "codes": np.ones((2, 96), np.uint8),
        "mask": np.array([[1] * 32 + [0] * 32 + [0, 0, 1, 1] * 8, [0] * 32 + [1] * 32 + [0] * 32], bool),
        "scale": np.array([[1, 2, 3], [4, 5, 6]], np.int32)},
        "00000000" "01000000" "ffffffff"
        "02001100" "03000000" "aaaa0000" "ffff0000" "ffff0000"
        "01001000" "05000000" "ffffffff"),
}


@pytest.mark.parametrize("name", VECTORS)
def test_fixed_streams(name):
    build, shape, operands, text = VECTORS[name]
    job = build.job(**shape)
    beats = pack_weights(build, job, operands)
    assert beats.dtype == np.uint8 and beats.shape == (build.beats("w", job), build.beat_bytes)
    assert beats.tobytes().hex() == text
    back = unpack_weights(build, job, beats)
    assert set(back) == set(operands) and (integers(job, back) == integers(job, operands)).all()
    for part in {"offset", "zero", "codebook"} & set(operands):
        assert (back[part] == operands[part]).all(), part
    assert (back["mask"] >= operands["mask"]).all()


@pytest.mark.parametrize("seed", range(40))
def test_random_jobs_come_back(seed):
    """Beats as the closed form says; the operands that come back mean the same, and pack to the same bytes."""
    rng = np.random.default_rng(seed)
    build = SparseChain.draw_build(rng)
    for _ in range(8):
        job = build.draw_job(rng)
        operands = draw_operands(build, job, rng)
        image = pack(build, job, operands)
        beats = image.streams["w"]
        assert beats.shape == (build.beats("w", job), build.beat_bytes)
        back = unpack_weights(build, job, beats)
        assert (integers(job, back) == integers(job, operands)).all()
        assert (results(build, job, operands | back)["y"] == results(build, job, operands)["y"]).all()
        assert (back["mask"] >= operands["mask"]).all() and (pack_weights(build, job, operands | back) == beats).all()


@pytest.mark.parametrize("name", VECTORS)
def test_no_bit_is_free(name):
    """Turn every bit: either the stream is refused, or it is what other weights pack to."""
    build, shape, operands, text = VECTORS[name]
    job = build.job(**shape)
    beats = pack_weights(build, job, operands)
    before, refused, changed = unpack_weights(build, job, beats), 0, 0
    for bit in range(8 * beats.size):
        bad = beats.copy().reshape(-1)
        bad[bit // 8] ^= 1 << bit % 8
        bad = bad.reshape(beats.shape)
        try:
            back = unpack_weights(build, job, bad)
        except ValueError as error:
            refused += 1
            assert str(error) == "the stream holds bytes that no weights pack to" or "must be" in str(error)
        else:
            changed += 1
            assert (pack_weights(build, job, back) == bad).all()
            assert any((back[part] != before[part]).any() for part in before)
    assert refused and changed


# Padding, by vector: beat, byte, bit.
PADDING = {
    "scale": (0, 2, 0), "affine": (3, 1, 7), "zero, N:M": (0, 3, 4), "levels": (2, 3, 7), "channel": (0, 3, 0),
    "codebook, lanes": (9, 4, 0), "blocks": (3, 3, 0),
}


@pytest.mark.parametrize("name", VECTORS)
def test_padding_is_refused(name):
    build, shape, operands, _ = VECTORS[name]
    job, (beat, byte, bit) = build.job(**shape), PADDING[name]
    beats = pack_weights(build, job, operands)
    beats[beat, byte] ^= 1 << bit
    with pytest.raises(ValueError, match="the stream holds bytes that no weights pack to"):
        unpack_weights(build, job, beats)


@pytest.mark.parametrize("byte", [0xB1, 0xB3], ids=["3 before 1", "3 twice"])
def test_indices_out_of_order_are_refused(byte):
    """The upper plane of the first group's indices, 1 and 3, is 0b10 (byte 0xb2)."""
    build, shape, operands, _ = VECTORS["zero, N:M"]
    job = build.job(**shape)
    beats = pack_weights(build, job, operands)
    assert beats[2, 0] == 0xB2
    beats[2, 0] = byte
    with pytest.raises(ValueError, match="the stream holds bytes that no weights pack to"):
        unpack_weights(build, job, beats)


def test_beats_of_another_shape_are_refused():
    build, shape, operands, _ = VECTORS["scale"]
    job = build.job(**shape)
    beats = pack_weights(build, job, operands)
    with pytest.raises(ValueError, match=r"beats must be \[3, 4\], got \[2, 4\]"):
        unpack_weights(build, job, beats[1:])


NM = ({"k": 16, "n": 2, "nnz": 2, "group": 4}, {"mask": np.tile([True, False, False, True], (2, 4))})


def legal(build, shape):
    job = build.job(**shape)
    return job, draw_operands(build, job, np.random.default_rng(1))


@pytest.mark.parametrize("shape, changes, message", [
    ({"k": 16, "n": 2}, {"codes": np.zeros((2, 15), np.uint8)}, r"codes must be uint8 \[2, 16\], got uint8 \[2, 15\]"),
    ({"k": 16, "n": 2}, {"codes": np.zeros((2, 16))}, r"codes must be uint8 \[2, 16\], got float64 \[2, 16\]"),
    ({"k": 16, "n": 2}, {"codes": np.full((2, 16), 16, np.uint8)}, "codes must be below 16, got 16"),
    ({"k": 16, "n": 2}, {"mask": np.ones((2, 16), np.uint8)}, r"mask must be bool \[2, 16\], got uint8 \[2, 16\]"),
    ({"k": 16, "n": 2}, {"mask": np.ones((1, 16), bool)}, r"mask must be bool \[2, 16\], got bool \[1, 16\]"),
    ({"k": 40, "n": 2}, {"scale": np.zeros((2, 1), np.int32)}, r"scale must be integers \[2, 2\], got int32 \[2, 1\]"),
    ({"k": 40, "n": 2}, {"scale": np.full((2, 2), np.nan)}, r"scale must be integers \[2, 2\], got float64 \[2, 2\]"),
    ({"k": 16, "n": 2}, {"scale": np.array([[0], [1 << 15]])}, "scale must be -32768..32767, got 0..32768"),
    ({"k": 16, "n": 2, "header": "levels"}, {"scale": np.array([[0], [256]])}, "scale must be 0..255, got 0..256"),
    ({"k": 16, "n": 2, "header": "levels"}, {"scale": np.array([[-1], [0]])}, "scale must be 0..255, got -1..0"),
    ({"k": 16, "n": 2, "header": "affine"}, {"offset": np.array([[0], [-40000]])}, "offset must be -32768..32767, got -40000..0"),
    ({"k": 16, "n": 2, "header": "affine"}, {"offset": np.zeros((2, 2), int)}, r"offset must be integers \[2, 1\]"),
    ({"k": 16, "n": 2, "header": "zero"}, {"zero": np.array([[0], [17]], np.uint8)}, "zero must be 0..16, got 0..17"),
    ({"k": 16, "n": 2, "header": "zero", "bits": 2}, {"zero": np.array([[5], [0]], np.uint8)}, "zero must be 0..4, got 0..5"),
    ({"k": 16, "n": 2, "header": "zero"}, {"zero": None}, "zero is missing"),
    ({"k": 16, "n": 2, "header": "zero"}, {"zero": np.full((2, 1), 16, np.uint8), "mask": np.zeros((2, 16), bool)},
     "zero must be below 16 where fewer weights are kept than there is place for, got 16"),
    ({"k": 16, "n": 2, "header": "affine"}, {"mask": np.zeros((2, 16), bool)},
     "mask must keep every column of the blocks that are there with header affine"),
    (NM[0], {"mask": np.ones((2, 16), bool)}, "mask must keep at most 2 of each 4, got 4"),
    ({"k": 64, "n": 2, "block": 32}, {"mask": np.ones((2, 64), bool)}, "mask must keep nothing in blocks that are not there"),
    ({"k": 16, "n": 2, "codebook": True}, {"codebook": np.ones(8, np.int8)}, r"codebook must be int8 \[16\], got int8 \[8\]"),
    ({"k": 16, "n": 2, "codebook": True}, {"codebook": np.ones(16)}, r"codebook must be int8 \[16\], got float64 \[16\]"),
    ({"k": 16, "n": 2, "codebook": True}, {"codebook": np.ones(16, np.int8), "mask": np.zeros((2, 16), bool)},
     "codebook must have an entry 0 where fewer weights are kept than there is place for"),
])
def test_operands_that_are_refused(shape, changes, message):
    job, operands = legal(TWO, shape)
    operands = {name: value for name, value in (operands | changes).items() if value is not None}
    with pytest.raises(ValueError, match=f"^{message}"):
        pack_weights(TWO, job, operands)


def test_a_code_of_zero_past_the_last_code():
    """16 with 4 bits is legal (codes 0..15 are weights -16..-1) as long as every place holds a weight."""
    job, operands = legal(TWO, {"k": 16, "n": 2, "header": "zero"})
    operands |= {"zero": np.full((2, 1), 16, np.uint8), "mask": np.ones((2, 16), bool)}
    back = unpack_weights(TWO, job, pack_weights(TWO, job, operands))
    assert (back["zero"] == 16).all() and integers(job, back).max() < 0


@pytest.mark.parametrize("window, tokens, words", [
    # Codes of token 0, of token 1, then their scales; k = 20 with 8 columns a word: three words, one scale each.
    (8, 2, ["0102030405060708" "fffefdfcfbfaf9f8" "0a00" "1400", "090a0b0c0d0e0f10" "f7f6f5f4f3f2f1f0" "0a00" "1400",
            "1112131400000000" "efeeedec00000000" "0a00" "1400"]),
    # One token a word: the second's words follow the first's.
    (16, 1, ["0102030405060708090a0b0c0d0e0f10" "0a00", "11121314" + 12 * "00" + "0a00",
             "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0" "1400", "efeeedec" + 12 * "00" + "1400"]),
])
def test_activation_words(window, tokens, words):
    build = SparseChain(chains=1, window=window, tokens=tokens, max_k=32, max_n=1, max_m=2)
    codes = np.arange(1, 21, dtype=np.int8)
    found = pack_activations(build, build.job(k=20, n=1, m=2), np.stack([codes, -codes]), np.array([[10], [20]]))
    assert [word.tobytes().hex() for word in found] == words
    assert found.shape[1] == build.buffers[0].bytes


def test_activation_scales_of_wide_words():
    """64 columns a word have two scales a token; with x_group 64 both are the same; an odd last token leaves zeros beside it."""
    build = SparseChain(chains=1, window=64, tokens=2, max_k=128, max_n=1, max_m=3)
    x, scales = np.zeros((3, 128), np.int8), np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]])
    found = pack_activations(build, build.job(k=128, n=1, m=3), x, scales)
    tails = found[:, 128:].copy().view("<u2")
    assert tails.tolist() == [[1, 2, 5, 6], [3, 4, 7, 8], [9, 10, 0, 0], [11, 12, 0, 0]]
    wide = pack_activations(build, build.job(k=128, n=1, m=3, x_group=64), x, scales[:, :2])
    assert wide[:, 128:].copy().view("<u2").tolist() == [[1, 1, 5, 5], [2, 2, 6, 6], [9, 9, 0, 0], [10, 10, 0, 0]]
    one = pack_activations(build, build.job(k=100, n=1, m=3, x_group=0), x[:, :100], scales[:, :1])
    assert one[:, 128:].copy().view("<u2").tolist() == [[1, 1, 5, 5]] * 2 + [[9, 9, 0, 0]] * 2


@pytest.mark.parametrize("x, x_scale, message", [
    (np.zeros((1, 7), np.int8), np.ones((1, 1), int), r"x must be int8 \[1, 8\], got int8 \[1, 7\]"),
    (np.full((1, 8), 200), np.ones((1, 1), int), r"x must be int8 \[1, 8\], got int64 \[1, 8\]"),
    (np.zeros((1, 8), np.int8), np.ones((1, 2), int), r"x_scale must be integers \[1, 1\], got int64 \[1, 2\]"),
    (np.zeros((1, 8), np.int8), np.full((1, 1), 1.5), r"x_scale must be integers \[1, 1\], got float64 \[1, 1\]"),
    (np.zeros((1, 8), np.int8), np.full((1, 1), 1 << 16), "x_scale must be 0..65535, got 65536..65536"),
    (np.zeros((1, 8), np.int8), np.full((1, 1), -1), "x_scale must be 0..65535, got -1..-1"),
])
def test_activations_that_are_refused(x, x_scale, message):
    with pytest.raises(ValueError, match=message):
        pack_activations(ONE, ONE.job(k=8, n=1), x, x_scale)


def test_jobs_differ_in_nothing_else():
    """Shift, tag and token count are no part of the stream."""
    job, operands = legal(TWO, {"k": 40, "n": 3, "nnz": 2, "group": 4})
    other = dataclasses.replace(job, shift=9, tag=3, m=4)
    assert (pack_weights(TWO, other, operands) == pack_weights(TWO, job, operands)).all()
