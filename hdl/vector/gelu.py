"""GELU in its erf form."""

from ...models.spec.functions import GELU
from .rectified import Rectified

__all__ = ["Gelu"]


class Gelu(Rectified):
    """x * Phi(x); members and latency of :class:`~.rectified.Rectified`."""

    def __init__(self):
        super().__init__(GELU)
