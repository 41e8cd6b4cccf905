"""The project's own container for grouped weights, dense and N:M: a safetensors file whose metadata describes the layers.

Metadata: ``format`` "sparseloom-nm"; ``version`` "1"; ``layers``, the JSON object {NAME: {n, k, bits, scale_group, packed}, and
{nnz, group} too if N:M}. A layer's slots are its k columns or, N:M, nnz of each group of columns. Its tensors:

| tensor | |
|---|---|
| ``NAME.codes`` | uint8 ``[n, ...]``: the slots of each row, ``bits`` bits each, as a bit stream padded with 0 |
| ``NAME.indices`` | if N:M: the places of the slots in their group, rising, likewise, ceil(log2(group)) bits each |
| ``NAME.kept`` | if N:M and some group keeps fewer than nnz: uint8 ``[n, k/group]``; slots left over hold code 0 and index 0 |
| ``NAME.scale`` | float32 ``[n, ceil(k/scale_group)]`` |
| ``NAME.zero``, ``NAME.offset`` | of that shape, uint8 and float32, if the weight has one |
| ``NAME.codebook``, ``NAME.order`` | int8 ``[1..16]``, int32 ``[k]``, if the weight has one |

With ``packed`` false every code and every index takes a byte of its own, for writers without a packer. All other tensors are
float parts of the model. What the numbers mean is :class:`~sparseloom.models.graph.GroupedWeight`.
"""

import json
import os
from functools import partial
from pathlib import Path

import numpy as np

from ..formats import nm_rows
from ..formats.bit_stream import pack_bits, stream_bytes, unpack_bits
from ..graph import GroupedWeight, Layer, StoredWeight
from ..graph.grouped import CODEBOOK_ENTRIES
from ..spec.errors import InputError
from .files import check_name, parse_json
from .layers import Found

__all__ = ["FORMAT", "VERSION", "find_nm", "is_nm", "save_nm"]

FORMAT, VERSION = "sparseloom-nm", "1"
BITS, GROUPS = (2, 3, 4, 8), (4, 8, 16)
MAX_DIM = 1 << 31
KEYS = {"n", "k", "bits", "scale_group", "packed"}
SPARSE_KEYS = {"nnz", "group"}
PARTS = ("codes", "indices", "kept", "scale", "zero", "offset", "codebook", "order")


def save_nm(path, weights, floats=None, metadata=None):
    """Write ``weights`` {name: GroupedWeight} and ``floats`` {name: float array} to ``path``, with more ``metadata`` {str: str}.

    The file is complete or not there. ValueError for names that collide and metadata keys that the format uses.
    """
    from safetensors.numpy import save

    tensors, layers = dict(floats or {}), {}
    for name, weight in weights.items():
        check_name(name, path, "layer name")
        layers[name], parts = packed_parts(weight)
        for part, array in parts.items():
            if f"{name}.{part}" in tensors:
                raise ValueError(f"names of tensors must be unique, got {name}.{part} twice")
            tensors[f"{name}.{part}"] = np.ascontiguousarray(array)
    own = {"format": FORMAT, "version": VERSION, "layers": json.dumps(layers)}
    if set(own) & set(metadata or {}):
        raise ValueError(f"metadata must be without the keys {', '.join(own)}, got {', '.join(metadata)}")
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(save(tensors, (metadata or {}) | own))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def packed_parts(weight):
    """``(description, {part: array})`` of a GroupedWeight."""
    entry = {"n": weight.n, "k": weight.k, "bits": weight.bits, "scale_group": weight.scale_group, "packed": True}
    parts = {"scale": weight.scale}
    codes = weight.codes
    if weight.mask is not None:
        entry |= {"nnz": weight.nnz, "group": weight.group}
        codes, indices, kept = nm_rows.split(codes, weight.mask, weight.nnz, weight.group)
        parts["indices"] = pack_bits(indices, nm_rows.index_bits(weight.group))
        if (kept < weight.nnz).any():
            parts["kept"] = kept
    parts["codes"] = pack_bits(codes, weight.bits)
    for name in ("zero", "offset", "codebook", "order"):
        if getattr(weight, name) is not None:
            parts[name] = getattr(weight, name)
    return entry, parts


def is_nm(metadata):
    return metadata.get("format") == FORMAT


def find_nm(places, metadata, at):
    """A :class:`Found` of the layers that ``metadata`` describes; InputError if it is unsound or the tensors have other sizes."""
    if metadata.get("version") != VERSION:
        raise InputError(at, "version", f"be {VERSION!r}", metadata.get("version"))
    layers, used = {}, set()
    for name, entry in parse_json(metadata.get("layers", ""), at, "layers").items():
        where = f"{at}: {check_name(name, at, 'layer name')}"
        entry = check_entry(entry, where)
        parts = {part: places[f"{name}.{part}"] for part in PARTS if f"{name}.{part}" in places}
        check_parts(entry, parts, where)
        form = f"N:M {entry['nnz']}:{entry['group']} {entry['bits']}-bit" if "group" in entry else f"grouped {entry['bits']}-bit"
        nbytes = sum(part.tensor.nbytes for part in parts.values())
        shape = n, k = entry["n"], entry["k"]
        reads = partial(read, entry, parts, form, where)
        weight = StoredWeight(kind="grouped", format=form, n=n, k=k, nbytes=nbytes, read=reads)
        if f"{name}.codes" in used:
            raise InputError(where, "tensors", "belong to one layer", name)
        layers[f"{name}.codes"] = Layer(name=name, op="linear", shape=shape, format=form, nbytes=nbytes, weight=weight)
        used.update(place.tensor.name for place in parts.values())
    return Found(layers=layers, used=used)


