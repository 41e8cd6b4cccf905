"""Sums with deferred signs: a node adds or subtracts and passes its own sign on instead of applying it."""

from amaranth.hdl import Cat, Const, Signal, Value, signed

__all__ = ["Node", "add_sub", "adder_tree", "signed_width"]


def signed_width(low, high):
    """Bits of the two's complement number that holds ``low``..``high``."""
    return max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + 1


def add_sub(a, b, subtract):
    """``a - b`` where ``subtract``, else ``a + b``: one carry chain, one LUT a bit.

    Written as one subtraction whose lowest place makes the borrow: its operands cannot change places, so synthesis feeds ``a``
    to the carry chain directly and folds the inversion of ``b`` into the sum's LUT. (Addition lets it choose the other one, at
    twice the LUTs.)
    """
    a, b, add = Value.cast(a), Value.cast(b), ~Cat(subtract)
    inverted = b.as_unsigned() ^ add.replicate(len(b))
    return (Cat(Const(0, 1), a).as_signed() - Cat(add, inverted).as_signed())[1:].as_signed()


class Node:
    """A number (-1)**sign * value with ``low`` <= value <= ``high``; ``value`` a signed Value, ``sign`` one bit."""

    def __init__(self, value, sign, low, high):
        self.value, self.sign, self.low, self.high = value, sign, low, high

    def join(self, m, other, name, relative=None):
        """The registered sum of two nodes: value = this value +- the other's, sign = this sign. ``relative`` is the XOR of both
        signs if the caller has it for less."""
        low, high = self.low + min(other.low, -other.high), self.high + max(other.high, -other.low)
        value = Signal(signed(signed_width(low, high)), name=name, reset_less=True)
        relative = self.sign ^ other.sign if relative is None else relative
        m.d.sync += value.eq(add_sub(self.value, other.value, relative))
        return Node(value, self._later(m, self.sign, name), low, high)

    def wait(self, m, name):
        """This node one cycle later."""
        value = Signal(Value.cast(self.value).shape(), name=name, reset_less=True)
        m.d.sync += value.eq(self.value)
        return Node(value, self._later(m, self.sign, name), self.low, self.high)

    @staticmethod
    def _later(m, sign, name):
        if isinstance(sign, Const):
            return sign
        later = Signal(name=f"{name}_sign", reset_less=True)
        m.d.sync += later.eq(sign)
        return later


def adder_tree(m, nodes, name):
    """(sum of ``nodes`` as one Node, levels): a register after every level, ceil(log2) levels; one node needs none."""
    levels = 0
    while len(nodes) > 1:
        pairs = [nodes[at : at + 2] for at in range(0, len(nodes) - 1, 2)]
        joined = [a.join(m, b, f"{name}_{levels}_{at}") for at, (a, b) in enumerate(pairs)]
        if len(nodes) % 2:
            joined.append(nodes[-1].wait(m, f"{name}_{levels}_odd"))
        nodes, levels = joined, levels + 1
    return nodes[0], levels
