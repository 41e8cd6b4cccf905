"""1 / sqrt(x)."""

from ...models.spec.functions import RSQRT
from .mantissa import Mantissa

__all__ = ["Rsqrt"]


class Rsqrt(Mantissa):
    """1 / sqrt(x) ~ ``o_mantissa`` * 2**-``o_shift``; members, latency and limits of :class:`~.mantissa.Mantissa`."""

    def __init__(self, width):
        super().__init__(width, RSQRT, 1)
