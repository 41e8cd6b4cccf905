"""The weight stream of the sparse chain engine: bit planes, one lane of 32 bits a row.

A beat has a word of 32 bits for each of ``chains`` rows, row 0 lowest. A row's kept weights, in ascending columns, make *steps*
of eight, four steps a *quad*. A quad is sent as planes: word p holds bit p of its 32 codes, step s and position j at bit 8 s + j;
before them, if the span is N:M, the planes of the indices (column modulo ``group``); before them the headers of the scale groups
that begin in the quad, 32 bits each or two of 16 bits a word:

- scale: scale int16, of two groups
- affine: scale int16, offset int16
- zero: scale int16, code of zero uint8, 8 bits of 0
- levels: scale uint8, code of zero uint8, of two groups

Planes may stop short in a row's last quad: what is missing is 0. A codebook stands before everything, four words in lane 0,
entry 0 lowest. A span of blocks is preceded by a word that all lanes repeat: block number in bits 15:0, log2(group / nnz) in
19:16, bit 20 set in the tile's last. Rows beyond n are 0.
"""

from functools import cache

import numpy as np

from ..spec.sparse_cycles import CODEBOOK_WORDS, header_words
from ..spec.sparse_job import LANE_STEPS, MANTISSA_BITS, POSITIONS
from .sparse_operands import (
    centre,
    check_array,
    check_operands,
    check_range,
    columns_mask,
    padded,
    pattern_bits,
    patterns,
    stretches,
)

__all__ = ["centre", "columns_mask", "pack_activations", "pack_weights", "unpack_weights"]

WORD_BYTES = 4
RATIO_AT, LAST_AT = 16, 20
QUAD = LANE_STEPS * POSITIONS


def pack_weights(build, job, operands):
    """uint8 [beats, beat_bytes] of ``codes`` uint8 [n, k], ``mask`` bool [n, k], ``scale`` int [n, groups] and, where the header
    has them, ``offset`` int and ``zero`` uint8 of the same shape; ``codebook`` int8 [16].

    ValueError for a value outside its field, a group that keeps more than it may, or a block that must not be kept.
    """
    check_operands(build, job, operands)
    rows = build.tiles(job) * build.chains
    codes, mask = (padded(operands[name], rows, job.k) for name in ("codes", "mask"))
    zero = np.repeat(_zeros(job, operands), job.scale_group or job.k, axis=1)[:, : job.k]
    codes = np.where(mask, codes, padded(zero, rows, job.k)).astype(np.uint8)
    headers = padded(_headers(job, operands), rows, job.scale_groups)
    parts = []
    for low, high, spans in stretches(build, job):
        words = [word for at, span in enumerate(spans)
                 for word in _span_words(job, span, at, len(spans), codes[low:high], mask[low:high], headers[low:high])]
        tiles = np.stack(words, axis=1).reshape(-1, build.chains, len(words), WORD_BYTES)
        parts.append(tiles.transpose(0, 2, 1, 3).reshape(-1, build.beat_bytes))
    if job.codebook:
        first = np.zeros((CODEBOOK_WORDS, build.beat_bytes), np.uint8)
        first[:, :WORD_BYTES] = operands["codebook"].view(np.uint8).reshape(CODEBOOK_WORDS, WORD_BYTES)
        parts.insert(0, first)
    return np.concatenate(parts)


def unpack_weights(build, job, beats):
    """The operands that :func:`pack_weights` packed, zeros where nothing is kept; ValueError for bytes that it would not make."""
    beats = np.asarray(beats, np.uint8)
    if beats.shape != (build.beats("w", job), build.beat_bytes):
        raise ValueError(f"beats must be [{build.beats('w', job)}, {build.beat_bytes}], got {list(beats.shape)}")
    rows, start = build.tiles(job) * build.chains, CODEBOOK_WORDS if job.codebook else 0
    codes, mask = np.zeros((rows, job.k), np.uint8), np.zeros((rows, job.k), bool)
    headers = np.zeros((rows, job.scale_groups), np.uint32)
    at = start
    for low, high, spans in stretches(build, job):
        count = sum(map(sum, (_counts(job, span, first) for first, span in _numbered(job, spans))))
        tiles = (high - low) // build.chains
        part = beats[at : at + count * tiles].reshape(tiles, count, build.chains, WORD_BYTES)
        at += count * tiles
        words = part.transpose(0, 2, 1, 3).reshape(high - low, count, WORD_BYTES)
        place = 0
        for first, span in _numbered(job, spans):
            size = sum(_counts(job, span, first))
            _read_span(job, span, first, words[:, place : place + size], codes[low:high], mask[low:high], headers[low:high])
            place += size
    operands = {"codes": codes[: job.n], "mask": mask[: job.n]} | _split(job, headers[: job.n])
    if job.codebook:
        operands["codebook"] = np.ascontiguousarray(beats[:start, :WORD_BYTES]).reshape(-1).view(np.int8)
    if not np.array_equal(pack_weights(build, job, operands), beats):
        raise ValueError("the stream holds bytes that no weights pack to")
    return operands


