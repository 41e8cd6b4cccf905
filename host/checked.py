"""A runtime that believes nothing: every result is compared with the golden model's."""

from dataclasses import dataclass

import numpy as np

from ..models.golden import ternary
from .device import Receipt

__all__ = ["Checked", "Product"]


@dataclass(frozen=True)
class Product:
    """One matrix product of ``m`` tokens: int32 results compared, how many were wrong, and the device's receipt."""

    layer: str
    m: int
    compared: int
    wrong: int
    receipt: Receipt


# Kind of weights -> the exact product with codes, from the definition.
_PRODUCTS = {"ternary": lambda codes, weight: ternary.matmul(codes, weight.trits)}


class Checked:
    """Stands where a :class:`~sparseloom.host.runtime.Runtime` stands, as the hook of a model's matrix products.

    ``weights``: weights of ``models.graph`` by layer, from the model itself and not through the plan. ``products`` lists what
    was compared.
    """

    def __init__(self, runtime, weights):
        self.runtime, self._weights, self.products = runtime, weights, []

    def matmul(self, name, codes):
        """The device's result, right or wrong."""
        result = self.runtime.matmul(name, codes)
        weight = self._weights[name]
        wrong = int(np.count_nonzero(result != _PRODUCTS[weight.kind](codes, weight)))
        self.products.append(Product(name, len(codes), result.size, wrong, self.runtime.calls[-1].receipt))
        return result
