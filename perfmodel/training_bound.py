"""The least time of a training step on any machine of so many multiply-accumulates a cycle and so many bytes a second.

Nothing of an engine is known here: a product takes at least its kept multiply-accumulates at the peak rate, and at least the
time of the bytes that it must move if operands and results lie in memory between products: each different element once.
"""

from .training_tables import WEIGHT_GRADIENT

__all__ = ["bound_seconds", "least_bytes", "product_seconds", "speedup_bound", "speedup_limit"]


def least_bytes(product, nnz, group):
    """Bytes of all ``count`` products: operands of bfloat16, kept weights with their place in a group of bits enough for it;
    results of bfloat16, weight gradients float32."""
    nnz, group = product.pattern(nnz, group)
    weight_bits = nnz * (16 + (group - 1).bit_length()) * product.b_new // group
    results = product.m * product.n * (4 if product.phase == WEIGHT_GRADIENT else 2)
    return product.count * (2 * product.a_new + -(-weight_bits // 8) + results)


def product_seconds(product, nnz, group, macs_per_second, bytes_per_second):
    """Least seconds of one row of a table."""
    return max(product.kept(nnz, group) / macs_per_second, least_bytes(product, nnz, group) / bytes_per_second)


def bound_seconds(table, nnz, group, macs_per_second, bytes_per_second):
    """Least seconds of a step: of its products, one after the other."""
    return sum(product_seconds(product, nnz, group, macs_per_second, bytes_per_second) for product in table.products)


def speedup_bound(table, nnz, group, macs_per_second, bytes_per_second):
    """How much faster than dense training a machine could be that is at its bound in both."""
    return bound_seconds(table, 1, 1, macs_per_second, bytes_per_second) / bound_seconds(
        table, nnz, group, macs_per_second, bytes_per_second)


def speedup_limit(nnz, group):
    """The most that any network gains whose forward and input gradient products are all sparse, computation alone."""
    return 3 / (2 * nnz / group + 1)
