"""The engine's stream of five trits a byte: the code, fixed vectors, order, rejects."""

import itertools

import numpy as np
import pytest

from sparseloom.models.formats.ternary_stream import decode_table, encode_table, pack_activations, pack_weights, unpack_weights
from sparseloom.models.spec.errors import InputError
from sparseloom.models.spec.ternary import TernaryEngine

TREE = TernaryEngine(rows=2, lanes=10, datapath="tree", max_k=64, max_n=64, max_m=4)
TABLE = TernaryEngine(rows=2, lanes=10, datapath="table", max_k=64, max_n=64, max_m=4)

# Worked out by hand from the module's text: byte = x2 x1 x0 | g a b c d (no escape), or x | 1 1 1 c d with g a b = x.
VECTORS = {
    (0, 0, 0, 0, 0): 0b011_11110,      # escape; triple 0 1 1 1 0: only zeros
    (1, 1, 1, 1, 1): 0b000_00000,
    (-1, -1, -1, -1, -1): 0b001_10000,
    (-1, 1, 1, 1, -1): 0b010_10011,
    (0, 1, -1, 0, 1): 0b100_00101,
    (1, 0, 1, 1, 0): 0b110_00110,
    (0, 0, -1, -1, 0): 0b111_01101,
    (-1, 0, 0, 0, 0): 0b110_11111,     # escape; triple 1 1 0 ... is written a b = 10: x = 1 1 0, c d = 1 1
}


def test_fixed_bytes():
    for trits, byte in VECTORS.items():
        assert tuple(int(t) for t in decode_table()[byte]) == trits
        value = sum((t + 1) * 3**place for place, t in enumerate(trits))
        assert int(encode_table()[value]) == byte


def test_every_code_once():
    legal = {tuple(int(t) for t in row): byte for byte, row in enumerate(decode_table()) if (row < 2).all()}
    assert set(legal) == set(itertools.product((-1, 0, 1), repeat=5)) and len(legal) == 243
    for trits, byte in legal.items():
        assert encode_table()[sum((t + 1) * 3**place for place, t in enumerate(trits))] == byte


@pytest.mark.parametrize("build", [TREE, TABLE], ids=lambda build: build.datapath)
def test_order_of_beats(build):
    """A single non-zero trit lands in the byte and beat that the order says."""
    job = build.job(k=25, n=5, m=2)
    for row, column in itertools.product(range(5), (0, 9, 10, 24)):
        trits = np.zeros((5, 25), np.int8)
        trits[row, column] = -1
        beats = pack_weights(build, job, trits)
        assert beats.shape == (build.beats("w", job), build.beat_bytes)
        group, block = row // 2, column // 10
        at = group * 3 + block if build.datapath == "tree" else block * 3 + group
        zero = int(encode_table()[121])
        changed = np.argwhere(beats != zero)
        passes = 2 if build.datapath == "table" else 1
        assert changed.tolist() == [[at + 9 * again, row % 2 * 2 + column % 10 // 5] for again in range(passes)]
        assert (unpack_weights(build, job, beats) == trits).all()


def test_rejects():
    job = TREE.job(k=20, n=4)
    beats = pack_weights(TREE, job, np.ones((4, 20), np.int8))
    for byte in np.flatnonzero(decode_table()[:, 0] == 2):
        bad = beats.copy()
        bad[1, 2] = byte
        with pytest.raises(InputError, match=f"byte must be one of the 243 codes, got '0x{byte:02x}'"):
            unpack_weights(TREE, job, bad)
    with pytest.raises(InputError, match="beats must have shape"):
        unpack_weights(TREE, job, beats[1:])
    with pytest.raises(InputError, match="padding must be zero"):
        unpack_weights(TREE, TREE.job(k=19, n=4), beats)
    with pytest.raises(ValueError, match="trits must be -1, 0 or 1, got 1..2"):
        pack_weights(TREE, job, np.ones((4, 20), np.int8) + np.eye(4, 20, dtype=np.int8))
    with pytest.raises(ValueError, match="codes must be -128..127"):
        pack_activations(TREE, job, np.full((1, 20), 128))


@pytest.mark.parametrize("bits", range(4, 9))
def test_activation_words(bits):
    """Word block * m + token, lane 0 in the lowest bits, two's complement of act_bits."""
    build = TernaryEngine(rows=1, lanes=5, act_bits=bits, max_k=32, max_n=8, max_m=3)
    rng, job = np.random.default_rng(bits), build.job(k=12, n=1, m=3)
    codes = rng.integers(-build.act_peak, build.act_peak, (3, 12), dtype=np.int8)
    words = pack_activations(build, job, codes)
    assert len(words) == 9
    for block, token in itertools.product(range(3), range(3)):
        word = int.from_bytes(words[block * 3 + token].tobytes(), "little")
        for lane in range(5):
            want = int(codes[token, 5 * block + lane]) if 5 * block + lane < 12 else 0
            assert (word >> (lane * bits)) & ((1 << bits) - 1) == want & ((1 << bits) - 1)


@pytest.mark.parametrize("values, error, message", [
    ({"rows": 0}, ValueError, "rows must be 1..128, got 0"),
    ({"lanes": 12}, ValueError, "lanes must be a multiple of 5, got 12"),
    ({"lanes": 2.5}, TypeError, "lanes must be an integer, got 2.5"),
    ({"datapath": "systolic"}, ValueError, "datapath must be one of tree, table, got 'systolic'"),
    ({"rows": 65, "lanes": 20}, ValueError, r"rows \* lanes must be at most 1280, got 1300"),
    ({"act_bits": 9}, ValueError, "act_bits must be 4..8, got 9"),
    ({"rows": 4, "result_lanes": 3}, ValueError, r"result_lanes must divide rows \(4\), got 3"),
    ({"rows": 4, "result_lanes": 2, "datapath": "table"}, ValueError, "result_lanes must equal rows"),
    ({"requantise": 1}, TypeError, "requantise must be true or false, got 1"),
    ({"read_latency": 1}, ValueError, "read_latency must be 2..4, got 1"),
    ({"max_k": 1 << 20}, ValueError, "max_k must be 1..65536"),
])
def test_impossible_builds(values, error, message):
    with pytest.raises(error, match=message):
        TernaryEngine(**values)


@pytest.mark.parametrize("shape, message", [
    ({"k": 65, "n": 1}, "k must be 1..64, got 65"),
    ({"k": 1, "n": 0}, "n must be 1..64, got 0"),
    ({"k": 1, "n": 1, "m": 5}, "m must be 1..4, got 5"),
    ({"n": 1}, "job field k is missing"),
    ({"k": 1, "n": 1, "q": 1}, "unknown job field 'q'"),
    ({"k": 1, "n": 1, "requantise": True}, "requantise must be false: this build has no requantiser"),
])
def test_illegal_jobs(shape, message):
    with pytest.raises(ValueError, match=message):
        TREE.job(**shape)