def pack_activations(build, job, x, x_scale):
    """Words of the buffer, uint8 [pairs * x_words, bytes]: ``x`` int8 [m, k], ``x_scale`` uint16 range [m, x_groups].

    Word ``(token // tokens) * x_words + k // window`` holds ``window`` codes of each token of the pass, the first token's lowest,
    then of each token a scale for every 32 columns (one for a smaller window). What lies beyond m and k is 0.
    """
    x_scale = np.asarray(x_scale)
    check_array("x", x, "int8", (job.m, job.k))
    check_array("x_scale", x_scale, "integers", (job.m, job.x_groups))
    check_range("x_scale", x_scale, 0, (1 << MANTISSA_BITS) - 1)
    pairs, words, window = build.pairs(job), build.x_words(job), build.window
    tokens = pairs * build.tokens
    codes = np.zeros((tokens, words * window), np.int8)
    codes[: job.m, : job.k] = x
    columns = np.arange(words * build.word_scales) * (window // build.word_scales)
    groups = np.minimum(columns // job.x_group if job.x_group else columns * 0, job.x_groups - 1)
    scales = np.zeros((tokens, words * build.word_scales), np.uint16)
    scales[: job.m] = x_scale[:, groups]
    shape = pairs, build.tokens, words, -1
    parts = [part.view(np.uint8).reshape(shape).transpose(0, 2, 1, 3).reshape(pairs * words, -1) for part in (codes, scales)]
    return np.concatenate(parts, axis=1)


def _numbered(job, spans):
    return [(not at, span) for at, span in enumerate(spans)]


def _counts(job, span, first):
    """Words of a span: its own, headers, planes."""
    index = job.index_bits if span.ratio > 1 else 0
    return [int(job.block > 0), *(count + index + job.bits for count in header_words(job, span, first))]


def _span_words(job, span, at, count, codes, mask, headers):
    """The words of a span, each uint8 [rows, 4]."""
    rows, columns = len(codes), span.steps * POSITIONS * span.ratio
    part, kept = (padded(array[:, span.start : span.start + columns], rows, columns) for array in (codes, mask))
    planes = []
    if span.ratio > 1:
        chosen = _places(job.group, job.group // span.ratio)[patterns(kept.reshape(rows, -1, job.group))]
        part = np.take_along_axis(part.reshape(rows, -1, job.group), chosen, axis=2).reshape(rows, -1)
        planes = _planes(chosen.reshape(rows, -1).astype(np.uint8), job.index_bits)
    planes += _planes(part, job.bits)
    words = []
    if job.block:
        word = span.start // job.block | (span.ratio.bit_length() - 1) << RATIO_AT | (at == count - 1) << LAST_AT
        words.append(np.broadcast_to(np.frombuffer(word.to_bytes(WORD_BYTES, "little"), np.uint8), (rows, WORD_BYTES)))
    each = _header_list(job, span, headers)
    for quad, number in enumerate(header_words(job, span, not at)):
        words += [each.pop(0) for _ in range(number)] + [plane[:, quad] for plane in planes]
    return words


@cache
def _places(group, nnz):
    """intp [2**group, nnz]: for each pattern the columns sent, ascending: those kept, then the first of the others."""
    return np.sort(np.argsort(1 - pattern_bits(group), axis=1, kind="stable")[:, :nnz], axis=1)


def _planes(values, bits):
    """A plane for each bit of ``values`` uint8 [rows, 8 * steps]: uint8 [rows, quads, 4]."""
    rows, count = values.shape
    quads = -(-count // QUAD)
    values = padded(values, rows, quads * QUAD).reshape(rows, quads, QUAD)
    return [np.packbits((values >> bit) & 1, axis=2, bitorder="little") for bit in range(bits)]


def _header_list(job, span, headers):
    """The words of the headers of a span, each uint8 [rows, 4]."""
    if not job.scale_group:
        part = headers if span.start == 0 or job.block else headers[:, :0]
    else:
        low, count = span.start // job.scale_group, -(-(span.steps * POSITIONS * span.ratio) // job.scale_group)
        part = padded(headers[:, low : low + count], len(headers), count)
    if job.header_groups == 2:
        part = padded(part, len(part), -(-part.shape[1] // 2) * 2)
        part = part[:, 0::2] | part[:, 1::2] << 16
    return [np.ascontiguousarray(part[:, [at]]).view(np.uint8) for at in range(part.shape[1])]


def _headers(job, operands):
    """uint32 [n, groups]: the header of each group, in 16 or 32 bits."""
    scale = operands["scale"].astype(np.int64) & 0xFFFF
    if job.header == "affine":
        return (scale | (operands["offset"].astype(np.int64) & 0xFFFF) << 16).astype(np.uint32)
    if job.header == "scale":
        return scale.astype(np.uint32)
    return (scale | operands["zero"].astype(np.int64) << (16 if job.header == "zero" else 8)).astype(np.uint32)


def _split(job, headers):
    """The inverse of :func:`_headers`."""
    low, high = (headers & 0xFFFF).astype(np.uint16).view(np.int16), (headers >> 16).astype(np.uint16)
    if job.header == "levels":
        return {"scale": (headers & 0xFF).astype(np.int32), "zero": (headers >> 8 & 0xFF).astype(np.uint8)}
    parts = {"scale": low.astype(np.int32)}
    if job.header == "affine":
        parts["offset"] = high.view(np.int16).astype(np.int32)
    if job.header == "zero":
        parts["zero"] = (high & 0xFF).astype(np.uint8)
    return parts


def _zeros(job, operands):
    """uint8 [n, groups]: the code of zero; with a codebook that of an entry 0, else 0."""
    if job.codebook:
        found = np.flatnonzero(operands["codebook"] == 0)
        return np.full(operands["scale"].shape, found[0] if len(found) else 0, np.uint8)
    if job.header in ("zero", "levels"):
        return operands["zero"]
    return np.full(operands["scale"].shape, centre(job), np.uint8)


def _read_span(job, span, first, words, codes, mask, headers):
    """Fill in what the words [rows, count, 4] of a span say."""
    rows, index = len(words), job.index_bits if span.ratio > 1 else 0
    at, planes, found = int(job.block > 0), [], []
    for number in header_words(job, span, first):
        found += [np.ascontiguousarray(words[:, at + i]).view(np.uint32)[:, 0] for i in range(number)]
        planes.append(words[:, at + number : at + number + index + job.bits])
        at += number + index + job.bits
    bits = np.unpackbits(np.stack(planes, axis=2), axis=3, bitorder="little").reshape(rows, index + job.bits, -1)
    bits = bits[:, :, : span.steps * POSITIONS]
    value = _number(bits[:, index:])
    columns = min(job.k - span.start, span.steps * POSITIONS * span.ratio)
    part = slice(span.start, span.start + columns)
    if not index:
        codes[:, part], mask[:, part] = value[:, :columns], True
    else:
        width = span.steps * POSITIONS * span.ratio
        place = _number(bits[:, :index]) + np.arange(span.steps * POSITIONS) // (job.group // span.ratio) * job.group
        for array, values in ((codes, value), (mask, np.ones_like(value, bool))):
            wide = np.zeros((rows, width), array.dtype)
            np.put_along_axis(wide, place, values, axis=1)
            array[:, part] = wide[:, :columns]
    if not found:
        return
    each = np.stack(found, axis=1)
    if job.header_groups == 2:
        each = np.stack([each & 0xFFFF, each >> 16], axis=2).reshape(rows, -1)
    low = span.start // job.scale_group if job.scale_group else 0
    count = min(each.shape[1], headers.shape[1] - low)
    headers[:, low : low + count] = each[:, :count]


def _number(planes):
    """uint8 [rows, values] of planes [rows, bits, values], the lowest first."""
    value = planes[:, 0].copy()
    for bit in range(1, planes.shape[1]):
        value |= planes[:, bit] << bit
    return value
