"""Feature maps as words of the loader's buffers, and its beats as the operand that they make.

A word is 16 bfloat16 channels of a pixel, channel 0 lowest, at
((image * height + y) * width + x) * channel_words + channel // 16; channels beyond the map's are 0.
Every buffer is a copy of the same map. A beat is ``words`` words.
"""

import numpy as np

from ..spec.nm_load_job import WORD
from ..spec.nm_load_plan import plan
from .bf16 import BF16

__all__ = ["collect", "expand", "pack", "pack_map"]


def pack_map(x):
    """uint8 [words, 32] of a map ``x`` bfloat16 [batch, height, width, channels]."""
    if not isinstance(x, np.ndarray) or x.dtype != BF16 or x.ndim != 4:
        raise TypeError(f"x must be bfloat16 with 4 axes, got {getattr(x, 'dtype', type(x))} {list(getattr(x, 'shape', ()))}")
    depth = -(-x.shape[3] // WORD)
    words = np.zeros((*x.shape[:3], depth * WORD), "<u2")
    words[..., : x.shape[3]] = x.view(np.uint16)
    return words.reshape(-1, WORD).view(np.uint8)


def pack(build, job, operands):
    """(streams, buffers) of ``x``, a map bfloat16 [batch, height, width, channels]."""
    x = operands["x"]
    image = pack_map(x)
    want = job.batch, job.height, job.width, job.channels
    if x.shape != want:
        raise ValueError(f"x must have shape {list(want)}, got {list(x.shape)}")
    return {}, {buffer.name: image for buffer in build.buffers}


def collect(build, job, beats):
    """``w``, bits of bfloat16 uint16 with all padding, from decoded beats: rows and transposed [repeats, rows, k] of A;
    columns [repeats, k, columns] of B, tile beside tile."""
    work = plan(build, job)
    data = np.asarray(beats["data"], np.int64).astype(np.uint16)
    beats = build.beats("w", job)
    if data.shape != (beats, WORD * build.words):
        raise ValueError(f"o_w must have {beats} beats of {WORD * build.words} values, got {list(data.shape)}")
    if job.order == "columns":
        tiles, at = [], 0
        for tile in range(work.tiles):
            slots = work.slots if tile < work.tiles - 1 else work.last_slots
            count = work.passes * work.rounds * slots
            tiles.append(data[at : at + count].reshape(work.passes, work.rounds, -1))
            at += count
        return {"w": np.concatenate(tiles, axis=2)}
    # Repeat, tile, round (16 values of k), row of the tile, value.
    blocks = data.reshape(work.repeats, work.tiles, work.rounds, build.rows, WORD)
    return {"w": blocks.transpose(0, 1, 3, 2, 4).reshape(work.repeats, work.tiles * build.rows, work.rounds * WORD)}


def expand(build, job, w):
    """The values of the beats, uint16 [beats, 16 * words], of what :func:`collect` returns: its inverse."""
    work, lanes = plan(build, job), WORD * build.words
    if job.order == "columns":
        starts = range(0, w.shape[2], build.slots * lanes)
        return np.concatenate([w[:, :, start : start + build.slots * lanes].reshape(-1, lanes) for start in starts])
    return w.reshape(work.repeats, work.tiles, build.rows, work.rounds, WORD).transpose(0, 1, 3, 2, 4).reshape(-1, lanes)
