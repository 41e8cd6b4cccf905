"""A compressed model back in memory: the matrices of an N:M container in place of the float model's."""

from sparseloom.models.importers.load import load
from sparseloom.models.spec.errors import InputError

__all__ = ["apply"]


def apply(model, path):
    """``(LlamaLM, {name: GroupedWeight})``: ``model`` with the dequantised matrices of the container at ``path``.

    InputError for an unsound container, and for a matrix that the model does not have in that shape.
    """
    stored = {layer.name: layer.weight.load() for layer in load(path).layers if layer.weight is not None}
    for name, weight in stored.items():
        shape = model.weights[name].shape if name in model.products else None
        if shape != (weight.n, weight.k):
            raise InputError(path, name, f"be a matrix of the model, of shape {shape}", (weight.n, weight.k))
    return model.replaced({name: weight.dequantise() for name, weight in stored.items()}), stored
