"""What patterns of ONNX operators are made of, and the steps by which they are found."""

from dataclasses import dataclass, field

__all__ = [
    "ATTENTION", "HOST", "MAX_STEPS", "VECTOR", "Pattern", "base", "close", "is_same", "number", "only_axis", "other", "source",
    "uses",
]

VECTOR, ATTENTION, HOST = "vector engine", "attention engine", "host"
MAX_STEPS = 8
CLOSE = 1e-3
FLOAT_TYPES = (1, 10, 11, 16)  # ONNX's numbers of float32, float16, float64, bfloat16


@dataclass(frozen=True, eq=False)
class Pattern:
    """``op`` of ``nodes``, from the values ``inputs`` to ``output``; ``detail`` in words, of what the engine does not do.

    ``said``: of a norm ``axis``, ``epsilon`` and the names of the constants ``gain`` and ``bias``, "" for none; of attention
    ``axis`` of the softmax, ``scale``, the factor between product and softmax, and ``causal``, the shape of a constant mask that
    hides later keys, None without one.
    """

    op: str
    runs_on: str
    nodes: tuple
    inputs: tuple[str, ...]
    output: str
    detail: str = ""
    said: dict = field(default_factory=dict)


def is_same(node):
    """Whether the operator leaves its values what they are: between float types they may lose digits."""
    to_float = node.op == "Cast" and node.attributes.get("to") in FLOAT_TYPES
    return not node.domain and (node.op in ("Identity", "Dropout") or to_float)


def source(nodes, name, chain):
    """The node that computes ``name``, behind operators that change no value; those are added to ``chain``."""
    for _ in range(MAX_STEPS):
        node = nodes.producers.get(name)
        if node is None or not is_same(node):
            return node
        chain.append(node)
        name = node.input(0)
    return None


def base(nodes, name):
    """The value that ``name`` is, behind operators that change no value."""
    for _ in range(MAX_STEPS):
        node = nodes.producers.get(name)
        if node is None or not is_same(node):
            break
        name = node.input(0)
    return name


def number(nodes, name):
    """The constant number ``name``, None if it is none."""
    array = nodes.constants.get(base(nodes, name))
    if array is None or array.size != 1 or array.dtype.kind not in "fiu":
        return None
    return float(array.reshape(-1)[0])


def close(value, want):
    return value is not None and abs(value - want) <= CLOSE * abs(want)


def uses(nodes, name, *ops):
    """The nodes of ``ops`` that read ``name``."""
    return [use for use in nodes.consumers.get(name, ()) if use.op in ops and not use.domain]


def other(node, name):
    """The other input of an operator of two."""
    return node.input(1) if node.input(0) == name else node.input(0)


def only_axis(nodes, node):
    """The one axis of a reduction that keeps its dimensions, by attribute or constant; None for another one."""
    axes = nodes.constants.get(node.input(1)) if node.input(1) else node.attributes.get("axes")
    axes = axes.reshape(-1).tolist() if hasattr(axes, "reshape") else axes
    if node.attributes.get("keepdims", 1) != 1 or not isinstance(axes, list | tuple) or len(axes) != 1:
        return None
    return axes[0] if isinstance(axes[0], int) else None
