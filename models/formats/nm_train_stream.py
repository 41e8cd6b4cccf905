"""What the N:M training array reads, beat by beat, and its results.

``a``: beats of ``words`` x 16 bfloat16. Output-stationary: for each tile of columns, tile of ``rows`` rows, chunk of 16 values
along k: the words of the rows, row after row. Weight-stationary: for each period a group of values for each row of PEs, row after
row: row r meets in period t what row 0 met in period t - r, so that the words lie on a diagonal. Beyond m or k all is 0.

``b``: beats of ``cols`` bfloat16, then as many indices of 4 bits: for each tile of columns, group, place in the group, slot
(:func:`pack_b`). Output-stationary jobs read a tile's beats once for each tile of rows; weight-stationary ones all tiles of
groups once for each block of rows, the last tile filled up with 0.
"""

import numpy as np

from ..spec.nm_train_job import WORD
from .bf16 import BF16

__all__ = ["collect", "pack", "pack_a", "pack_b", "pack_b_tiles"]


def pack(build, job, operands):
    """(streams, buffers) of ``a`` bfloat16 [m, k], ``values`` bfloat16 and ``index`` uint8 [n, groups, nnz]."""
    return {"a": pack_a(build, job, operands["a"]), "b": pack_b(build, job, operands["values"], operands["index"])}, {}


def pack_a(build, job, a):
    """uint8 [beats, bytes] of ``a`` bfloat16 [m, k]."""
    _check("a", a, BF16, (job.m, job.k))
    codes = np.ascontiguousarray(a).view(np.uint16)
    sets = _os_sets(build, job, codes) if job.dataflow == "os" else _ws_sets(build, job, codes)
    beats = build.a_beats(job)
    whole = np.zeros((len(sets), beats * WORD * build.words), "<u2")
    whole[:, : sets.shape[1]] = sets
    return whole.reshape(len(sets) * beats, -1).view(np.uint8)


def _os_sets(build, job, codes):
    """uint16 [periods, rows * 16]."""
    row_tiles, chunks = -(-job.m // build.rows), -(-job.k // WORD)
    whole = np.zeros((row_tiles * build.rows, chunks * WORD), np.uint16)
    whole[: job.m, : job.k] = codes
    sets = whole.reshape(row_tiles, build.rows, chunks, WORD).transpose(0, 2, 1, 3).reshape(row_tiles * chunks, -1)
    return np.tile(sets, (len(build.column_tiles(job)), 1))


def _ws_sets(build, job, codes):
    """uint16 [periods, rows * group]."""
    k_tiles, group = build.k_tiles(job), job.group
    whole = np.zeros((job.m + 1, k_tiles, build.rows, group), np.uint16)
    whole.reshape(job.m + 1, -1)[: job.m, : job.k] = codes
    tokens, tiles = [], []
    lengths = iter(build.periods(job))
    for _ in build.column_tiles(job):
        start = 0
        for block in build.ws_blocks(job):
            for k_tile in range(k_tiles):
                length = next(lengths)
                # Row m of ``whole`` is 0: periods without a row.
                tokens.append(np.where(np.arange(length) < block, start + np.arange(length), job.m))
                tiles.append(np.full(length, k_tile))
            start += block
    idle = np.full(build.rows - 1, job.m)
    tokens = np.concatenate([idle, *tokens, idle])
    tiles = np.concatenate([0 * idle, *tiles, 0 * idle])
    periods = len(tokens) - build.rows + 1
    sets = np.empty((periods, build.rows, group), np.uint16)
    for row in range(build.rows):
        at = slice(build.rows - 1 - row, build.rows - 1 - row + periods)
        sets[:, row] = whole[tokens[at], tiles[at], row]
    return sets.reshape(periods, -1)


def pack_b(build, job, values, index):
    """uint8 [beats, bytes] of ``values`` bfloat16 and ``index`` uint8 [n, groups, nnz], as often as the job reads them."""
    tiles = pack_b_tiles(build, job, values, index)
    if job.dataflow == "os":
        return np.concatenate([np.tile(tile, (-(-job.m // build.rows), 1)) for tile in tiles])
    parts = []
    for tile, (slots, _) in zip(tiles, build.column_tiles(job), strict=True):
        filled = np.zeros((build.k_tiles(job) * build.rows * job.nnz * slots, tile.shape[1]), np.uint8)
        filled[: len(tile)] = tile
        parts.append(np.tile(filled, (len(build.ws_blocks(job)), 1)))
    return np.concatenate(parts)


def pack_b_tiles(build, job, values, index):
    """The beats of each tile of columns once, uint8 [groups * nnz * slots, bytes]: the image that the pruner makes."""
    shape = job.n, build.groups(job), job.nnz
    _check("values", values, BF16, shape)
    _check("index", index, np.uint8, shape)
    if index.size and index.max() >= job.group:
        raise ValueError(f"index must be less than group ({job.group}), got {index.max()}")
    codes, parts, start = np.ascontiguousarray(values).view(np.uint16), [], 0
    for slots, _ in build.column_tiles(job):
        count = slots * build.cols
        lanes = []
        for array in (codes, index):
            whole = np.zeros((count, *shape[1:]), array.dtype)
            part = array[start : start + count]
            whole[: len(part)] = part
            lanes.append(whole.reshape(slots, build.cols, shape[1] * shape[2]).transpose(2, 0, 1).reshape(-1, build.cols))
        start += count
        nibbles = lanes[1][:, 0::2] | lanes[1][:, 1::2] << 4
        parts.append(np.concatenate([np.ascontiguousarray(lanes[0].astype("<u2")).view(np.uint8), nibbles], axis=1))
    return parts


def collect(build, job, y):
    """``y`` uint32 [m, n], bits of float32 (narrow: bfloat16), from the decoded beats of ``o_y``; ValueError for a beat outside
    the job or results that came 0 or several times."""
    columns = y["column"][:, None] + np.arange(build.cols)
    inside = columns < job.n
    rows = np.broadcast_to(y["row"][:, None], columns.shape)
    data = y["data"].reshape(columns.shape)
    if len(rows) and (not inside[:, 0].all() or rows.max() >= job.m or data[~inside].any()):
        raise ValueError("o_y holds a beat outside the job, or padding that is not 0")
    seen = np.zeros((job.m, job.n), int)
    np.add.at(seen, (rows[inside], columns[inside]), 1)
    if (seen != 1).any():
        raise ValueError(f"o_y must deliver each result once; {int((seen != 1).sum())} of {seen.size} came 0 or several times")
    matrix = np.zeros((job.m, job.n), np.uint32)
    matrix[rows[inside], columns[inside]] = data[inside]
    return {"y": matrix}


def _check(name, array, kind, shape):
    if not isinstance(array, np.ndarray) or array.dtype != kind or array.shape != shape:
        raise ValueError(f"{name} must be {np.dtype(kind)} {list(shape)}, got {getattr(array, 'dtype', type(array).__name__)} "
                         f"{list(getattr(array, 'shape', ()))}")
