"""Model files into graphs."""

from .load import describe, load

__all__ = ["describe", "load"]
