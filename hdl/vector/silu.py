"""SiLU."""

from ...models.spec.functions import SILU
from .rectified import Rectified

__all__ = ["Silu"]


class Silu(Rectified):
    """x * sigmoid(x); members and latency of :class:`~.rectified.Rectified`."""

    def __init__(self):
        super().__init__(SILU)