def check_entry(entry, where):
    if not isinstance(entry, dict) or set(entry) not in (KEYS, KEYS | SPARSE_KEYS):
        raise InputError(where, "description", f"have the keys {', '.join(sorted(KEYS))} and, if N:M, nnz and group", entry)
    if not isinstance(entry["packed"], bool):
        raise InputError(where, "packed", "be true or false", entry["packed"])
    for key in ("n", "k", "scale_group"):
        integer(entry, key, where, f"be 1..{MAX_DIM}", lambda value: 0 < value <= MAX_DIM)
    integer(entry, "bits", where, "be 2, 3, 4 or 8", lambda value: value in BITS)
    if "group" in entry:
        integer(entry, "group", where, "be 4, 8 or 16", lambda value: value in GROUPS)
        powers = [1 << i for i in range(entry["group"].bit_length())]
        integer(entry, "nnz", where, "be a power of two up to group", lambda value: value in powers)
        if entry["k"] % entry["group"]:
            raise InputError(where, "group", f"divide the {entry['k']} inputs", entry["group"])
    return entry


def integer(entry, key, where, rule, legal):
    value = entry[key]
    if type(value) is not int or not legal(value):
        raise InputError(where, key, rule, value)


def slots_of(entry):
    return entry["k"] // entry["group"] * entry["nnz"] if "group" in entry else entry["k"]


def check_parts(entry, parts, where):
    """InputError unless the tensors of a layer are those that its description demands, in dtype and shape."""
    n, k, sparse = entry["n"], entry["k"], "group" in entry
    for part in ("codes", "scale", *(("indices",) if sparse else ())):
        if part not in parts:
            raise InputError(where, part, "be there", "nothing")
    if not sparse and {"indices", "kept"} & set(parts):
        raise InputError(where, "indices and kept", "be absent without nnz and group", sorted({"indices", "kept"} & set(parts)))
    slots, per_group = slots_of(entry), (n, -(-k // entry["scale_group"]))
    widths = {"codes": entry["bits"], "indices": nm_rows.index_bits(entry["group"]) if sparse else 0}
    for part, place in parts.items():
        if part in widths:
            place.check(("U8",), [(n, stream_bytes(slots, widths[part]) if entry["packed"] else slots)])
        elif part == "kept":
            place.check(("U8",), [(n, k // entry["group"])])
        elif part == "codebook":
            place.check(("I8",), [(size,) for size in range(1, CODEBOOK_ENTRIES + 1)])
        elif part == "order":
            place.check(("I32",), [(k,)])
        else:
            place.check(("U8",) if part == "zero" else ("F32",), [per_group])


def read(entry, parts, form, where):
    bits, mask, shape = entry["bits"], None, {}
    codebook = None if "codebook" not in parts else parts["codebook"].array()
    codes = numbers(entry, parts["codes"], bits, where, "codes")
    nm_rows.refuse_above(codes, 1 << bits, where, "code")
    if codebook is not None:
        nm_rows.refuse_above(codes, len(codebook), where, "index into the codebook")
        codebook = np.pad(codebook, (0, CODEBOOK_ENTRIES - len(codebook)))
    if "group" in entry:
        shape = {name: entry[name] for name in ("nnz", "group")}
        indices = numbers(entry, parts["indices"], nm_rows.index_bits(entry["group"]), where, "indices")
        kept = parts["kept"].array() if "kept" in parts else None
        codes, mask = nm_rows.join(codes, indices, kept, **shape, where=where)
    floats = {name: parts[name].floats() for name in ("scale", "offset") if name in parts}
    others = {name: parts[name].array() for name in ("zero", "order") if name in parts}
    try:
        return GroupedWeight(codes=codes, bits=bits, scale_group=entry["scale_group"], codebook=codebook, mask=mask, format=form,
                             **shape, **floats, **others)
    except ValueError as error:  # parts that do not go together
        raise InputError(where, "layer", "be a legal weight", str(error)) from None


def numbers(entry, place, bits, where, name):
    """The slots of every row, uint8 ``[n, slots]``; InputError if padding is not 0."""
    data, slots = place.array(), slots_of(entry)
    if not entry["packed"]:
        return data
    tail = slots * bits % 8
    if tail and (data[:, -1] >> tail).any():
        raise InputError(where, name, "have padding bits of 0", f"0x{int(data[:, -1].max()):02x} in a row's last byte")
    return unpack_bits(data, bits, slots)
