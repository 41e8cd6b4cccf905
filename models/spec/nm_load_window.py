"""Windows on feature maps: which pixels meet which taps in a convolution, its input gradient and its weight gradient.

A window gathers a matrix from a map [batch, height, width, channels]. Row (b, oy, ox) and tap (i, j) meet the pixel

    (b, oy * stride + i * step + start_y, ox * stride + j * step + start_x), zero outside the map.

Forward convolutions, matrices and all phases of input gradients are windows, so that one loader serves them all.
"""

from dataclasses import dataclass
from math import gcd

from .errors import check_int

__all__ = ["Phase", "Window", "forward_window", "gradient_phases", "matrix_window"]

_MOST = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Window:
    """``out_height`` x ``out_width`` rows an image, ``taps_y`` x ``taps_x`` taps; ``step`` from tap to tap may be negative.
    TypeError or ValueError for numbers that make none."""

    out_height: int
    out_width: int
    taps_y: int = 1
    taps_x: int = 1
    stride: int = 1
    step: int = 1
    start_y: int = 0
    start_x: int = 0

    def __post_init__(self):
        limits = {"step": (-_MOST, _MOST), "start_y": (-_MOST, _MOST), "start_x": (-_MOST, _MOST)}
        for name in self.__dataclass_fields__:
            object.__setattr__(self, name, check_int(name, getattr(self, name), *limits.get(name, (1, _MOST))))

    @property
    def taps(self):
        return self.taps_y * self.taps_x


@dataclass(frozen=True, kw_only=True)
class Phase:
    """The pixels [:, row::stride, column::stride] of an input gradient: rows of ``window`` on the output's gradient times the
    weights [c_out, tap, c_in] at ``taps_y`` x ``taps_x``. Without taps (``window`` None) these pixels are 0."""

    row: int
    column: int
    stride: int
    taps_y: tuple
    taps_x: tuple
    window: Window | None


def forward_window(height, width, kernel, stride=1, pad=0, dilation=1):
    """The window of a convolution of a ``height`` x ``width`` map with ``kernel`` (rows, columns) or a square of that side."""
    kernel = _pair(kernel)
    check_int("stride", stride, 1, _MOST), check_int("pad", pad, 0, _MOST), check_int("dilation", dilation, 1, _MOST)
    out = [(size + 2 * pad - (side - 1) * dilation - 1) // stride + 1 for size, side in zip((height, width), kernel, strict=True)]
    if min(out) < 1:
        raise ValueError(f"kernel must fit the padded map ({height} x {width}, pad {pad}), got {kernel[0]} x {kernel[1]} with "
                         f"dilation {dilation}")
    return Window(out_height=out[0], out_width=out[1], taps_y=kernel[0], taps_x=kernel[1], stride=stride, step=dilation,
                  start_y=-pad, start_x=-pad)


def matrix_window(m):
    """The window of a plain matrix [m, k]: a map of height 1, width ``m`` and k channels."""
    return Window(out_height=1, out_width=m)


def gradient_phases(height, width, kernel, stride=1, pad=0, dilation=1):
    """The :class:`Phase` list of the input gradient of :func:`forward_window` with the same arguments: each pixel once.

    Pixel iy = stride * q + row has the taps ky with stride | row + pad - ky * dilation, from output row
    q + (row + pad - ky * dilation) / stride.
    """
    kernel = _pair(kernel)
    forward_window(height, width, kernel, stride, pad, dilation)
    shared = gcd(stride, dilation)
    phases = []
    for row in range(min(stride, height)):
        for column in range(min(stride, width)):
            taps = [tuple(tap for tap in range(side) if (place + pad - tap * dilation) % stride == 0)
                    for place, side in zip((row, column), kernel, strict=True)]
            window = None
            if all(taps):
                start_y, start_x = ((place + pad - mine[0] * dilation) // stride
                                    for place, mine in zip((row, column), taps, strict=True))
                window = Window(out_height=-(-(height - row) // stride), out_width=-(-(width - column) // stride),
                                taps_y=len(taps[0]), taps_x=len(taps[1]), step=-(dilation // shared), start_y=start_y,
                                start_x=start_x)
            phases.append(Phase(row=row, column=column, stride=stride, taps_y=taps[0], taps_x=taps[1], window=window))
    return phases


def _pair(kernel):
    if hasattr(kernel, "__index__"):
        kernel = kernel, kernel
    rows, columns = kernel
    return check_int("kernel", rows, 1, _MOST), check_int("kernel", columns, 1, _MOST)
