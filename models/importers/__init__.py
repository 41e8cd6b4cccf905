"""Model files into graphs."""

from .load import load

__all__ = ["load"]
