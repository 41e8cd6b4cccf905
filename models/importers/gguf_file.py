"""GGUF files as graphs: matrices in Q4_0, Q4_1, Q8_0, TQ1_0, TQ2_0 and, on request, I2_S.

A language model without ``output.weight`` multiplies by its token embedding a second time, as its head: then there is a layer of
that name over the same bytes.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from ..formats import i2_s, q4_0, q4_1, q8_0, tq1_0, tq2_0
from ..formats.q_block import BLOCK
from ..formats.tq_block import one_scale
from ..graph import Graph, GroupedForm, GroupedWeight, StoredWeight, TernaryWeight
from ..spec.errors import InputError
from .gguf_header import I2_S, read_header
from .layers import other_layer

__all__ = ["load_gguf"]

MAX_MODEL_NAME = 128
EMBEDDING, HEAD, HEAD_NORM = "token_embd.weight", "output.weight", "output_norm.weight"
I2_S_HINT = (
    "I2_S is written in one layout on x86 and in another on ARM, and the file does not say which: pass i2_s='x86' if it was "
    "written on x86 (the ARM layout is not supported)"
)


def load_gguf(path, data, i2_s_layout=None):
    """The Graph of the file ``data`` at ``path``; a tensor is read when its weight is loaded. InputError if the file is unsound.

    ``i2_s_layout`` is "x86" to read I2_S tensors, None to list them as unsupported.
    """
    metadata, tensors = read_header(data, path)
    if metadata.get("split.count", 1) != 1:
        raise InputError(path, "split.count", "be 1: join the parts of a split file first", metadata["split.count"])
    readers = dict(READERS)
    if i2_s_layout == "x86":
        readers["I2_S"] = ("ternary", read_i2_s)
    name = metadata.get("general.name")
    return Graph(
        name=name if isinstance(name, str) and 0 < len(name) <= MAX_MODEL_NAME and name.isprintable() else Path(path).stem,
        layers=[layer_of(tensor, data, readers, path) for tensor in with_head(tensors)],
        source=str(path),
        metadata=metadata,
    )


def layer_of(tensor, data, readers, path):
    reason = I2_S_HINT if tensor.type_id == I2_S else ""
    layer = other_layer(tensor.name, tensor.shape, tensor.type_name, tensor.nbytes, reason)
    if layer.op != "linear" or tensor.type_name not in readers:
        return layer
    n, k = tensor.shape
    kind, read = readers[tensor.type_name]
    raw = data[tensor.start : tensor.start + tensor.nbytes]
    read = partial(read, raw, (n, k), f"{path}: {tensor.name}")
    weight = StoredWeight(kind=kind, format=tensor.type_name, n=n, k=k, nbytes=tensor.nbytes, read=read,
                          form=FORMS.get(tensor.type_name))
    return replace(layer, weight=weight, reason="")


def with_head(tensors):
    """The tensors, and the embedding once more as the head if the model has a head's norm and no head of its own."""
    by_name = {tensor.name: tensor for tensor in tensors}
    if EMBEDDING in by_name and HEAD_NORM in by_name and HEAD not in by_name:
        return [*tensors, replace(by_name[EMBEDDING], name=HEAD)]
    return tensors


def read_q4_0(raw, shape, where):
    codes, scale = q4_0.unpack(raw, shape, where)
    return GroupedWeight(codes=codes, bits=q4_0.BITS, scale=scale, scale_group=BLOCK, format="Q4_0")


def read_q4_1(raw, shape, where):
    codes, scale, offset = q4_1.unpack(raw, shape, where)
    return GroupedWeight(codes=codes, bits=q4_1.BITS, scale=scale, offset=offset, scale_group=BLOCK, format="Q4_1")


def read_q8_0(raw, shape, where):
    codes, scale = q8_0.unpack(raw, shape, where)
    return GroupedWeight(codes=codes, bits=q8_0.BITS, scale=scale, scale_group=BLOCK, format="Q8_0")


def read_tq(unpack, raw, shape, where):
    trits, scale = one_scale(*unpack(raw, shape, where), where)
    return TernaryWeight(trits=trits, scale=scale)


def read_i2_s(raw, shape, where):
    trits, scale = i2_s.unpack(raw, shape, where)
    return TernaryWeight(trits=trits, scale=scale)


FORMS = {
    "Q4_0": GroupedForm(bits=q4_0.BITS, scale_group=BLOCK),
    "Q4_1": GroupedForm(bits=q4_1.BITS, scale_group=BLOCK, header="affine"),
    "Q8_0": GroupedForm(bits=q8_0.BITS, scale_group=BLOCK),
}
READERS = {
    "Q4_0": ("grouped", read_q4_0),
    "Q4_1": ("grouped", read_q4_1),
    "Q8_0": ("grouped", read_q8_0),
    "TQ1_0": ("ternary", partial(read_tq, tq1_0.unpack)),
    "TQ2_0": ("ternary", partial(read_tq, tq2_0.unpack)),
}
