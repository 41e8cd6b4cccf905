"""Random builds and jobs of the loader, for the conformance suite."""

import numpy as np

from .draw import draw_size
from .nm_load_job import ORDERS, WORD
from .nm_load_window import forward_window, gradient_phases

__all__ = ["draw_build", "draw_job", "largest_job"]

_BEATS = 1500
"""Of a drawn job, about: what a simulation should take."""


def draw_build(cls, rng):
    """A small build, every parameter varied."""
    words = int(rng.choice([1, 2, 4]))
    rows = int(rng.choice([16, 32, 4, 8])) if rng.integers(2) else words * int(rng.integers(max(1, 3 - words), 7))
    map_words = int(np.exp(rng.uniform(np.log(16), np.log(300))))
    return cls(words=words, rows=rows, slots=int(rng.integers(4, 10)), map_words=map_words,
               read_latency=int(rng.integers(1, 5)))


def draw_job(build, rng):
    """A legal job: a matrix, a convolution or a phase of its input gradient, or any window; every order."""
    while True:
        shape = _draw_shape(build, rng)
        try:
            job = build.job(**shape)
        except ValueError:
            # A window may be out of reach of a small build.
            continue
        if build.beats("w", job) <= _BEATS:
            return job


def largest_job(build):
    """A matrix that fills the map: as many pixels as it has words."""
    return build.job(width=build.map_words, channels=WORD)


def _draw_shape(build, rng):
    orders = ORDERS if build.turns else [order for order in ORDERS if order != "transposed"]
    depth = draw_size(rng, max(1, min(build.map_words // 2, 12)), build.words)
    pixels = build.map_words // depth
    shape = {"order": str(rng.choice(orders)), "channels": WORD * depth - int(rng.choice([0, 0, rng.integers(WORD)])),
             "tag": int(rng.integers(256)), "repeats": int(rng.choice([1, 1, 2, 3]))}
    kind = int(rng.integers(4))
    if kind == 0 or pixels < 2:
        return shape | {"width": draw_size(rng, pixels, build.rows)}
    height = draw_size(rng, min(pixels, 9), 4)
    width = draw_size(rng, min(pixels // height, 9), 4)
    batch = int(rng.integers(1, pixels // (height * width) + 1)) if rng.integers(2) else 1
    shape |= {"height": height, "width": width, "batch": batch}
    if shape["order"] == "transposed":
        return shape
    if kind == 1:
        return shape | {name: int(rng.integers(low, high)) for name, low, high in (
            ("out_height", 1, 6), ("out_width", 1, 6), ("taps_y", 1, 4), ("taps_x", 1, 4), ("stride", 1, 4), ("step", -3, 4),
            ("start_y", -4, 5), ("start_x", -4, 5))}
    kernel, pad = int(rng.integers(1, 4)), int(rng.integers(3))
    stride, dilation = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    if kind == 2:
        while min(height, width) + 2 * pad < (kernel - 1) * dilation + 1:
            pad += 1
        return shape | vars(forward_window(height, width, kernel, stride, pad, dilation))
    # The map is the output's gradient; the input is the largest that makes it.
    sides = [(size - 1) * stride + (kernel - 1) * dilation + 1 - 2 * pad for size in (height, width)]
    phases = []
    if min(sides) >= 1:
        phases = [phase.window for phase in gradient_phases(*sides, kernel, stride, pad, dilation) if phase.window]
    if not phases:
        return shape
    return shape | vars(phases[int(rng.integers(len(phases)))])
