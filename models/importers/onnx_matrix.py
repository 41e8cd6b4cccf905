"""Constant matrices of an ONNX graph, followed back through the operators that quantise, scale and transpose them."""

from dataclasses import dataclass, replace

import numpy as np

from ..formats.qonnx import Quantiser

__all__ = ["Matrix", "aligned", "find_matrix", "numeric", "spread"]

MAX_STEPS = 32  # operators between a stored tensor and its use
QONNX_DOMAINS = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas")
FLOAT_TYPES = (1, 10, 11, 16)  # ONNX's numbers of float32, float16, float64, bfloat16
FLOAT, CODES, QUANT, BIPOLAR = "float", "codes", "quant", "bipolar"


@dataclass(frozen=True, kw_only=True, eq=False)
class Matrix:
    """``values`` [rows, columns] as stored under the name ``source``, and what is done with them.

    ``kind``: "float" as they are; "codes": (values - zero) * scale; "quant": floats that ``quantiser`` makes codes of;
    "bipolar": +1 or -1 by their sign, times scale. ``scale`` and ``zero`` are 2-D, each size 1 or that of ``values``, or its
    number of blocks of ``block[axis]``. ``constants``: the names of all that went in.
    """

    kind: str
    source: str
    values: np.ndarray
    form: str
    constants: tuple[str, ...]
    scale: np.ndarray | None = None
    zero: np.ndarray | None = None
    block: tuple[int, int] = (0, 0)
    quantiser: Quantiser | None = None

    @property
    def T(self):  # noqa: N802 -- as NumPy has it
        turned = [None if part is None else part.T for part in (self.scale, self.zero)]
        return replace(self, values=self.values.T, scale=turned[0], zero=turned[1], block=self.block[::-1])


def find_matrix(nodes, name, steps=0):
    """The :class:`Matrix` that the value ``name`` of ``nodes`` is, None if it is none or made in ways that are not known."""
    constants = nodes.constants
    if name in constants:
        array = constants[name]
        if array.ndim != 2 or not array.size or array.dtype.kind not in "fiu":
            return None
        kind = FLOAT if array.dtype.kind == "f" else CODES
        form = f"{array.dtype.kind.upper()}{8 * array.dtype.itemsize}" if kind == FLOAT else array.dtype.name
        return Matrix(kind=kind, source=name, values=array, form=form, constants=(name,))
    node = nodes.producers.get(name)
    if node is None or steps >= MAX_STEPS or node.outputs[0] != name:
        return None
    known = STEPS.get(node.op) if node.domain in ("", *QONNX_DOMAINS) else None
    return known(nodes, node, steps + 1) if known else None


def numeric(nodes, name):
    """The constant of that name, None if it is none or holds texts."""
    array = nodes.constants.get(name)
    return array if array is not None and array.dtype.kind in "fiub" else None


def same(nodes, node, steps):
    return find_matrix(nodes, node.input(0), steps)


def cast(nodes, node, steps):
    """Codes turned into floats: what is multiplied later is their scale."""
    found = find_matrix(nodes, node.input(0), steps) if node.attributes.get("to") in FLOAT_TYPES else None
    if found is None or found.kind != CODES or found.scale is not None:
        return found
    return replace(found, scale=np.ones((1, 1), np.float32), form=f"{found.form}, cast")


def transpose(nodes, node, steps):
    found = find_matrix(nodes, node.input(0), steps)
    if found is None or tuple(node.attributes.get("perm", (1, 0))) not in ((1, 0), (0, 1)):
        return None
    return found if node.attributes.get("perm") == (0, 1) else found.T


def multiply(nodes, node, steps):
    """Cast codes times their scale."""
    for matrix, factor in ((0, 1), (1, 0)):
        scale = numeric(nodes, node.input(factor))
        found = find_matrix(nodes, node.input(matrix), steps) if scale is not None and scale.dtype.kind == "f" else None
        if found is not None and found.kind == CODES and found.scale is not None and found.scale.size == 1:
            scale = aligned(scale, found.values.shape)
            if scale is None:
                return None
            constants = (*found.constants, node.input(factor))
            return replace(found, scale=scale * found.scale, form=found.form.replace(", cast", ", scaled"), constants=constants)
    return None


def subtract(nodes, node, steps):
    """Cast codes less their zero point."""
    zero = numeric(nodes, node.input(1))
    found = find_matrix(nodes, node.input(0), steps) if zero is not None else None
    if found is None or found.kind != CODES or found.zero is not None or not ones(found.scale):
        return None
    zero = aligned(zero, found.values.shape)
    return None if zero is None else replace(found, zero=zero, constants=(*found.constants, node.input(1)))


