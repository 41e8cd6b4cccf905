"""What others published of vision transformers on FPGAs and a GPU, row by row with its kind and source."""

from .rows import read

__all__ = ["published"]


def published(**wanted):
    """The :class:`~.rows.Published` rows whose fields are as ``wanted``, in the table's order."""
    return read("vit.csv", **wanted)
