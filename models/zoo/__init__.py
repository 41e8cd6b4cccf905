"""Small trained models that ship, the code that runs them in NumPy, and the recipes that made them."""

from sparseloom.models.zoo.registry import MODELS, load

__all__ = ["MODELS", "load"]
