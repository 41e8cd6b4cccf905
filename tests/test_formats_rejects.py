"""Bytes, shapes and values that no format may accept, and what the errors say."""

import numpy as np
import pytest

from sparseloom.models.formats import bitnet, i2_s, tq1_0, tq2_0
from sparseloom.models.formats.tq_block import one_scale
from sparseloom.models.spec.errors import InputError

# From the definition, in plain integers: the bytes that five trits can give, and those of four and a fifth digit of 0.
QS_CODES = {-(-256 * v // 243) for v in range(243)}
QH_CODES = {-(-256 * 3 * v // 243) for v in range(81)}
ILLEGAL_QS = (1, 20, 40, 60, 79, 99, 119, 138, 158, 178, 197, 217, 237)


def block(qs=0, qh=0, d=b"\x00\x38"):
    return bytes([qs] * 48 + [qh] * 4) + d


def test_the_code_sets():
    assert len(QS_CODES) == 243 and sorted(set(range(256)) - QS_CODES) == list(ILLEGAL_QS)
    assert len(QH_CODES) == 81 and QH_CODES < QS_CODES


def test_tq1_0_all_243_codes_decode():
    for v in range(243):
        trits, _ = tq1_0.unpack(block(qs=-(-256 * v // 243)), (1, 256))
        digits = [v // 3 ** (4 - i) % 3 - 1 for i in range(5)]
        assert trits[0, :160:32].tolist() == digits and trits[0, 160:240:16].tolist() == digits


def test_tq1_0_all_81_qh_codes_decode():
    for v in range(81):
        trits, _ = tq1_0.unpack(block(qh=-(-256 * 3 * v // 243)), (1, 256))
        assert trits[0, 240::4].tolist() == [v // 3 ** (3 - i) % 3 - 1 for i in range(4)]


@pytest.mark.parametrize("byte", ILLEGAL_QS)
def test_tq1_0_illegal_qs(byte):
    for place in (0, 31, 32, 47):
        data = bytearray(block() * 3)
        data[2 * 54 + place] = byte
        with pytest.raises(InputError, match=rf"^w: qs\[{place}\] of block 2 must be one of the 243 bytes .*0x{byte:02x}"):
            tq1_0.unpack(bytes(data), (1, 768), "w")


def test_tq1_0_illegal_qh():
    refused = 0
    for byte in sorted(set(range(256)) - QH_CODES):
        data = bytearray(block())
        data[50] = byte
        with pytest.raises(InputError, match=rf"^w: qh\[2\] of block 0 must be one of the 81 bytes .*0x{byte:02x}"):
            tq1_0.unpack(bytes(data), (1, 256), "w")
        refused += 1
    assert refused == 175


def test_the_block_named_is_the_one_of_the_whole_tensor():
    """Far enough in that the decoder is no longer in its first chunk."""
    data = bytearray(block() * 5000)
    data[4321 * 54 + 3] = 1
    with pytest.raises(InputError, match=r"qs\[3\] of block 4321 "):
        tq1_0.unpack(bytes(data), (5000, 256))
    data = bytearray(66 * 5000)
    data[4321 * 66 + 5] = 0x30
    with pytest.raises(InputError, match=r"qs\[5\] of block 4321 "):
        tq2_0.unpack(bytes(data), (5000, 256))


@pytest.mark.parametrize("shift", [0, 2, 4, 6])
def test_code_3(shift):
    byte = 3 << shift
    data = bytearray(66 * 2)
    data[66 + 63] = byte
    with pytest.raises(InputError, match=rf"^w: qs\[63\] of block 1 must hold the 2-bit codes .*0x{byte:02x}"):
        tq2_0.unpack(bytes(data), (2, 256), "w")
    data = bytearray(64 + 32)
    data[33] = byte
    with pytest.raises(InputError, match=rf"^w: byte 33 must hold .*0x{byte:02x}"):
        i2_s.unpack(bytes(data), (2, 128), "w")
    data = bytearray(3 * 7)
    data[2 * 7 + 4] = byte
    with pytest.raises(InputError, match=rf"^w: byte \[2, 4\] must hold .*0x{byte:02x}"):
        bitnet.unpack(bytes(data), (12, 7), "w")


@pytest.mark.parametrize("d", ["00fc", "007c", "007e", "0080", "01b8"])
def test_tq_scales(d):
    """-inf, inf, nan, -0.0 and -0.5: only minus zero counts as zero."""
    raw = bytes.fromhex(d)
    for module, data in ((tq1_0, block() + block(d=raw)), (tq2_0, bytes(66) + bytes(64) + raw)):
        if d == "0080":
            assert module.unpack(data, (1, 512))[1][0, 1] == 0
        else:
            with pytest.raises(InputError, match="^w: d of block 1 must be finite and not negative"):
                module.unpack(data, (1, 512), "w")


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0])
def test_i2_s_scale(scale):
    data = bytes(32) + np.array([scale], "<f4").tobytes() + bytes(28)
    with pytest.raises(InputError, match="^w: scale must be finite and not negative"):
        i2_s.unpack(data, (1, 128), "w")


def test_sizes():
    for unpack, size, shape in (
        (tq1_0.unpack, 108, (2, 256)),
        (tq2_0.unpack, 132, (1, 512)),
        (i2_s.unpack, 96, (4, 64)),
        (bitnet.unpack, 10, (5, 5)),
    ):
        unpack(bytes(size), shape)
        for wrong in (0, 1, size - 1, size + 1, 2 * size):
            with pytest.raises(InputError, match=f"data must have {size} bytes for its shape, got {wrong}$"):
                unpack(bytes(wrong), shape)


def test_ragged_rows():
    for module in (tq1_0, tq2_0):
        with pytest.raises(InputError, match="row length must be a multiple of 256, got 128"):
            module.unpack(bytes(66), (2, 128))
        with pytest.raises(ValueError, match="k must be a multiple of 256, got 255"):
            module.pack(np.zeros((1, 255), np.int8), 1.0)
    with pytest.raises(InputError, match="n \\* k must be a multiple of 128, got 130"):
        i2_s.unpack(bytes(64), (10, 13))
    with pytest.raises(ValueError, match="n \\* k must be a multiple of 128, got 127"):
        i2_s.pack(np.zeros((1, 127), np.int8), 1.0)


PACKS = (lambda t: tq1_0.pack(t, 1.0), lambda t: tq2_0.pack(t, 1.0), lambda t: i2_s.pack(t, 1.0), bitnet.pack)
UNPACKS = (tq1_0.unpack, tq2_0.unpack, i2_s.unpack, bitnet.unpack)


@pytest.mark.parametrize("pack", PACKS)
def test_what_pack_refuses(pack):
    for trits, kind, text in (
        (np.zeros((1, 256), np.int16), TypeError, "trits must be an int8 array, got int16"),
        ([[0] * 256], TypeError, "trits must be an int8 array, got list"),
        (np.zeros(256, np.int8), ValueError, "matrix"),
        (np.zeros((0, 256), np.int8), ValueError, "not empty"),
        (np.full((1, 256), 2, np.int8), ValueError, "values from 2 to 2"),
        (np.full((1, 256), -2, np.int8), ValueError, "values from -2 to -2"),
    ):
        with pytest.raises(kind, match=text):
            pack(trits)


@pytest.mark.parametrize("unpack", UNPACKS)
def test_what_unpack_refuses(unpack):
    with pytest.raises(TypeError, match="data must be uint8, got int8"):
        unpack(np.zeros(66, np.int8), (1, 256))
    with pytest.raises(ValueError, match="n must be 1"):
        unpack(b"", (0, 256))
    with pytest.raises(TypeError, match="k must be an integer"):
        unpack(b"", (1, 256.0))


@pytest.mark.parametrize("scale", [-1.0, np.nan, np.inf, 65520.0])
def test_scales_that_pack_refuses(scale):
    trits = np.zeros((1, 256), np.int8)
    for module in (tq1_0, tq2_0):
        with pytest.raises(ValueError, match="scale must be finite, not negative, and at most 65504"):
            module.pack(trits, scale)
    if scale != 65520.0:
        with pytest.raises(ValueError, match="scale must be finite and not negative"):
            i2_s.pack(trits, scale)


def test_both_scale_conventions():
    assert bitnet.scale_of(4.0, convention="divide") == 0.25 and bitnet.weight_scale_of(0.25, convention="divide") == 4.0
    assert bitnet.scale_of(4.0, convention="multiply") == 4.0 and bitnet.weight_scale_of(4.0, convention="multiply") == 4.0
    with pytest.raises(ValueError, match="convention must be one of divide, multiply, got 'both'"):
        bitnet.scale_of(4.0, convention="both")
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="^w: weight_scale must be finite and positive"):
            bitnet.scale_of(bad, "divide", "w")


def test_one_scale():
    trits = np.array([[1] * 256 + [-1] * 256], np.int8)
    got, scale = one_scale(trits, np.array([[0.5, 0.5]], np.float32), "w")
    assert scale == 0.5 and np.array_equal(got, trits)
    got, scale = one_scale(trits, np.array([[0.5, 0.0]], np.float32), "w")
    assert scale == 0.5 and got[0].tolist() == [1] * 256 + [0] * 256
    got, scale = one_scale(trits, np.zeros((1, 2), np.float32), "w")
    assert scale == 0.0 and not got.any()
    with pytest.raises(InputError, match="^w: block scales must be one value for the whole tensor, got '2 values'"):
        one_scale(trits, np.array([[0.5, 1.0]], np.float32), "w")
