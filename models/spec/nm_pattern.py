"""N:M sparsity patterns of training: ``nnz`` weights of each ``group`` are kept."""

__all__ = ["DENSE", "MAX_GROUP", "MAX_NNZ", "PATTERNS", "check_pattern", "groups_of"]

DENSE = 1, 1
PATTERNS = (DENSE, (2, 4), (1, 4), (4, 8), (2, 8), (2, 16))
"""(nnz, group) of every pattern; dense operands are groups of one."""
MAX_NNZ = max(nnz for nnz, _ in PATTERNS)
MAX_GROUP = max(group for _, group in PATTERNS)


def check_pattern(nnz, group):
    """(nnz, group) as plain ints if they are one of :data:`PATTERNS`; TypeError or ValueError otherwise."""
    for name, value in (("nnz", nnz), ("group", group)):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"{name} must be an integer, got {value!r}")
    pattern = nnz.__index__(), group.__index__()
    if pattern not in PATTERNS:
        known = ", ".join(f"{nnz}:{group}" for nnz, group in PATTERNS)
        raise ValueError(f"nnz:group must be one of {known}, got {pattern[0]}:{pattern[1]}")
    return pattern


def groups_of(k, group):
    """Groups that hold ``k`` elements."""
    return -(-k // group)
