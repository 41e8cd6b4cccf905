"""The simplest memory before a stream: one channel, in order, a beat a cycle after its latency. Twin: ``sim/memory.h``."""

from dataclasses import dataclass

from .errors import check_int

__all__ = ["Memory"]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """A read channel that answers a request for a contiguous segment with its beats.

    A segment requested in cycle c has its first beat in cycle c + ``latency``, or in the cycle after the last beat of the segment
    before it, whichever is later; then a beat a cycle. A beat that is refused stays on offer and those behind it wait.
    """

    latency: int
    beat_bytes: int

    def __post_init__(self):
        check_int("latency", self.latency, 1, 1 << 20)
        check_int("beat_bytes", self.beat_bytes, 1, 1 << 12)

    def beats(self, size):
        """Beats of a segment of ``size`` bytes."""
        return -(-check_int("size", size, 0, 1 << 62) // self.beat_bytes)

    def cycles(self, beats):
        """Cycles from the request of one segment to its last beat, the channel free and nothing refused; 0 for no beats."""
        return self.latency + beats - 1 if check_int("beats", beats, 0, 1 << 62) else 0

    def last_beats(self, requests):
        """The cycle of the last beat of each of several segments, nothing refused.

        ``requests``: (cycle, beats) in ascending order of the cycle, at least one beat each.
        """
        ends, free = [], 0
        for cycle, beats in requests:
            check_int("beats", beats, 1, 1 << 62)
            free = max(cycle + self.latency, free) + beats
            ends.append(free - 1)
        return ends
