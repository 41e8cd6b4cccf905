"""Jobs of the loader as loops and walks: all that its gates need, so that they multiply nothing.

Every word that the loader delivers lies where two walks add up: an *inner* walk over the words of a beat and the beats of a
round, and an *outer* walk from round to round. Both count in three digits; a carry into the next digit chooses what is added to
(y, x, address).

| order | inner | outer |
|---|---|---|
| rows | pixels of a tile of rows: (ox, oy, image) | words of k: (channel word, tap x, tap y) |
| columns | words of a tile of columns: (channel word, tap x, tap y) | pixels (ox, oy, image) |
| transposed | (pixel of 16, tile of less than 16 rows, channel word) | 16 pixels at a time |
"""

from dataclasses import dataclass

from .nm_load_job import WORD

__all__ = ["Plan", "Walk", "plan"]


@dataclass(frozen=True)
class Walk:
    """``limits`` of the lower two digits; ``weights[digit]`` = (y, x, address) of a step of that digit; ``origin`` of word 0."""

    limits: tuple
    weights: tuple
    origin: tuple = (0, 0, 0)

    def digits(self, index):
        """The three digits of word ``index``."""
        rest, low = divmod(index, self.limits[0])
        high, middle = divmod(rest, self.limits[1])
        return low, middle, high

    def place(self, index):
        """(y, x, address) of word ``index``."""
        digits = self.digits(index)
        return tuple(begin + sum(digit * weight[axis] for digit, weight in zip(digits, self.weights, strict=True))
                     for axis, begin in enumerate(self.origin))

    def move(self, stride, carries):
        """(y, x, address) that a step over ``stride`` words adds if the lower two digits carry as ``carries`` says."""
        low, middle, high = self.digits(stride)
        counts = low - carries[0] * self.limits[0], middle + carries[0] - carries[1] * self.limits[1], high + carries[1]
        return tuple(sum(count * weight[axis] for count, weight in zip(counts, self.weights, strict=True)) for axis in range(3))


@dataclass(frozen=True)
class Plan:
    """for ``repeats``: for ``tiles``: for ``passes``: for ``rounds``: for ``slots`` (the last tile: ``last_slots``): read a beat.

    ``count``: words of the inner walk; ``height`` and ``width``: what y and x are checked against."""

    slots: int
    last_slots: int
    rounds: int
    passes: int
    tiles: int
    repeats: int
    count: int
    height: int
    width: int
    inner: Walk
    outer: Walk

    @property
    def beats(self):
        return self.repeats * self.passes * self.rounds * (self.slots * (self.tiles - 1) + self.last_slots)


def plan(build, job):
    """The :class:`Plan` of a legal job."""
    depth, row = job.channel_words, job.width * job.channel_words
    pixels = ((0, job.stride, job.stride * depth), (job.stride, 0, job.stride * row), (0, 0, job.height * row))
    taps = ((0, 0, 1), (0, job.step, job.step * depth), (job.step, 0, job.step * row))
    pixel_walk = Walk((job.out_width, job.out_height), pixels)
    tap_walk = Walk((depth, job.taps_x), taps, (job.start_y, job.start_x, job.start_y * row + job.start_x * depth))
    if job.order == "rows":
        tiles = -(-job.rows // build.rows)
        return Plan(build.tile_slots, build.tile_slots, job.tap_words, 1, tiles, job.repeats, job.rows, job.height, job.width,
                    pixel_walk, tap_walk)
    if job.order == "columns":
        tiles, rest = divmod(job.tap_words, build.slots * build.words)
        last = build.slots_of(rest) if rest else build.slots
        slots = build.slots if tiles else last
        return Plan(slots, last, job.rows, job.repeats, tiles + bool(rest), 1, job.tap_words, job.height, job.width, tap_walk,
                    pixel_walk)
    tiles = -(-job.channels // build.rows)
    nothing, slots = (0, 0, 0), build.turned_slots
    # Tiles of fewer than 16 rows read the same words again.
    block = Walk((WORD, max(1, WORD // build.rows)), ((0, 1, depth), nothing, (1, 0, 1)))
    chunks = Walk((1, 1), (nothing, nothing, (0, WORD, WORD * depth)))
    return Plan(slots, slots, -(-job.pixels // WORD), 1, tiles, job.repeats, tiles * slots * build.words, depth, job.pixels,
                block, chunks)
