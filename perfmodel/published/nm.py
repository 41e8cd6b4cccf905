"""What others published of N:M sparse training on FPGAs, row by row with its kind and source."""

from .rows import read

__all__ = ["published"]


def published(**wanted):
    """The :class:`~.rows.Published` rows whose fields are as ``wanted``, in the table's order."""
    return read("nm.csv", **wanted)
