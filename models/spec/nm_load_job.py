"""Jobs of the loader: what to gather from a map, and in which order."""

from dataclasses import dataclass, replace

from .engine import Job
from .errors import check_choice, check_int
from .nm_load_window import Window
from .nm_train_job import WORD

__all__ = ["MAX_COUNT", "ORDERS", "WORD", "NmLoadJob", "check_job", "window_of"]

ORDERS = ("rows", "transposed", "columns")
MAX_COUNT = (1 << 24) - 1
"""The most rounds, passes, tiles and repeats of a loop."""
_OF_WINDOW = ("out_height", "out_width", "taps_y", "taps_x", "stride", "step", "start_y", "start_x")


@dataclass(frozen=True, kw_only=True)
class NmLoadJob(Job):
    """A map [batch, height, width, channels] as an operand of the array; channels padded to a multiple of 16.

    ``order`` "rows": A = im2col, rows are the window's pixels, k is (tap, channel). "columns": B = im2col, rows (k) are the
    window's pixels, columns (n) are (tap, channel). "transposed": A = the map's transpose, rows are channels, k the pixels; its
    window is the map itself. ``repeats``: how often the array wants it, A once a tile of columns, B once a tile of rows.
    The window is that of :class:`~.nm_load_window.Window`; ``out_height`` and ``out_width`` 0: the map's own.
    """

    order: str = "rows"
    batch: int = 1
    height: int = 1
    width: int = 1
    channels: int = 1
    out_height: int = 0
    out_width: int = 0
    taps_y: int = 1
    taps_x: int = 1
    stride: int = 1
    step: int = 1
    start_y: int = 0
    start_x: int = 0
    repeats: int = 1

    @property
    def channel_words(self):
        return -(-self.channels // WORD)

    @property
    def pixels(self):
        """Of the map."""
        return self.batch * self.height * self.width

    @property
    def rows(self):
        """Pixels of the window."""
        return self.batch * self.out_height * self.out_width

    @property
    def tap_words(self):
        """Words of a row of im2col."""
        return self.taps_y * self.taps_x * self.channel_words


def window_of(job):
    """The :class:`Window` of a checked job."""
    return Window(**{name: getattr(job, name) for name in _OF_WINDOW})


def check_job(build, shape):
    """The legal job of ``shape`` on ``build``; TypeError or ValueError names field, rule and value."""
    job = NmLoadJob.of(shape)
    most = build.map_words
    limits = {"tag": (0, 255), "batch": (1, most), "height": (1, most), "width": (1, most), "channels": (1, most * WORD),
              "repeats": (1, MAX_COUNT)}
    job = replace(job, order=check_choice("order", job.order, ORDERS),
                  **{name: check_int(name, getattr(job, name), *limit) for name, limit in limits.items()})
    for name in ("first", "last"):
        if not isinstance(getattr(job, name), bool):
            raise TypeError(f"{name} must be true or false, got {getattr(job, name)!r}")
    job = replace(job, **{name: check_int(name, getattr(job, name), 0, build.max_coordinate) or getattr(job, size)
                          for name, size in (("out_height", "height"), ("out_width", "width"))})
    job = replace(job, **vars(window_of(job)))
    used = job.pixels * job.channel_words
    if used > most:
        raise ValueError(f"the map must fit into map_words ({most}), got {used} words")
    if job.order == "transposed":
        _check_transposed(build, job)
    _check_reach(build, job)
    for name, count in (("rows of the window", job.rows), ("words of a row", job.tap_words)):
        if count > MAX_COUNT:
            raise ValueError(f"{name} must be at most {MAX_COUNT}, got {count}")
    return job


def _check_transposed(build, job):
    if not build.turns:
        raise ValueError(f"order must be rows or columns where {WORD} rows are no whole tiles ({build.rows}), got 'transposed'")
    plain = Window(out_height=job.height, out_width=job.width)
    for name in _OF_WINDOW:
        if getattr(job, name) != getattr(plain, name):
            raise ValueError(f"{name} must be {getattr(plain, name)} where order is transposed, got {getattr(job, name)}")


def _check_reach(build, job):
    """Every coordinate, and every part of one, fits the gates' adders."""
    most = build.max_coordinate
    axes = ("y", job.out_height, job.taps_y, job.start_y), ("x", job.out_width, job.taps_x, job.start_x)
    for axis, outs, taps, start in axes:
        sides = (outs + build.words) * job.stride, (taps + build.words) * max(1, abs(job.step))
        reach = sum(sides) + abs(start)
        if reach > most:
            raise ValueError(f"the window must reach at most {most} along {axis}, got {reach}")
