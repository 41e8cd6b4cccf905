"""A loop counter whose end is known from a register, a cycle before anybody has to act on it."""

from amaranth.hdl import Signal, Value

__all__ = ["Countdown"]


class Countdown:
    """Counts a loop of ``count`` >= 1 rounds in steps of ``by``: ``last`` is a flip-flop that is high in the last round.

    ``load(count)`` and ``advance()`` return statements for a synchronous domain; ``advance`` in the last round is undone by a
    ``load`` in the same cycle. ``left`` is what is left of ``count``, this round included. *Limits*: ``count`` up to ``most``.
    """

    def __init__(self, most, name, by=1):
        self.by = by
        self.left = Signal(range(most + 1), name=f"{name}_left", reset_less=True)
        self.last = Signal(name=f"{name}_last", reset_less=True)

    def load(self, count):
        """Begin the loop anew."""
        return [self.left.eq(count), self.last.eq(Value.cast(count) <= self.by)]

    def advance(self):
        """Go on to the next round."""
        return [self.left.eq(self.left - self.by), self.last.eq(self.left <= 2 * self.by)]
