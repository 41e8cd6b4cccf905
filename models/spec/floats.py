"""Units for float32 and bfloat16: IEEE 754, half to even, subnormals kept, one NaN; and how many cycles they take."""

__all__ = ["ADD_LATENCY", "CANONICAL_NAN", "INFINITY", "MULTIPLY_LATENCY", "ONE", "PRODUCT_LATENCY", "SIGN"]

CANONICAL_NAN = 0x7FC00000
"""Bits of every NaN that leaves an operation, whatever NaN came in."""
INFINITY = 0x7F800000
ONE = 0x3F800000
SIGN = 0x80000000

ADD_LATENCY = 3
"""Of a float32 sum: from the operands to the registers that the result is a function of, within the same cycle."""
PRODUCT_LATENCY = 2
"""Of a product of two bfloat16, to a register."""
MULTIPLY_LATENCY = 6
"""Of a product of two float32, to a register."""
