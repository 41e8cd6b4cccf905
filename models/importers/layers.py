"""Which layer a stored tensor makes when no engine takes it, in the words that `check` prints; what a method's reader finds."""

from dataclasses import dataclass, field

from ..graph import Layer

__all__ = ["FLOAT_REASON", "Found", "other_layer"]

EMBEDDING_NAMES = ("embd", "embed")
FLOAT_FORMATS = ("F64", "F32", "F16", "BF16")
FLOAT_REASON = "float weights: compress first"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a method's reader makes of a file's tensors: ``layers`` by the name of the tensor in whose place they stand, the names
    ``used`` up by them, and ``notes`` for the user."""

    layers: dict[str, Layer] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    notes: tuple[str, ...] = ()


def other_layer(name, shape, form, nbytes, reason=""):
    """The Layer of a tensor without engine weights; ``reason``, if given, says why a matrix of format ``form`` is not taken."""
    if len(shape) <= 1:
        op, why = "vector", "element-wise work stays on the host"
    elif len(shape) > 2:
        op, why = "other", f"a tensor of {len(shape)} dimensions is no matrix product that an engine takes"
    elif any(part in name for part in EMBEDDING_NAMES):
        op, why = "embedding", "rows are looked up on the host"
    else:
        op, why = "linear", reason or (FLOAT_REASON if form in FLOAT_FORMATS else f"no engine takes {form} weights")
    return Layer(name=name, op=op, shape=shape, format=form, nbytes=nbytes, reason=why)
