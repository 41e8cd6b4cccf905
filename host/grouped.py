"""Weights of a few bits in groups on the sparse chain engine."""

import numpy as np

from ..models.formats import sparse_stream
from ..models.formats.engines import Image
from ..models.formats.mantissas import align
from ..models.formats.quantize import quantize_groups
from ..models.golden import sparse_chain
from ..models.spec.errors import InputError
from ..models.spec.sparse_check import MAX_SCALE_GROUP
from ..models.spec.sparse_job import CODE_PEAK, MANTISSA_BITS, POSITIONS, SEGMENT

__all__ = ["X_GROUP", "GroupedLinear"]

X_GROUP = 32
"""Columns that share an activation scale, unless the caller or the sparsity asks for more."""
RESULT_BITS = 31
_ZERO_BITS = 4


class GroupedLinear:
    """Grouped weights on ``sparse_chain``: scales become integers of 16 bits that share an exponent a row or token.

    A layer's ``form`` is what its jobs say beside shapes; its vectors are ``exponent`` (int32 [n]) and ``order`` (int32 [k]):
    y[m, n] * 2**(exponent[n] + the token's + shift) is the product of the quantised activations and weights, x[:, order] first.
    """

    kind = "grouped"
    """Of the weights, as ``models.graph`` says it."""
    engine = "sparse_chain"
    takes = ("weights of 2, 3, 4 or 8 bits in scaled groups: Q4_0, Q4_1, Q8_0 in GGUF; GPTQ, AWQ, compressed-tensors, N:M in "
             "safetensors; QDQ, MatMulInteger, Quant in ONNX")
    """For messages."""
    result = "y"
    """Name of the result that is the product."""

    @staticmethod
    def most(build):
        """``(n, k, m)``: the largest tile a job takes, and the most tokens. k is never divided: a sum is rounded once."""
        return build.max_n // build.chains * build.chains or build.max_n, build.max_k, build.max_m

    @staticmethod
    def refuses(build, layer):
        """Why the engine cannot take a layer of the graph, "" if it can."""
        return f"rows of more than {build.max_k} inputs do not fit this build" if layer.k > build.max_k else ""

    @staticmethod
    def form(build, weight, x_group=None):
        """Fields of the jobs of a weight that is loaded or still in its file; the shift is 0 until :meth:`prepare` knows it."""
        form = weight.form or weight.load().form
        ratio = form.group // form.nnz
        least = max(SEGMENT, POSITIONS * ratio)
        group = 0 if form.scale_group >= weight.k else _power(form.scale_group, weight)
        for rule, holds, value in (
            (f"have at most {build.max_bits} bits", form.bits <= build.max_bits, form.bits),
            (f"keep at least 1 of {build.max_ratio}", ratio <= build.max_ratio, f"{form.nnz}:{form.group}"),
            (f"have scales for at least {least} columns", not group or group >= least, form.scale_group),
            ("have a build with codebook", build.codebook or not form.codebook, build.codebook),
        ):
            if not holds:
                raise InputError(weight.format, "weights", rule, value)
        x_group = X_GROUP if x_group is None else x_group
        return {"bits": form.bits, "nnz": form.nnz, "group": form.group, "scale_group": group, "header": form.header,
                "codebook": form.codebook, "x_group": max(x_group, least) if x_group else 0, "shift": 0}

    @classmethod
    def prepare(cls, build, weight, x_group=None):
        """(fields of the layer's plan, vectors, operand of the whole matrix) of a loaded weight."""
        form = cls.form(build, weight, x_group)
        weight = _representable(weight)
        form["header"] = weight.form.header
        repeat = -(-weight.k // form["scale_group"]) if form["scale_group"] else 1
        columns = np.arange(repeat) * (form["scale_group"] or weight.k) // weight.scale_group
        scale = weight.scale[:, columns].astype(np.float64)
        parts = [scale]
        if weight.offset is not None:
            # Codes are centred, so that the offset is small and shares the scale's exponent at little cost.
            parts.append(weight.offset[:, columns].astype(np.float64) + scale * (1 << (weight.bits - 1)))
        mantissas = align(np.concatenate(parts, axis=1), MANTISSA_BITS)
        mask = np.ones(weight.codes.shape, bool) if weight.mask is None else weight.mask
        operand = {"codes": weight.codes, "mask": mask, "scale": mantissas.values[:, :repeat]}
        if weight.offset is not None:
            operand["offset"] = mantissas.values[:, repeat:]
        if weight.zero is not None:
            operand["zero"] = weight.zero[:, columns]
        if weight.codebook is not None:
            operand["codebook"] = weight.codebook
        form["shift"] = cls._shift(build, form, operand)
        order = np.arange(weight.k, dtype=np.int32) if weight.order is None else weight.order
        return {"form": form}, {"exponent": mantissas.exponent, "order": order}, operand

    @staticmethod
    def _shift(build, form, operand):
        """The least shift with which no activations whatever make a result of more than 32 bits."""
        k = operand["codes"].shape[1]
        integers = np.abs(sparse_chain.integers(build.job(n=1, k=k, **form), operand).astype(np.int64))
        starts = np.arange(0, k, form["scale_group"] or k)
        sums = np.add.reduceat(integers, starts, axis=1) * np.abs(operand["scale"].astype(np.int64))
        if "offset" in operand:
            sums += np.diff([*starts, k]) * np.abs(operand["offset"].astype(np.int64))
        peak = int(sums.sum(axis=1).max()) * CODE_PEAK * ((1 << MANTISSA_BITS) - 1)
        return max(0, peak.bit_length() - RESULT_BITS)

    @staticmethod
    def vectors(layer):
        """Arrays that a layer keeps beside its weights: ``{name: (dtype, shape)}``."""
        return {"exponent": (np.dtype(np.int32), (layer.n,)), "order": (np.dtype(np.int32), (layer.k,))}

    @staticmethod
    def job(build, layer, n, k, m):
        return build.job(n=n, k=k, m=m, **layer.form)

    @staticmethod
    def cut(operand, rows, columns):
        """The part of the operand that is a tile's: its rows, all columns."""
        return {name: part if name == "codebook" else part[rows] for name, part in operand.items()}

    @staticmethod
    def pack(build, job, operand):
        """The operand as the engine's stream has it: uint8 [beats, bytes], packed once and kept."""
        return sparse_stream.pack_weights(build, job, operand)

    @staticmethod
    def stored_shape(build, job):
        """Shape of what :meth:`pack` returns."""
        return build.beats("w", job), build.beat_bytes

    @staticmethod
    def unpack(build, job, stored):
        """The inverse of :meth:`pack`; ValueError for bytes that no operand packs to."""
        return sparse_stream.unpack_weights(build, job, stored)

    @staticmethod
    def x_groups(layer):
        """Scales a token that come with the codes."""
        return -(-layer.k // layer.form["x_group"]) if layer.form["x_group"] else 1

    @staticmethod
    def image(build, job, stored, codes, scale):
        """The bytes at the engine's ports for ``codes`` int8 [m, k] and ``scale`` of 16 bits [m, x_groups]."""
        return Image(streams={"w": stored}, buffers={"act": sparse_stream.pack_activations(build, job, codes, scale)})

    @staticmethod
    def operands(operand, codes, scale):
        """The operands by the names that the golden model has for them."""
        return operand | {"x": codes, "x_scale": scale}

    @classmethod
    def product(cls, build, layer, weight, codes, scale):
        """The exact product of a loaded weight, int32 [m, n], from the definition."""
        _, _, operand = cls.prepare(build, weight, layer.form["x_group"])
        job = build.job(n=1, k=layer.k, **layer.form)  # of the whole matrix, however many jobs and tokens it takes
        total = sparse_chain.matmul(job, cls.operands(operand, codes, scale))
        return sparse_chain.round_shift(total, job.shift)[0]

    @staticmethod
    def linear(layer, vectors, x, matmul):
        """float32 [m, n]: the layer on float32 ``x`` [m, k], by ``matmul(codes, scale)``."""
        codes, scales = quantize_groups(x[:, vectors["order"]], layer.form["x_group"] or None)
        mantissas = align(scales, MANTISSA_BITS, signed=False)
        exponent = mantissas.exponent[:, None] + vectors["exponent"] + layer.form["shift"]
        return np.ldexp(matmul(codes, mantissas.values).astype(np.float64), exponent).astype(np.float32)


def _power(scale_group, weight):
    """The largest legal group size that divides ``scale_group``; InputError if there is none."""
    power = min(scale_group & -scale_group, MAX_SCALE_GROUP)
    if power < SEGMENT:
        raise InputError(weight.format, "scale_group", f"be a multiple of {SEGMENT}", scale_group)
    return power


def _representable(weight):
    """The same matrix in a form that has a header: codes of zero of 8 bits become an offset, or vanish if all are the centre."""
    if weight.zero is None or weight.bits <= _ZERO_BITS:
        return weight
    centre = 1 << (weight.bits - 1)
    if (weight.zero == centre).all():
        return weight.replaced(zero=None)
    if weight.mask is not None:
        raise InputError(weight.format, "zero", f"be {centre} in N:M weights of {weight.bits} bits", int(weight.zero[0, 0]))
    return weight.replaced(zero=None, offset=-weight.zero.astype(np.float32) * weight.scale)