def ones(scale):
    return scale is not None and scale.size == 1 and scale.item() == 1


def dequantise(nodes, node, steps):
    found = find_matrix(nodes, node.input(0), steps)
    parts = [numeric(nodes, node.input(at)) for at in (1, 2)]
    if found is None or found.kind != CODES or found.scale is not None or parts[0] is None or node.input(2) and parts[1] is None:
        return None
    axis, block = node.attributes.get("axis", 1), node.attributes.get("block_size", 0)
    if not isinstance(axis, int) or not -2 <= axis <= 1 or not isinstance(block, int) or block < 0:
        return None
    axis %= 2
    made = [None if part is None else along(part, found.values.shape, axis, block) for part in parts]
    if made[0] is None or parts[1] is not None and made[1] is None:
        return None
    names = [node.input(at) for at in (1, 2) if node.input(at)]
    return replace(found, scale=made[0], zero=made[1], block=(block, 0)[::-1] if axis and block else (block, 0),
                   form=f"{found.form} QDQ", constants=(*found.constants, *names))


def along(part, shape, axis, block):
    """A scale or zero point as a 2-D array: one number, one for each index of ``axis``, or one for each block along it."""
    if part.size == 1:
        return part.reshape(1, 1)
    if block and part.ndim == 2:
        want = tuple(-(-size // block) if at == axis else size for at, size in enumerate(shape))
        return part if part.shape == want else None
    if part.ndim != 1 or len(part) != shape[axis]:
        return None
    return part.reshape(1, -1) if axis else part.reshape(-1, 1)


def quantise(nodes, node, steps):
    """QONNX Quant, or IntQuant, of a constant float matrix."""
    found, parts = find_matrix(nodes, node.input(0), steps), [numeric(nodes, node.input(at)) for at in (1, 2, 3)]
    if node.domain not in QONNX_DOMAINS or found is None or found.kind != FLOAT or any(part is None for part in parts):
        return None
    scale, zero = (aligned(part, found.values.shape) for part in parts[:2])
    said = {"signed": 1, "narrow": 0} | dict(node.attributes)
    if scale is None or zero is None or parts[2].size != 1 or said["signed"] not in (0, 1) or said["narrow"] not in (0, 1):
        return None
    try:
        quantiser = Quantiser(bits=float(parts[2].item()), signed=bool(said["signed"]), narrow=bool(said["narrow"]),
                              rounding=str(said.get("rounding_mode", "ROUND")).upper())
    except (ValueError, OverflowError):
        return None
    form = f"QONNX {'' if quantiser.signed else 'u'}int{quantiser.bits:g}{' narrow' if quantiser.narrow else ''}"
    return replace(found, kind=QUANT, scale=scale, zero=zero, quantiser=quantiser, form=form,
                   constants=(*found.constants, *(node.input(at) for at in (1, 2, 3))))


def bipolar(nodes, node, steps):
    found, scale = find_matrix(nodes, node.input(0), steps), numeric(nodes, node.input(1))
    if node.domain not in QONNX_DOMAINS or found is None or found.kind != FLOAT or scale is None:
        return None
    scale = aligned(scale, found.values.shape)
    if scale is None:
        return None
    return replace(found, kind=BIPOLAR, scale=scale, form="QONNX bipolar", constants=(*found.constants, node.input(1)))


def aligned(array, shape):
    """``array`` as a 2-D one that NumPy would spread over ``shape``; None if it would not."""
    if array.size == 1:
        return array.reshape(1, 1)
    array = array.reshape((1,) * (2 - array.ndim) + array.shape) if array.ndim < 3 else array
    fits = array.ndim == 2 and all(have in (1, want) for have, want in zip(array.shape, shape, strict=True))
    return array if fits else None


def spread(matrix, part):
    """A scale or zero point of ``matrix`` [n, k] as ``(array [n, groups], columns of a group)``; None for one of each column."""
    n, k = matrix.values.shape
    rows, columns = matrix.block
    if rows > 1:
        part = np.repeat(part, rows, axis=0)[:n] if part.shape[0] > 1 else part
    if part.shape[1] == 1:
        return np.broadcast_to(part, (n, 1)), k
    if columns > 1 and part.shape[1] == -(-k // columns):
        return np.broadcast_to(part, (n, part.shape[1])), columns
    return (np.broadcast_to(part, (n, 1)), k) if k == 1 else None


STEPS = {"Identity": same, "Cast": cast, "Transpose": transpose, "Mul": multiply, "Sub": subtract, "DequantizeLinear": dequantise,
         "Quant": quantise, "IntQuant": quantise, "BipolarQuant": bipolar}
