"""Which layer a stored tensor makes when no engine takes it: the words that `check` prints."""

from ..graph import Layer

__all__ = ["other_layer"]

EMBEDDING_NAMES = ("embd", "embed")


def other_layer(name, shape, form, nbytes, reason=""):
    """The Layer of a tensor without engine weights; ``reason``, if given, says why a matrix of format ``form`` is not taken."""
    if len(shape) <= 1:
        op, why = "vector", "element-wise work stays on the host"
    elif len(shape) > 2:
        op, why = "other", f"a tensor of {len(shape)} dimensions is no matrix product that an engine takes"
    elif any(part in name for part in EMBEDDING_NAMES):
        op, why = "embedding", "rows are looked up on the host"
    else:
        op, why = "linear", reason or f"no engine takes {form} weights"
    return Layer(name=name, op=op, shape=shape, format=form, nbytes=nbytes, reason=why)
