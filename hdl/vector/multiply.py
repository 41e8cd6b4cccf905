"""Products with as many registers as a cascade of multipliers wants."""

from amaranth.hdl import Signal, Value

from ...models.spec.vector_cycles import MULTIPLY_LATENCY
from ..common.delay import delay

__all__ = ["multiply", "wide_product"]

_CHUNK = 16


def multiply(m, a, b, name):
    """a * b, ``MULTIPLY_LATENCY`` cycles later: the second register is for the multipliers' cascade to move into."""
    exact = Value.cast(a) * Value.cast(b)
    product = Signal(exact.shape(), name=f"{name}_product", reset_less=True)
    m.d.sync += product.eq(exact)
    return delay(m, product, MULTIPLY_LATENCY - 1, f"{name}_product")


def wide_product(m, a, b, name):
    """a * b, ``product_latency(len(b))`` cycles later: ``b`` in chunks of 16 bits, whose products a tree sums."""
    a, b = Value.cast(a), Value.cast(b)
    parts = []
    for at in range(0, len(b), _CHUNK):
        chunk = b[at : at + _CHUNK]
        chunk = chunk.as_signed() if b.shape().signed and at + _CHUNK >= len(b) else chunk
        parts.append((multiply(m, a, chunk, f"{name}_{at}"), at))
    level = 0
    while len(parts) > 1:
        joined = []
        for index in range(0, len(parts) - 1, 2):
            (low, at), (high, above) = parts[index : index + 2]
            exact = low + (high << above - at)
            total = Signal(exact.shape(), name=f"{name}_sum_{level}_{index}", reset_less=True)
            m.d.sync += total.eq(exact)
            joined.append((total, at))
        if len(parts) % 2:
            last, at = parts[-1]
            joined.append((delay(m, last, 1, f"{name}_wait_{level}"), at))
        parts, level = joined, level + 1
    # The chunks' shapes together are wider than the product.
    width, sign = len(a) + len(b), a.shape().signed or b.shape().signed
    product = parts[0][0][:width]
    return product.as_signed() if sign else product
