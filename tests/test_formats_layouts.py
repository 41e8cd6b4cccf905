"""Each format against the written definition of its bytes: slow loops that share no code with the package."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparseloom.models.formats import bitnet, i2_s, tq1_0, tq2_0

# The loops below know a weight's place in the file; `code` is trit + 1.


def loop_tq2_0(trits, scale):
    out = bytearray()
    for row in trits.tolist():
        for start in range(0, len(row), 256):
            block = row[start : start + 256]
            for half in range(2):
                for m in range(32):
                    byte = 0
                    for n in range(4):
                        byte += (block[128 * half + m + 32 * n] + 1) * 4**n
                    out.append(byte)
            out += struct.pack("<e", scale)
    return bytes(out)


def base3(codes):
    value = 0
    for code in codes:
        value = 3 * value + code
    return value


def loop_tq1_0(trits, scale):
    out = bytearray()
    for row in trits.tolist():
        for start in range(0, len(row), 256):
            code = [trit + 1 for trit in row[start : start + 256]]
            values = [base3(code[m + 32 * n] for n in range(5)) for m in range(32)]
            values += [base3(code[160 + m + 16 * n] for n in range(5)) for m in range(16)]
            values += [3 * base3(code[240 + j + 4 * n] for n in range(4)) for j in range(4)]
            out += bytes(-(-256 * value // 243) for value in values)
            out += struct.pack("<e", scale)
    return bytes(out)


def loop_i2_s(trits, scale):
    flat = [trit for row in trits.tolist() for trit in row]
    out = bytearray()
    for start in range(0, len(flat), 128):
        for p in range(32):
            a, b, c, d = (flat[start + p + 32 * i] + 1 for i in range(4))
            out.append(a * 64 + b * 16 + c * 4 + d)
    return bytes(out) + struct.pack("<f", scale) + bytes(28)


def loop_bitnet(trits):
    n, k = trits.shape
    rows = (n + 3) // 4
    out = bytearray()
    for r in range(rows):
        for c in range(k):
            out.append(sum((int(trits[i * rows + r, c]) + 1) * 4**i for i in range(4) if i * rows + r < n))
    return bytes(out)


PACK = {
    "TQ1_0": tq1_0.pack,
    "TQ2_0": tq2_0.pack,
    "I2_S": i2_s.pack,
    "HF BitNet": lambda trits, scale: bitnet.pack(trits),
}
LOOP = {
    "TQ1_0": loop_tq1_0,
    "TQ2_0": loop_tq2_0,
    "I2_S": loop_i2_s,
    "HF BitNet": lambda trits, scale: loop_bitnet(trits),
}

# One row of 256 trits (HF: 4 rows of 64) with a value of its own in each stride of each layout, scale 0.5; every byte of it.
FIXED = {
    "TQ1_0": "245fcc9adf4bc14269245fcc9adf4bc14269245fcc9adf4bc14269245fcc9adf1a911073b886f337e91a911073b886f36fd117c80038",
    "TQ2_0": "8411461966986288218411461966986288218411461966986288218411461966218411461966986288218411461966986288"
    "21841146196698628821841146190038",
    "I2_S": "1244916499268922481244916499268922481244916499268922481244916499481244916499268922481244916499268922"
    "48124491649926892248124491640000003f00000000000000000000000000000000000000000000000000000000",
    "HF BitNet": "900552255aa44aa009900552255aa44aa009900552255aa44aa009900552255a09900552255aa44aa009900552255aa44aa0"
    "09900552255aa44aa00990055225",
}


def ramp(name):
    trits = np.array([(j + j // 3 + j // 32 + j // 128) % 3 - 1 for j in range(256)], np.int8)
    return trits.reshape((4, 64) if name == "HF BitNet" else (1, 256))


@pytest.mark.parametrize("name", FIXED)
def test_fixed_bytes(name):
    assert LOOP[name](ramp(name), 0.5).hex() == FIXED[name]
    assert PACK[name](ramp(name), 0.5).tobytes().hex() == FIXED[name]


# All weights -1 (code 0) but one, which is +1 (code 2): (weight, byte that holds it, its value), worked out on paper.
# TQ1_0: ceil(256 * 2 * 3^(4-i) / 243), i the place in its byte: 0xab, 0x39, 0x13, 0x07, 0x03.
ONE_SET = {
    "TQ1_0": [(0, 0, 0xAB), (31, 31, 0xAB), (32, 0, 0x39), (65, 1, 0x13), (97, 1, 0x07), (159, 31, 0x03), (160, 32, 0xAB)]
    + [(176, 32, 0x39), (239, 47, 0x03), (240, 48, 0xAB), (245, 49, 0x39), (250, 50, 0x13), (255, 51, 0x07)],
    "TQ2_0": [(0, 0, 0x02), (32, 0, 0x08), (64, 0, 0x20), (96, 0, 0x80), (127, 31, 0x80), (128, 32, 0x02), (255, 63, 0x80)],
    "I2_S": [(0, 0, 0x80), (32, 0, 0x20), (64, 0, 0x08), (96, 0, 0x02), (127, 31, 0x02), (128, 32, 0x80), (255, 63, 0x02)],
    "HF BitNet": [(0, 0, 0x02), (63, 63, 0x02), (64, 0, 0x08), (128, 0, 0x20), (192, 0, 0x80), (255, 63, 0x80)],
}


@pytest.mark.parametrize("name", ONE_SET)
def test_one_weight_lands_in_its_byte(name):
    for weight, byte, value in ONE_SET[name]:
        trits = np.full(256, -1, np.int8)
        trits[weight] = 1
        data = PACK[name](trits.reshape(ramp(name).shape), 0.0)
        expected = np.zeros(data.size, np.uint8)
        expected[byte] = value
        assert np.array_equal(data.reshape(-1), expected), weight


def matrices(width):
    return st.builds(
        lambda seed, n, blocks: np.random.default_rng(seed).integers(-1, 2, (n, blocks * width), np.int8),
        st.integers(0, 2**32),
        st.integers(1, 7),
        st.integers(1, 3),
    )


scales = st.sampled_from([0.0, 2.0**-14, 0.5, 1.0, 65504.0])


@settings(max_examples=30, deadline=None)
@given(matrices(256), scales)
def test_tq_bytes_and_round_trip(trits, scale):
    for module, loop in ((tq1_0, loop_tq1_0), (tq2_0, loop_tq2_0)):
        data = module.pack(trits, scale)
        assert data.tobytes() == loop(trits, scale)
        got, got_scales = module.unpack(data, trits.shape)
        assert got.dtype == np.int8 and np.array_equal(got, trits)
        assert got_scales.shape == (trits.shape[0], trits.shape[1] // 256) and (got_scales == scale).all()


@settings(max_examples=30, deadline=None)
@given(matrices(128), scales)
def test_i2_s_bytes_and_round_trip(trits, scale):
    data = i2_s.pack(trits, scale)
    assert data.tobytes() == loop_i2_s(trits, scale)
    got, got_scale = i2_s.unpack(data, trits.shape)
    assert np.array_equal(got, trits) and got_scale == scale


def test_i2_s_blocks_run_on_over_the_rows():
    trits = np.random.default_rng(3).integers(-1, 2, (8, 48), np.int8)
    data = i2_s.pack(trits, 1.5)
    assert data.tobytes() == loop_i2_s(trits, 1.5)
    assert np.array_equal(i2_s.unpack(data, (8, 48))[0], trits)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 23), st.integers(1, 40))
def test_bitnet_bytes_and_round_trip(seed, n, k):
    trits = np.random.default_rng(seed).integers(-1, 2, (n, k), np.int8)
    data = bitnet.pack(trits)
    assert data.shape == (-(-n // 4), k) and data.tobytes() == loop_bitnet(trits)
    assert np.array_equal(bitnet.unpack(data, (n, k)), trits)


def test_more_than_one_chunk():
    """Large enough that every format works in several pieces; the pieces must join without a seam."""
    trits = np.random.default_rng(7).integers(-1, 2, (301, 4096), np.int8)
    for module in (tq1_0, tq2_0):
        assert np.array_equal(module.unpack(module.pack(trits, 1.0), trits.shape)[0], trits)
    assert np.array_equal(i2_s.unpack(i2_s.pack(trits, 1.0), trits.shape)[0], trits)
    assert np.array_equal(bitnet.unpack(bitnet.pack(trits), trits.shape), trits)


def test_strided_input_packs_as_its_copy():
    wide = np.random.default_rng(1).integers(-1, 2, (6, 1024), np.int8)
    view = wide[::2, ::2]
    for module in (tq1_0, tq2_0, i2_s):
        assert np.array_equal(module.pack(view, 1.0), module.pack(view.copy(), 1.0))
    assert np.array_equal(bitnet.pack(view), bitnet.pack(view.copy()))


def test_per_block_scales():
    trits = np.random.default_rng(4).integers(-1, 2, (3, 512), np.int8)
    scales = np.array([[0.5, 1], [2, 4], [8, 16]], np.float32)
    for module in (tq1_0, tq2_0):
        assert np.array_equal(module.unpack(module.pack(trits, scales), trits.shape)[1], scales)
