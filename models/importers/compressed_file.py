"""compressed-tensors layers of safetensors files: pack-quantized, int-quantized, 2:4 sparse or not, and 2:4 sparse floats.

Beside ``X.weight_packed`` (or int8 ``X.weight``): ``X.weight_scale``, ``X.weight_shape``, ``X.weight_zero_point``,
``X.weight_g_idx``. 2:4 sparse: ``X.compressed``, ``X.bitmask`` and ``X.shape`` instead of ``X.weight``.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..formats import gptq, sparse_24
from ..formats.compressed_tensors import layout_of, unpack_words
from ..graph import GroupedWeight, Layer, StoredWeight
from ..spec.errors import InputError
from .compressed_config import PACKED, PLAIN, Scheme, read_schemes
from .layers import FLOAT_REASON, Found, other_layer
from .places import FLOATS, Place

__all__ = ["ANCHORS", "SPARSE_ANCHOR", "find_compressed", "sparse_shape"]

PACKED_ANCHOR, PLAIN_ANCHOR, SPARSE_ANCHOR = ".weight_packed", ".weight", ".compressed"
ANCHORS = (PACKED_ANCHOR, SPARSE_ANCHOR)
BESIDE = ("weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx", "shape", "bitmask", "row_offsets", "meta",
          "scale_packed")  # fmt: skip
WORD = 32
AGAIN = "is not read: export again as pack-quantized"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A layer's tensors, their shapes checked against its ``scheme``."""

    where: str
    scheme: Scheme
    n: int
    k: int
    layout: str | None
    weight: Place
    scale: Place
    zero: Place | None
    g_idx: Place | None
    bitmask: Place | None = None

    @property
    def stored(self):
        return [part for part in (self.weight, self.scale, self.zero, self.g_idx, self.bitmask) if part is not None]


def find_compressed(places, config, at):
    """A :class:`Found` of the layers among ``places`` that ``config``, found ``at``, describes.

    InputError for an unsound config or shapes that contradict it; a weight's own values are checked when it is loaded.
    """
    schemes, others = read_schemes(config, at)
    layers, used = {}, set()
    for name, place in places.items():
        stem, anchor = split_name(name, places)
        if anchor is None:
            continue
        beside = {part: places[f"{stem}.{part}"] for part in BESIDE if f"{stem}.{part}" in places}
        layers[name] = layer_of(place, stem, anchor, beside, schemes, others)
        used.update([name, *(part.tensor.name for part in beside.values())])
    return Found(layers=layers, used=used)


def split_name(name, places):
    """``(X, anchor)`` if ``name`` is the main tensor of a layer X, else (None, None)."""
    for anchor in (*ANCHORS, PLAIN_ANCHOR):
        stem = name.removesuffix(anchor)
        if stem == name:
            continue
        if anchor == PLAIN_ANCHOR and (places[name].tensor.dtype != "I8" or f"{stem}.weight_scale" not in places):
            continue
        if anchor == SPARSE_ANCHOR and f"{stem}.bitmask" not in places:
            continue
        return stem, anchor
    return None, None


def layer_of(place, stem, anchor, beside, schemes, others):
    name, nbytes = f"{stem}.weight", place.tensor.nbytes + sum(part.tensor.nbytes for part in beside.values())
    if {"meta", "scale_packed", "row_offsets"} & set(beside):
        form = "sparse-bitmask" if "row_offsets" in beside else "marlin-24"
        return unread(name, place, form, nbytes)
    sparse = anchor == SPARSE_ANCHOR
    if sparse and place.tensor.dtype in FLOATS:
        shape = sparse_shape(place, beside)
        return other_layer(name, shape, f"2:4 {place.tensor.dtype}", nbytes, FLOAT_REASON)
    if not schemes:
        return unread(name, place, ", ".join(sorted(others)) or "a format without config_groups", nbytes)
    form = PACKED if anchor == PACKED_ANCHOR else PLAIN
    parts = parts_of(place, form, beside, [scheme for scheme in schemes if scheme.form == form], sparse)
    scheme = parts.scheme
    form = f"{'2:4 ' if sparse else ''}{scheme.form} {scheme.bits}-bit"
    weight = StoredWeight(kind="grouped", format=form, n=parts.n, k=parts.k, nbytes=nbytes, read=partial(read, parts, form))
    return Layer(name=name, op="linear", shape=(parts.n, parts.k), format=form, nbytes=nbytes, weight=weight)


def unread(name, place, form, nbytes):
    """A matrix in a format that is known and not read; its shape is that of the stored tensor if it is a matrix at all."""
    shape = place.tensor.shape if len(place.tensor.shape) == 2 else (1, place.tensor.nbytes)
    return Layer(name=name, op="linear", shape=shape, format=form, nbytes=nbytes, reason=f"{form} {AGAIN}")


