"""Small unsigned numbers as bit streams: number i of a row is at bits [i*bits ..], low bits first, rows begin on a byte.

It is the layout that GPTQ, compressed-tensors and our own N:M container have in common: words of 32 bits, little-endian, are the
same bytes.
"""

import math

import numpy as np

from ..spec.errors import check_int

__all__ = ["pack_bits", "stream_bytes", "unpack_bits"]

BYTE = 8


def stream_bytes(count, bits):
    """Bytes of a row of ``count`` numbers."""
    return -(-count * bits // BYTE)


def pack_bits(values, bits):
    """uint8 ``[rows, stream_bytes(count)]`` of ``values`` uint8 ``[rows, count]``, bits of padding 0; ValueError if one is too
    large for ``bits`` (1..8)."""
    check_int("bits", bits, 1, BYTE)
    if values.size and int(values.max()) >> bits:
        raise ValueError(f"values must be below {1 << bits}, got {int(values.max())}")
    rows, count = values.shape
    lanes, period = period_of(bits)
    blocks = -(-count // lanes)
    padded = np.zeros((rows, blocks * lanes), np.uint8)
    padded[:, :count] = values
    padded = padded.reshape(rows, blocks, lanes)
    out = np.zeros((rows, blocks, period), np.uint8)
    for lane in range(lanes):
        byte, shift = divmod(lane * bits, BYTE)
        out[..., byte] |= padded[..., lane] << shift
        if shift + bits > BYTE:
            out[..., byte + 1] |= padded[..., lane] >> (BYTE - shift)
    return np.ascontiguousarray(out.reshape(rows, -1)[:, : stream_bytes(count, bits)])


def unpack_bits(data, bits, count):
    """uint8 ``[rows, count]``: the first ``count`` numbers of each row of ``data`` uint8 ``[rows, bytes]``, which may be longer.

    ValueError for ``bits`` outside 1..8 and for rows that are shorter.
    """
    check_int("bits", bits, 1, BYTE)
    rows, have = data.shape
    if have < stream_bytes(count, bits):
        raise ValueError(f"data must have {stream_bytes(count, bits)} bytes a row, got {have}")
    lanes, period = period_of(bits)
    blocks = -(-count // lanes)
    if have < blocks * period:
        data = np.pad(data, ((0, 0), (0, blocks * period - have)))
    data = data[:, : blocks * period].reshape(rows, blocks, period)
    out = np.empty((rows, blocks, lanes), np.uint8)
    mask = np.uint8((1 << bits) - 1)
    for lane in range(lanes):
        byte, shift = divmod(lane * bits, BYTE)
        value = data[..., byte] >> shift
        if shift + bits > BYTE:
            value = value | data[..., byte + 1] << (BYTE - shift)
        out[..., lane] = value & mask
    return np.ascontiguousarray(out.reshape(rows, -1)[:, :count])


def period_of(bits):
    """``(numbers, bytes)`` after which the alignment to bytes repeats."""
    period = math.lcm(bits, BYTE)
    return period // bits, period // BYTE
