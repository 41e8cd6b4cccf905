"""The ternary engine's own operand stream: five trits a byte, 1.6 bits a weight, decoded by a handful of gates.

A byte b carries the trits t0..t4. With f = b[4:0], x = b[7:5] and the escape e = f[4] & f[3] & f[2]:

- the triple (t0, t1, t2) has the 5-bit code g a b c d = {e ? x : f[4:2], f[1:0]}. g is the sign of t0, g ^ c of t1, g ^ d of t2;
  ab = 00: none is zero · 01: t0 (c = 0) or t1 (c = 1) is zero · 10: t2 is zero, with d = 1 also t0 (c = 0) or t1 (c = 1) ·
  11 (g = 0 only): only t2 (c = 0), or none (c = 1, d = 0), is not zero.
- the pair (t3, t4): x0 is the sign of t3, x0 ^ x1 of t4; x2 = 1: t3 (x1 = 0) or t4 (x1 = 1) is zero; e = 1: both are.

Relative signs within a triple and a pair are single bits of the byte, which is what an add/subtract tree with deferred signs
wants; the code without g addresses a 16-entry table of sums, which is what a look-up datapath wants. 243 of 256 bytes occur.
"""

from functools import cache

import numpy as np

from ..spec.errors import InputError

__all__ = ["decode_table", "encode_table", "pack_weights", "unpack_weights", "pack_activations", "triple_trits", "pair_trits"]

_POWERS = np.array([1, 3, 9, 27, 81], np.int16)


def triple_trits(code):
    """The trits (t0, t1, t2) of a 5-bit triple code, or None for the five that do not occur."""
    g, a, b, c, d = (code >> bit & 1 for bit in (4, 3, 2, 1, 0))
    if a and b and (g or (c and d)):
        return None
    zero0 = (b and not c) if not a else (b or (d and not c))
    zero1 = (b and c) if not a else (b or (d and c))
    zero2 = a and (not b or c)
    return tuple(0 if zero else 1 - 2 * sign for zero, sign in ((zero0, g), (zero1, g ^ c), (zero2, g ^ d)))


def pair_trits(code):
    """The trits (t3, t4) of a 4-bit pair code {e, x}."""
    e, x2, x1, x0 = (code >> bit & 1 for bit in (3, 2, 1, 0))
    zero3, zero4 = e or (x2 and not x1), e or (x2 and x1)
    return tuple(0 if zero else 1 - 2 * sign for zero, sign in ((zero3, x0), (zero4, x0 ^ x1)))


@cache
def decode_table():
    """int8 [256, 5]: the trits of each byte; the 13 bytes that do not occur hold 2 in every place."""
    table = np.full((256, 5), 2, np.int8)
    for byte in range(256):
        f, x = byte & 31, byte >> 5
        escape = f >> 2 == 7
        triple = triple_trits((x << 2 | f & 3) if escape else f)
        if triple is not None:
            table[byte] = triple + pair_trits(escape << 3 | x)
    table.setflags(write=False)
    return table


@cache
def encode_table():
    """uint8 [243]: the byte of the trits whose base-3 value is sum((t_i + 1) * 3**i)."""
    decoded = decode_table().astype(np.int16)
    legal = np.flatnonzero((decoded < 2).all(axis=1))
    table = np.zeros(243, np.uint8)
    table[((decoded[legal] + 1) * _POWERS).sum(axis=1)] = legal
    table.setflags(write=False)
    return table


def pack_weights(build, job, trits):
    """Trits int8 [n, k] as the beats of ``i_w``: uint8 [beats, beat_bytes] in the order the engine consumes them.

    A beat holds ``rows`` output rows x ``lanes`` inputs, row after row; padding is zero. Tree: row groups, in each the blocks
    of k. Table: blocks of k, in each the row groups; the whole once for each token.
    """
    trits = np.asarray(trits)
    if trits.shape != (job.n, job.k):
        raise ValueError(f"trits must have shape ({job.n}, {job.k}), got {trits.shape}")
    if trits.size and (trits.min() < -1 or trits.max() > 1):
        raise ValueError(f"trits must be -1, 0 or 1, got {trits.min()}..{trits.max()}")
    groups, blocks = build.groups(job), build.k_blocks(job)
    padded = np.zeros((groups * build.rows, blocks * build.lanes), np.int8)
    padded[: job.n, : job.k] = trits
    fives = padded.reshape(groups, build.rows, blocks, build.lanes // 5, 5)
    value = np.full(fives.shape[:-1], 121, np.uint8)
    for place, power in enumerate(_POWERS):
        value += fives[..., place].view(np.uint8) * np.uint8(power)
    data = encode_table()[value]
    order = (0, 2, 1, 3) if build.datapath == "tree" else (2, 0, 1, 3)
    beats = data.transpose(order).reshape(groups * blocks, build.beat_bytes)
    return np.tile(beats, (job.m, 1)) if build.datapath == "table" else beats


def unpack_weights(build, job, beats):
    """The inverse of :func:`pack_weights`; InputError for a byte that does not occur or padding that is not zero."""
    beats = np.asarray(beats, np.uint8)
    groups, blocks = build.groups(job), build.k_blocks(job)
    if beats.shape != (build.beats("w", job), build.beat_bytes):
        raise InputError("ternary stream", "beats", f"have shape {(build.beats('w', job), build.beat_bytes)}", beats.shape)
    if build.datapath == "tree":
        data = beats.reshape(groups, blocks, build.rows, -1).transpose(0, 2, 1, 3)
    else:
        data = beats[: groups * blocks].reshape(blocks, groups, build.rows, -1).transpose(1, 2, 0, 3)
    trits = decode_table()[data]
    if trits.max(initial=0) > 1:
        bad = int(data[(trits > 1).any(axis=-1)][0])
        raise InputError("ternary stream", "byte", "be one of the 243 codes", f"0x{bad:02x}")
    trits = trits.reshape(groups * build.rows, blocks * build.lanes)
    if trits[job.n :].any() or trits[:, job.k :].any():
        raise InputError("ternary stream", "padding", "be zero", "a non-zero trit")
    return np.ascontiguousarray(trits[: job.n, : job.k])


def pack_activations(build, job, codes):
    """Codes int8 [m, k] as the words of the buffer ``act``: uint8 [k_blocks * m, word_bytes], word k_block * m + token."""
    codes = np.asarray(codes)
    if codes.shape != (job.m, job.k):
        raise ValueError(f"codes must have shape ({job.m}, {job.k}), got {codes.shape}")
    peak = build.act_peak
    if codes.size and (codes.min() < -peak or codes.max() >= peak):
        raise ValueError(f"codes must be {-peak}..{peak - 1}, got {codes.min()}..{codes.max()}")
    blocks = build.k_blocks(job)
    padded = np.zeros((job.m, blocks * build.lanes), np.int8)
    padded[:, : job.k] = codes
    words = padded.reshape(job.m, blocks, build.lanes).transpose(1, 0, 2).reshape(blocks * job.m, build.lanes)
    if build.act_bits == 8:
        return np.ascontiguousarray(words).view(np.uint8)
    bits = (words.astype(np.uint8)[..., None] >> np.arange(build.act_bits, dtype=np.uint8)) & 1
    return np.packbits(bits.reshape(len(words), -1), axis=1, bitorder="little")
