"""The loader's windows and golden matrices against direct loops."""

import numpy as np
import pytest

from sparseloom.models.golden.nm_load import im2col, input_gradient, pad_channels, phase_weights
from sparseloom.models.spec.nm_load_window import Window, forward_window, gradient_phases, matrix_window

CONVOLUTIONS = [(height, width, kernel, stride, pad, dilation)
                for height, width in ((1, 1), (5, 4), (6, 7)) for kernel in (1, 2, 3, (1, 3), (3, 1)) for stride in (1, 2, 3)
                for pad in (0, 1, 2) for dilation in (1, 2)
                if min(height, width) + 2 * pad >= (max(np.atleast_1d(kernel)) - 1) * dilation + 1]


def _loops(x, w, dy, stride, pad, dilation):
    """(y, dx, dw) of a convolution in float64, tap by tap; dy None: just y."""
    batch, height, width, _ = x.shape
    out, side_y, side_x, _ = w.shape
    oh = (height + 2 * pad - (side_y - 1) * dilation - 1) // stride + 1
    ow = (width + 2 * pad - (side_x - 1) * dilation - 1) // stride + 1
    y, dx, dw = np.zeros((batch, oh, ow, out)), np.zeros(x.shape), np.zeros(w.shape)
    for oy, ox, ky, kx in np.ndindex(oh, ow, side_y, side_x):
        iy, ix = oy * stride + ky * dilation - pad, ox * stride + kx * dilation - pad
        if 0 <= iy < height and 0 <= ix < width:
            y[:, oy, ox] += x[:, iy, ix] @ w[:, ky, kx].T
            if dy is not None:
                dx[:, iy, ix] += dy[:, oy, ox] @ w[:, ky, kx]
                dw[:, ky, kx] += dy[:, oy, ox].T @ x[:, iy, ix]
    return y, dx, dw


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolutions_and_both_gradients_are_products_of_windows(case):
    """Small integers: float64 sums are exact, whatever their order."""
    height, width, kernel, stride, pad, dilation = case
    side_y, side_x = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    rng = np.random.default_rng(3)
    x = rng.integers(-9, 10, (2, height, width, 3)).astype(np.float64)
    w = rng.integers(-9, 10, (4, side_y, side_x, 3)).astype(np.float64)
    window = forward_window(height, width, kernel, stride, pad, dilation)
    dy = rng.integers(-9, 10, (2, window.out_height, window.out_width, 4)).astype(np.float64)
    y, dx, dw = _loops(x, w, dy, stride, pad, dilation)
    gathered = im2col(x, window)
    assert (gathered @ w.reshape(4, -1).T == y.reshape(-1, 4)).all()
    assert (dy.reshape(-1, 4).T @ gathered == dw.reshape(4, -1)).all()
    phases = gradient_phases(height, width, kernel, stride, pad, dilation)
    covered = np.zeros((height, width), int)
    for phase in phases:
        covered[phase.row :: stride, phase.column :: stride] += 1
    assert (covered == 1).all()
    got = input_gradient(dy, phases, x.shape, lambda a, phase: a @ phase_weights(w, phase).T)
    assert (got == dx).all()


def test_a_matrix_is_its_own_window():
    x = np.arange(24.0).reshape(1, 1, 6, 4)
    assert (im2col(x, matrix_window(6)) == x[0, 0]).all()
    assert pad_channels(x).shape == (1, 1, 6, 16) and (pad_channels(x)[..., 4:] == 0).all()


def test_phases_of_a_pointwise_convolution_with_stride_have_taps_once():
    phases = gradient_phases(4, 4, 1, 2)
    assert [phase.window is not None for phase in phases] == [True, False, False, False]


def test_what_no_window_can_be_is_refused():
    for error, text, make in (
        (ValueError, "out_height must be 1..1048576, got 0", lambda: Window(out_height=0, out_width=1)),
        (TypeError, "step must be an integer, got 1.5", lambda: Window(out_height=1, out_width=1, step=1.5)),
        (ValueError, r"kernel must fit the padded map \(2 x 9, pad 0\), got 3 x 3 with dilation 1",
         lambda: forward_window(2, 9, 3)),
        (ValueError, "kernel must be 1..1048576, got 0", lambda: forward_window(2, 9, (0, 1))),
        (ValueError, "stride must be 1..1048576, got 0", lambda: gradient_phases(2, 9, 1, 0)),
        (ValueError, r"x must have axes batch, height, width, channels, got \[1, 2\]",
         lambda: im2col(np.zeros((1, 2)), matrix_window(2))),
    ):
        with pytest.raises(error, match=f"^{text}$"):
            make()
