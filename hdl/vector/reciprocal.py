"""1 / x."""

from ...models.spec.functions import RECIPROCAL
from .mantissa import Mantissa

__all__ = ["Reciprocal"]


class Reciprocal(Mantissa):
    """1 / x ~ ``o_mantissa`` * 2**-``o_shift``; members, latency and limits of :class:`~.mantissa.Mantissa`."""

    def __init__(self, width):
        super().__init__(width, RECIPROCAL, 0)
