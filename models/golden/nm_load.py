"""What the loader delivers, from the definition: matrices gathered from feature maps.

Maps are bfloat16 [batch, height, width, channels]; windows are :mod:`sparseloom.models.spec.nm_load_window`'s.
"""

import numpy as np

from ..formats.bf16 import BF16
from ..spec.nm_load_job import window_of

__all__ = ["draw_operands", "im2col", "input_gradient", "pad_channels", "phase_weights", "results"]


def pad_channels(x):
    """``x`` with zeros behind its last axis, up to a multiple of 16."""
    out = np.zeros((*x.shape[:-1], -(-x.shape[-1] // 16) * 16), x.dtype)
    out[..., : x.shape[-1]] = x
    return out


def im2col(x, window):
    """[batch * out_height * out_width, taps_y * taps_x * channels] of a map of any dtype; columns: (i, j, channel)."""
    if x.ndim != 4:
        raise ValueError(f"x must have axes batch, height, width, channels, got {list(x.shape)}")
    batch, height, width, channels = x.shape
    out = np.zeros((batch, window.out_height, window.out_width, window.taps_y, window.taps_x, channels), x.dtype)
    oy, ox = np.arange(window.out_height), np.arange(window.out_width)
    for i in range(window.taps_y):
        iy = oy * window.stride + i * window.step + window.start_y
        rows = np.flatnonzero((iy >= 0) & (iy < height))
        for j in range(window.taps_x):
            ix = ox * window.stride + j * window.step + window.start_x
            columns = np.flatnonzero((ix >= 0) & (ix < width))
            out[:, rows[:, None], columns, i, j] = x[:, iy[rows][:, None], ix[columns]]
    return out.reshape(batch * window.out_height * window.out_width, -1)


def phase_weights(w, phase):
    """The operand B of a phase, [n = c_in, k = (tap, c_out)], of weights ``w`` [c_out, ky, kx, c_in] of any dtype.

    Row n is grouped along k by pruning: for ``prune`` give it float32 master weights.
    """
    part = w[:, list(phase.taps_y)][:, :, list(phase.taps_x)]
    return np.ascontiguousarray(part.transpose(3, 1, 2, 0)).reshape(w.shape[3], -1)


def input_gradient(dy, phases, shape, multiply):
    """dX [batch, height, width, c_in] of ``shape`` from ``dy`` [batch, oh, ow, c_out]: ``multiply(a, phase)`` gives the product
    [m, c_in] of a phase's gathered rows with its weights; its dtype is the result's."""
    out = None
    for phase in phases:
        if phase.window is None:
            continue
        y = multiply(im2col(dy, phase.window), phase)
        if out is None:
            out = np.zeros(shape, y.dtype)
        out[:, phase.row :: phase.stride, phase.column :: phase.stride] = y.reshape(
            shape[0], phase.window.out_height, phase.window.out_width, shape[3])
    return np.zeros(shape, dy.dtype) if out is None else out


def results(build, job, operands):
    """``w``, the operand's bits with all padding, as ``formats.nm_load_stream.collect`` returns them."""
    x = pad_channels(operands["x"])
    if job.order == "transposed":
        operand = operands["x"].reshape(-1, job.channels).T
    else:
        operand = im2col(x, window_of(job))
    m, k = operand.shape
    if job.order == "columns":
        # A tile has 16 columns a word and slot; the last one the slots that it needs, but at least 4.
        tile = 16 * build.words * build.slots
        full, rest = divmod(k, tile)
        shape = m, full * tile + (max(4, -(-rest // (16 * build.words))) * 16 * build.words if rest else 0)
    else:
        shape = -(-m // build.rows) * build.rows, -(-k // 16) * 16
    out = np.zeros(shape, np.uint16)
    out[:m, :k] = np.ascontiguousarray(operand).view(np.uint16)
    return {"w": np.repeat(out[None], job.repeats, axis=0), "saturated": 0}


def draw_operands(build, job, rng):
    """A map of any bits, NaN and infinity included: the loader looks at none."""
    return {"x": rng.integers(0, 1 << 16, (job.batch, job.height, job.width, job.channels), np.uint16).view(BF16)}