def sparse_shape(place, beside):
    """(n, k) of a 2:4 sparse layer, told by ``shape``; InputError unless the tensors have the sizes that follow."""
    n, k = stored_shape(place, beside.get("shape"), f"{place.where}: shape")
    if k % sparse_24.GROUP:
        raise InputError(place.where, "row length", f"be a multiple of {sparse_24.GROUP}", k)
    place.check((*FLOATS, "I8"), [(n, k // 2)])
    beside["bitmask"].check(("U8",), [(n, -(-k // 8))])
    return n, k


def stored_shape(place, shape, field):
    if shape is None:
        raise InputError(place.path, field, "be there", "nothing")
    sizes = shape.check(("I64", "I32"), [(2,), (2, 1)]).array().reshape(-1).tolist()
    if min(sizes) < 1:
        raise InputError(shape.path, shape.tensor.name, "hold two sizes of at least 1", sizes)
    return tuple(sizes)


def parts_of(place, form, beside, schemes, sparse):
    scale = beside.get("weight_scale")
    if scale is None:
        raise InputError(place.path, f"weight_scale of {place.tensor.name}", "be there", "nothing")
    if form == PACKED:
        n, k = stored_shape(place, beside.get("weight_shape"), f"weight_shape of {place.tensor.name}")
        place.check(("I32",), [(n, None)])
    else:
        place.check(("I8",), [(None, None)])
        n, k = sparse_shape(place, beside) if sparse else place.tensor.shape
    made = []
    for scheme in schemes:
        try:
            made.append(fit(place, scheme, n, k, beside, scale))
        except InputError:
            if len(schemes) == 1:
                raise
    if len(made) != 1:
        rule = f"fit one of the {len(schemes)} {form} groups of the config"
        raise InputError(place.where, "tensors", rule, f"{len(made)} that fit")
    return replace(made[0], bitmask=beside["bitmask"]) if sparse else made[0]


def fit(place, scheme, n, k, beside, scale):
    """The Parts of a layer under ``scheme``; InputError if its tensors contradict it."""
    if k % scheme.group_of(k):
        raise InputError(place.where, "group_size", f"divide the {k} inputs", scheme.group)
    scale.check(FLOATS, scheme.scale_shapes(n, k))
    layout = layout_of(place.tensor.shape[1], scheme.bits, k, place.where) if scheme.form == PACKED else None
    if scheme.form == PACKED and layout is None:
        raise InputError(place.where, "row length", f"tell the layout of {scheme.bits} bits: a multiple of {WORD} does", k)
    zero, g_idx = beside.get("weight_zero_point"), beside.get("weight_g_idx")
    if zero is None and not scheme.symmetric:
        raise InputError(place.where, "weight_zero_point", "be there, since the weights are not symmetric", "nothing")
    if zero is not None and not (scheme.form == PACKED and zero.tensor.dtype == "I32"):
        zero.check(("I8",), scheme.scale_shapes(n, k))
    elif zero is not None:
        zero.check(("I32",), [(None, k // scheme.group_of(k))])
    if g_idx is not None:
        g_idx.check(("I32",), [(k,)])
    return Parts(where=place.where, scheme=scheme, n=n, k=k, layout=layout, weight=place, scale=scale, zero=zero, g_idx=g_idx)


def read(parts, form):
    scheme, n, k = parts.scheme, parts.n, parts.k
    codes, mask = read_codes(parts)
    groups = k // scheme.group_of(k)
    zero = None if parts.zero is None else read_zeros(parts, groups)
    if zero is not None and (zero == 1 << (scheme.bits - 1)).all():
        zero = None
    if zero is not None and (scheme.symmetric or mask is not None):
        rule = "be 0 in weights that are symmetric" if scheme.symmetric else "be 0 where weights are left out"
        raise InputError(parts.where, "weight_zero_point", rule, "other values")
    order = None
    if parts.g_idx is not None and not (parts.g_idx.array() == -1).all():  # all -1: made for an order, never given one
        order = gptq.column_order(parts.g_idx.array(), groups, scheme.group_of(k), parts.where)
    if order is not None and mask is not None:
        raise InputError(parts.where, "weight_g_idx", "be absent in 2:4 sparse weights", "an order of columns")
    if order is not None:
        codes = np.ascontiguousarray(codes[:, order])
    scale = spread(parts.scale.floats(), n, groups)
    nnz, group = (1, 1) if mask is None else (sparse_24.NNZ, sparse_24.GROUP)
    return GroupedWeight(codes=codes, bits=scheme.bits, scale=scale, scale_group=scheme.group_of(k), zero=zero, mask=mask,
                         nnz=nnz, group=group, order=order, format=form)  # fmt: skip


def read_codes(parts):
    """``(codes uint8 [n, k], mask or None)``."""
    bits, weight = parts.scheme.bits, parts.weight.array()
    if parts.scheme.form == PACKED:
        return unpack_words(weight, bits, parts.k, parts.layout, parts.where), None
    mask = None
    if parts.bitmask is not None:
        weight, mask = sparse_24.unpack(weight, parts.bitmask.array(), (parts.n, parts.k), parts.where)
    return unsigned(weight, bits, parts.where, "weight"), mask


def read_zeros(parts, groups):
    """The zero points uint8 ``[n, groups]``, as codes."""
    bits, stored = parts.scheme.bits, parts.zero.array()
    if parts.zero.tensor.dtype == "I8":
        return spread(unsigned(stored, bits, parts.where, "weight_zero_point"), parts.n, groups)
    words = np.ascontiguousarray(stored.T)
    layout = layout_of(words.shape[1], bits, parts.n, parts.zero.where) or parts.layout
    return np.ascontiguousarray(unpack_words(words, bits, parts.n, layout, parts.zero.where).T)


def unsigned(values, bits, where, name):
    """int8 ``values`` of ``bits`` bits as codes; InputError if one is out of range."""
    codes = values.astype(np.int16) + (1 << (bits - 1))
    if codes.min() < 0 or codes.max() >> bits:
        bad = values[(codes < 0) | (codes >> bits != 0)]
        raise InputError(where, name, f"be {-(1 << bits - 1)}..{(1 << bits - 1) - 1} ({bits} bits)", int(bad.flat[0]))
    return codes.astype(np.uint8)


def spread(values, n, groups):
    """One value for the whole tensor, one a row, or one a group, as ``[n, groups]``."""
    values = values.reshape(n, -1) if values.size >= n and values.size % n == 0 else values.reshape(1, 1)
    return np.ascontiguousarray(np.broadcast_to(values, (n, groups)))
