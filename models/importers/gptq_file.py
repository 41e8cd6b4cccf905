"""GPTQ and AWQ layers of safetensors files: ``X.qweight``, ``X.qzeros``, ``X.scales`` and, of GPTQ, ``X.g_idx``."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from ..formats import awq, gptq
from ..formats.bit_stream import unpack_bits
from ..graph import GroupedWeight, Layer, StoredWeight
from ..spec.errors import InputError
from .layers import Found
from .places import FLOATS, Place
from .quant_config import CONFIG_KEY, take

__all__ = ["ANCHOR", "find_awq", "find_gptq"]

ANCHOR = ".qweight"
BITS = (2, 3, 4, 8)
WORD = 32
MAX_GROUP = 1 << 31
LABELS = {"gptq": "v1", "gptq_v2": "v2"}


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A layer's tensors, their shapes checked: ``n`` x ``k`` in groups of ``group``; ``where`` names it for messages."""

    where: str
    bits: int
    n: int
    k: int
    group: int
    qweight: Place
    qzeros: Place
    scales: Place
    g_idx: Place | None

    @property
    def parts(self):
        return tuple(part for part in (self.qweight, self.qzeros, self.scales, self.g_idx) if part is not None)


def find_gptq(places, config, at, convention=None):
    """A :class:`Found` of the GPTQ layers among ``places``; ``config`` was found ``at``.

    ``convention`` ("v1" or "v2") decides how zero points are stored; None: the stored constant if the weights are symmetric, and
    else the config's ``checkpoint_format``. Layers that contradict the config get a note. InputError for an unsound config or
    shapes that contradict it; a weight's own values are checked when it is loaded.
    """
    bits, group = read_bits(config, at), read_group(config, at)
    form = take(config, "checkpoint_format", str, f"be one of {', '.join(LABELS)}", at, "gptq")
    if form not in LABELS:
        raise InputError(at, f"{CONFIG_KEY}.checkpoint_format", f"be one of {', '.join(LABELS)}", form)
    symmetric = take(config, "sym", bool, "be true or false", at, None)
    for pattern, change in take(config, "dynamic", dict, "be an object", at, {}).items():
        if not pattern.startswith("-:"):
            rule = "only leave layers out: other bits for some layers are not read"
            raise InputError(at, f"{CONFIG_KEY}.dynamic", rule, {pattern: change})
    layers, used, wrong = {}, set(), 0
    for name in (name for name in places if name.endswith(ANCHOR)):
        packed = gptq_parts(places, name, bits, group)
        label = LABELS[form]
        wrong += convention is None and symmetric is not False and shown_convention(packed) not in (None, label)
        read = partial(read_gptq, packed, label, symmetric, convention)
        layers[name] = layer_of(packed, name, f"GPTQ {bits}-bit", read)
        used.update(part.tensor.name for part in packed.parts)
    notes = ()
    if wrong:
        said, found = ("zero - 1", "zero") if LABELS[form] == "v1" else ("zero", "zero - 1")
        notes = (f"mislabelled zero points: checkpoint_format {form!r} stores {said}, but {wrong} of {len(layers)} layers "
                 f"store {found}; they are read by what they store",)
    return Found(layers=layers, used=used, notes=notes)


def find_awq(places, config, at):
    """A :class:`Found` of the AWQ layers (GEMM layout) among ``places``, as :func:`find_gptq`."""
    bits, group = read_bits(config, at, (awq.BITS,)), read_group(config, at)
    version = take(config, "version", str, "be 'gemm'", at, "gemm")
    if version.lower() != "gemm":
        raise InputError(at, f"{CONFIG_KEY}.version", "be 'gemm', the only AWQ layout that is read", version)
    layers, used = {}, set()
    for name in (name for name in places if name.endswith(ANCHOR)):
        packed = awq_parts(places, name, bits, group)
        layers[name] = layer_of(packed, name, f"AWQ {bits}-bit", partial(read_awq, packed))
        used.update(part.tensor.name for part in packed.parts)
    return Found(layers=layers, used=used)


def read_bits(config, at, allowed=BITS):
    rule = f"be {', '.join(map(str, allowed))}"
    bits = take(config, ("bits", "w_bit"), int, rule, at)
    if bits not in allowed:
        raise InputError(at, f"{CONFIG_KEY}.bits", rule, bits)
    return bits


def read_group(config, at):
    """The group size; -1 for whole rows."""
    rule = "be -1 (whole rows) or a number of columns"
    group = take(config, ("group_size", "q_group_size"), int, rule, at)
    if group != -1 and not 0 < group <= MAX_GROUP:
        raise InputError(at, f"{CONFIG_KEY}.group_size", rule, group)
    return group


