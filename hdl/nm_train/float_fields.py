"""The parts of IEEE numbers in gates, and what rounds and normalises them."""

from amaranth.hdl import Cat, Const, Mux, Value

from ...models.spec.floats import CANONICAL_NAN

__all__ = ["Fields", "NAN", "leading_zeros", "round_up"]

NAN = Const(CANONICAL_NAN, 32)


class Fields:
    """Sign, exponent, fraction of a number of ``exponent_bits`` and ``fraction_bits``.

    ``scale`` is the exponent that its significand counts by (1 for subnormals), ``significand`` the fraction with its hidden bit.
    """

    def __init__(self, value, exponent_bits, fraction_bits):
        value = Value.cast(value)
        self.sign = value[-1]
        self.exponent = value[fraction_bits : fraction_bits + exponent_bits]
        self.fraction = value[:fraction_bits]
        self.normal = self.exponent.any()
        self.scale = Cat(self.exponent[0] | ~self.normal, self.exponent[1:])
        self.significand = Cat(self.fraction, self.normal)
        self.special = self.exponent.all()
        self.nan = self.special & self.fraction.any()
        self.infinite = self.special & ~self.fraction.any()
        self.zero = ~value[:-1].any()


def leading_zeros(value):
    """Zeros before the first one of ``value``, its length if there is none: a tree of two-way choices."""
    value = Value.cast(value)
    size = 1 << (len(value) - 1).bit_length()
    # Bits behind the last are ones: they end the count there.
    level = [(~bit, Const(0, 0)) for bit in reversed([Const(1)] * (size - len(value)) + list(value))]
    while len(level) > 1:
        level = [(none & other_none, Cat(Mux(none, other, count), none))
                 for (none, count), (other_none, other) in zip(level[::2], level[1::2], strict=True)]
    none, count = level[0]
    return Mux(none, len(value), count)


def round_up(kept_lsb, guard, rest):
    """Whether half to even adds one: ``guard`` the first bit below, ``rest`` whether any other is set."""
    return guard & (rest | kept_lsb)
