"""When things happen in a lane of the weight update engine, and its closed form.

Cycles count from the register that holds the operands. With A a sum with its register and M a product: decayed gradient, pruned
decay, product with ``fresh``, new momentum or Lion's c, sign and decay, product with lr, new weight.
"""

from .floats import ADD_LATENCY, MULTIPLY_LATENCY

__all__ = ["SUM", "Times", "cycles", "queue_depth"]

SUM = ADD_LATENCY + 1
"""A sum, registered."""
_START = 3
"""A job accepted in cycle 0 has its first operands taken in this cycle."""
_END = 5
"""Cycles from a new weight to ``done``: beat, queue, two for the count of weights that are not finite, completion."""


class Times:
    """Cycles of a ``build``'s lane: ``gradient`` decayed, ``fresh`` its product, ``mixed`` new momentum or c, ``step`` before lr,
    ``weight`` the new one."""

    def __init__(self, build):
        self.gradient = MULTIPLY_LATENCY + SUM + (SUM if build.pruned else 0)
        self.fresh = self.gradient + (MULTIPLY_LATENCY if build.lion else 0)
        self.mixed = self.fresh + SUM
        self.step = self.mixed + (SUM if build.lion else 0)
        self.weight = self.step + MULTIPLY_LATENCY + SUM


def queue_depth(build):
    """Places for results: all that are under way at full rate."""
    return 1 << (Times(build).weight + 8).bit_length()


def cycles(build, job):
    """From the job's acceptance by the idle engine to that of ``done``."""
    return _START + build.beats("y", job) + Times(build).weight + _END