def partner(places, name, part):
    """The tensor beside ``X.qweight`` whose last name is ``part``; InputError if it is missing."""
    other = name.removesuffix(ANCHOR) + part
    if other not in places:
        raise InputError(places[name].path, other, f"be there beside {name}", "nothing")
    return places[other]


def gptq_parts(places, name, bits, group):
    scales = partner(places, name, ".scales").check(FLOATS, [(None, None)])
    groups, n = scales.tensor.shape
    qweight = places[name].check(("I32",), [(None, n)])
    words = qweight.tensor.shape[0]
    if words * WORD % bits or n * bits % WORD:
        rule = f"hold whole words of {WORD} bits for {bits} bits a weight"
        raise InputError(qweight.path, name, rule, list(qweight.tensor.shape))
    k = words * WORD // bits
    group = check_groups(qweight, k, group, groups)
    qzeros = partner(places, name, ".qzeros").check(("I32",), [(groups, n * bits // WORD)])
    g_idx = places.get(name.removesuffix(ANCHOR) + ".g_idx")
    if g_idx is not None:
        g_idx.check(("I32",), [(k,)])
    return Packed(where=qweight.where, bits=bits, n=n, k=k, group=group,
                  qweight=qweight, qzeros=qzeros, scales=scales, g_idx=g_idx)  # fmt: skip


def awq_parts(places, name, bits, group):
    scales = partner(places, name, ".scales").check(FLOATS, [(None, None)])
    groups, n = scales.tensor.shape
    if n % awq.LANES:
        rule = f"have a multiple of {awq.LANES} columns"
        raise InputError(scales.path, scales.tensor.name, rule, list(scales.tensor.shape))
    qweight = places[name].check(("I32",), [(None, n // awq.LANES)])
    k = qweight.tensor.shape[0]
    group = check_groups(qweight, k, group, groups)
    qzeros = partner(places, name, ".qzeros").check(("I32",), [(groups, n // awq.LANES)])
    return Packed(where=qweight.where, bits=bits, n=n, k=k, group=group,
                  qweight=qweight, qzeros=qzeros, scales=scales, g_idx=None)  # fmt: skip


def check_groups(qweight, k, group, groups):
    """The columns of a group; InputError unless they divide k and there are ``groups``."""
    size = k if group == -1 else group
    if k % size:
        raise InputError(qweight.where, "group_size", f"divide the {k} inputs", size)
    if k // size != groups:
        raise InputError(qweight.where, "scales", f"have {k // size} rows, one for each {size} of {k} inputs", groups)
    return size


def layer_of(packed, name, form, read):
    nbytes = sum(part.tensor.nbytes for part in packed.parts)
    weight = StoredWeight(kind="grouped", format=form, n=packed.n, k=packed.k, nbytes=nbytes, read=partial(read, form))
    name = name.removesuffix(ANCHOR) + ".weight"
    return Layer(name=name, op="linear", shape=(packed.n, packed.k), format=form, nbytes=nbytes, weight=weight)


def shown_convention(packed):
    """The convention of symmetric weights that the zero points show, None if they show none. Most are told by the first group."""
    words = packed.qzeros.tensor.shape[1]
    row = packed.qzeros.raw[: words * WORD // 8].reshape(1, -1)
    if gptq.constant_convention(unpack_bits(row, packed.bits, packed.n), packed.bits) is None:
        return None
    return gptq.constant_convention(gptq.unpack_zeros(packed.qzeros.array(), packed.bits), packed.bits)


def read_gptq(packed, label, symmetric, convention, form):
    codes = gptq.unpack_codes(packed.qweight.array(), packed.bits)
    stored = gptq.unpack_zeros(packed.qzeros.array(), packed.bits)
    if convention is None:
        convention = gptq.zero_convention(stored, packed.bits, label, symmetric, packed.where)
    order = None
    if packed.g_idx is not None:
        order = gptq.column_order(packed.g_idx.array(), packed.k // packed.group, packed.group, packed.where)
    if order is not None:
        codes = np.ascontiguousarray(codes[:, order])
    return grouped(packed, codes, gptq.zeros_of(stored, convention, packed.where), order, form)


def read_awq(packed, form):
    return grouped(packed, awq.unpack(packed.qweight.array()), awq.unpack(packed.qzeros.array()), None, form)


def grouped(packed, codes, zero, order, form):
    if (zero == 1 << (packed.bits - 1)).all():
        zero = None
    scale = np.ascontiguousarray(packed.scales.floats().T)
    return GroupedWeight(codes=codes, bits=packed.bits, scale=scale, scale_group=packed.group, zero=zero,
                         order=order, format=form)  # fmt: skip
