"""A runtime that believes nothing: every result is compared with the golden model's."""

from dataclasses import dataclass

import numpy as np

from .device import Receipt
from .families import family_of

__all__ = ["Checked", "Product"]


@dataclass(frozen=True)
class Product:
    """One matrix product of ``m`` tokens: int32 results compared, how many were wrong, and the device's receipt."""

    layer: str
    m: int
    compared: int
    wrong: int
    receipt: Receipt


class Checked:
    """Stands where a :class:`~sparseloom.host.runtime.Runtime` stands, as the hook of a model's matrix products.

    ``weights``: weights of ``models.graph`` by layer, from the model itself and not through the plan. ``products`` lists what
    was compared.
    """

    def __init__(self, runtime, weights):
        self.runtime, self._weights, self.products = runtime, weights, []

    def matmul(self, name, codes, scale=None):
        """The device's result, right or wrong."""
        result, plan = self.runtime.matmul(name, codes, scale), self.runtime.plan
        wanted = family_of(plan.build).product(plan.build, plan.layers[name], self._weights[name].load(), codes, scale)
        wrong = int(np.count_nonzero(result != wanted))
        self.products.append(Product(name, len(codes), result.size, wrong, self.runtime.calls[-1].receipt))
        return result

    def linear(self, name, x):
        """A layer on float32 ``x`` [m, k], as the runtime's ``linear``; its product is compared."""
        return self.runtime.linear(name, x, self.matmul)
