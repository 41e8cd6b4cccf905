"""Packed layouts against loops over their definitions, and vectors worked out by hand."""

import numpy as np
import pytest

from sparseloom.models.formats import awq, compressed_tensors, gptq, nm_rows, q4_0, q4_1, q8_0, sparse_24
from sparseloom.models.formats.bit_stream import pack_bits, stream_bytes, unpack_bits
from sparseloom.models.spec.errors import InputError


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 31, 32, 33, 100])
def test_a_stream_is_one_long_number(bits, count):
    values = np.random.default_rng(bits * count).integers(0, 1 << bits, (3, count)).astype(np.uint8)
    packed = pack_bits(values, bits)
    assert packed.shape == (3, stream_bytes(count, bits)) and packed.dtype == np.uint8
    for row, data in zip(values, packed, strict=True):
        number = sum(int(value) << bits * i for i, value in enumerate(row))
        assert data.tobytes() == number.to_bytes(-(-count * bits // 8), "little")
    assert np.array_equal(unpack_bits(packed, bits, count), values)
    longer = np.pad(packed, ((0, 0), (0, 5)), constant_values=255)
    assert np.array_equal(unpack_bits(longer, bits, count), values)


def test_what_streams_refuse():
    with pytest.raises(ValueError, match="values must be below 8, got 8"):
        pack_bits(np.array([[8]], np.uint8), 3)
    with pytest.raises(ValueError, match="bits must be 1..8, got 9"):
        pack_bits(np.array([[1]], np.uint8), 9)
    with pytest.raises(ValueError, match="data must have 2 bytes a row, got 1"):
        unpack_bits(np.zeros((1, 1), np.uint8), 3, 3)


def words(*values):
    return np.array(values, np.uint32).view(np.int32)


def test_gptq_by_hand():
    """Inputs 0..7 of output 0 are the nibbles of 0x76543210, of output 1 those of 0xFEDCBA98; zero - 1 along the outputs."""
    codes = gptq.unpack_codes(words([0x76543210, 0xFEDCBA98]), 4)
    assert codes.tolist() == [list(range(8)), list(range(8, 16))]
    stored = gptq.unpack_zeros(words([0x76543210]), 4)
    assert stored.tolist() == [[i] for i in range(8)]
    assert gptq.zeros_of(stored, "v1", "w").ravel().tolist() == list(range(1, 9)) and gptq.zeros_of(stored, "v2", "w") is stored


def test_three_bits_as_gptq_splits_them():
    """32 numbers in 3 words: ten, two bits of one; its third bit, ten, one bit of another; its two others, ten."""
    values = np.random.default_rng(3).integers(0, 8, 32)
    first = sum(int(v) << 3 * i for i, v in enumerate(values[:10])) | (int(values[10]) & 3) << 30
    second = int(values[10]) >> 2 | sum(int(v) << 3 * i + 1 for i, v in enumerate(values[11:21])) | (int(values[21]) & 1) << 31
    third = int(values[21]) >> 1 | sum(int(v) << 3 * i + 2 for i, v in enumerate(values[22:]))
    assert gptq.unpack_codes(words(first, second, third).reshape(3, 1), 3).tolist() == [values.tolist()]


def test_awq_by_hand():
    """Nibble i of a word is output (0, 2, 4, 6, 1, 3, 5, 7)[i]."""
    assert awq.unpack(words([0x75316420], [0x00000010])).T.tolist() == [list(range(8)), [0, 0, 1, 0, 0, 0, 0, 0]]


def test_zero_conventions():
    for bits in (2, 3, 4, 8):
        middle, top = 1 << bits - 1, (1 << bits) - 1
        v1, v2 = np.full((4, 2), middle - 1, np.uint8), np.full((4, 2), middle, np.uint8)
        for label in ("v1", "v2"):
            for symmetric in (True, None):
                assert gptq.zero_convention(v1, bits, label, symmetric, "w") == "v1"
                assert gptq.zero_convention(v2, bits, label, symmetric, "w") == "v2"
            assert gptq.zero_convention(v2, bits, label, False, "w") == label or middle == top
        mixed = np.where(np.arange(8).reshape(4, 2) == 5, np.uint8(0), v1)
        for label in ("v1", "v2"):
            assert gptq.zero_convention(mixed, bits, label, None, "w") == label
            with pytest.raises(InputError, match="since the weights are said to be symmetric"):
                gptq.zero_convention(mixed, bits, label, True, "w")
        largest = np.full((4, 2), top, np.uint8)
        assert gptq.zero_convention(largest, bits, "v2", False, "w") == "v2"
        with pytest.raises(InputError, match=f"be below {top} in version 1"):
            gptq.zero_convention(largest, bits, "v1", False, "w")


def test_order_of_columns():
    g_idx = np.array([1, 0, 2, 1, 0, 2])
    assert gptq.column_order(g_idx, 3, 2, "w").tolist() == [1, 4, 0, 3, 2, 5]
    assert gptq.column_order(np.sort(g_idx), 3, 2, "w") is None


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("count", [1, 5, 20, 32, 64, 96])
def test_words_of_compressed_tensors(bits, count):
    values = np.random.default_rng(count).integers(0, 1 << bits, (2, count))
    lanes = 32 // bits

    def number(row):
        return sum(int(value) << bits * i for i, value in enumerate(row))

    apart = [[number(row[at : at + lanes]) for at in range(0, count, lanes)] for row in values]
    assert np.array_equal(compressed_tensors.unpack_words(words(*apart), bits, count, "apart", "w"), values)
    size = -(-count * bits // 32)
    running = [[number(row) >> 32 * i & 0xFFFFFFFF for i in range(size)] for row in values]
    assert np.array_equal(compressed_tensors.unpack_words(words(*running), bits, count, "running", "w"), values)
    told = {compressed_tensors.layout_of(have, bits, count, "w") for have in (-(-count // lanes), size)}
    assert told == ({"apart"} if bits != 3 or count < 10 else {None} if count == 20 else {"apart", "running"})


def test_sparse_24_by_hand():
    values, mask = sparse_24.unpack(np.array([[1, 2, 3, 4]], np.float32), np.array([[0b01011010]], np.uint8), (1, 8))
    assert values.tolist() == [[0, 1, 0, 2, 3, 0, 4, 0]] and np.array_equal(mask, values > 0)


def test_slots_of_a_row():
    codes = np.array([[9, 0, 8, 0, 0, 0, 0, 7]], np.uint8)
    values, indices, kept = nm_rows.split(codes, codes > 0, 2, 4)
    assert (values.tolist(), indices.tolist(), kept.tolist()) == ([[9, 8, 7, 0]], [[0, 2, 3, 0]], [[2, 1]])
    back, mask = nm_rows.join(values, indices, kept, 2, 4, "w")
    assert np.array_equal(back, codes) and np.array_equal(mask, codes > 0)
    assert [nm_rows.index_bits(group) for group in (4, 8, 16)] == [2, 3, 4]


HALF = {"1.5": b"\x00\x3e", "-2": b"\x00\xc0", "nan": b"\x00\x7e", "inf": b"\x00\x7c"}


def test_gguf_blocks_by_hand():
    nibbles = bytes(16 * i + 15 - i for i in range(16))  # low 15 - i, high i
    low, high = list(range(15, -1, -1)), list(range(16))
    codes, d = q4_0.unpack(HALF["-2"] + nibbles, (1, 32))
    assert codes.tolist() == [low + high] and d.tolist() == [[-2.0]]
    codes, d, m = q4_1.unpack(HALF["1.5"] + HALF["-2"] + nibbles, (1, 32))
    assert codes.tolist() == [low + high] and (d.tolist(), m.tolist()) == ([[1.5]], [[-2.0]])
    codes, d = q8_0.unpack(HALF["1.5"] + bytes([0x80, 0xFF, 0, 0x7F] * 8), (1, 32))
    assert codes.tolist() == [[0, 127, 128, 255] * 8] and d.tolist() == [[1.5]]


@pytest.mark.parametrize("module, halves, body", [(q4_0, ("d",), 16), (q4_1, ("d", "m"), 16), (q8_0, ("d",), 32)])
def test_what_gguf_blocks_refuse(module, halves, body):
    good = HALF["1.5"] * len(halves) + bytes(body)
    assert len(good) == module.BLOCK_BYTES and module.unpack(good * 4, (2, 64))[0].shape == (2, 64)
    for at, name in enumerate(halves):
        for value in ("nan", "inf"):
            bad = good[: 2 * at] + HALF[value] + good[2 * at + 2 :]
            with pytest.raises(InputError, match=f"^w: {name} of block 3 must be finite, got {value}"):
                module.unpack(good * 3 + bad, (2, 64), "w")
    with pytest.raises(InputError, match="w: row length must be a multiple of 32, got 48"):
        module.unpack(good * 3, (2, 48), "w")
    for size in (len(good) - 1, len(good) + 1, 0):
        with pytest.raises(InputError, match=f"data must have {len(good)} bytes for its shape, got {size}"):
            module.unpack(bytes(size), (1, 32), "w")
