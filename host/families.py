"""How a linear layer runs on an engine: one entry a kind of weights. Only here and in :mod:`.grouped` are families told apart."""

from collections import Counter
from dataclasses import replace

import numpy as np

from ..models.formats import ternary_stream
from ..models.formats.engines import Image
from ..models.formats.quantize import quantize
from ..models.golden import ternary
from .grouped import GroupedLinear

__all__ = ["FAMILIES", "TernaryLinear", "engine_for", "family_of"]


class TernaryLinear:
    """Ternary weights on ``ternary_engine``. ``n`` x ``k`` is the tile of the matrix that one job takes, ``m`` its tokens."""

    kind = "ternary"
    """Of the weights, as ``models.graph`` says it."""
    engine = "ternary_engine"
    takes = "ternary weights: TQ1_0, TQ2_0 or I2_S in GGUF, packed BitNet in safetensors, 2-bit narrow or bipolar Quant in QONNX"
    """For messages."""
    result = "y"
    """Name of the result that is the product."""

    @staticmethod
    def most(build):
        """``(n, k, m)``: the largest tile a job takes, in whole beats where the build holds one, and the most tokens."""
        return _whole(build.max_n, build.rows), _whole(build.max_k, build.lanes), build.max_m

    @staticmethod
    def refuses(build, layer):
        """Why the engine cannot take a layer of the graph, "" if it can: sums over its tiles must fit int32."""
        most = np.iinfo(np.int32).max // build.act_peak
        return f"sums over more than {most} inputs may not fit int32" if layer.k > most else ""

    @staticmethod
    def form(build, weight, x_group=None):
        """What the jobs of a weight say beside shapes: nothing."""
        return {}

    @classmethod
    def prepare(cls, build, weight, x_group=None):
        """(fields of the layer's plan, vectors, operand of the whole matrix, int8 [n, k]) of a loaded weight."""
        return {"scale": weight.scale}, {}, weight.trits

    @staticmethod
    def vectors(layer):
        """Arrays that a layer keeps beside its weights: ``{name: (dtype, shape)}``."""
        return {}

    @staticmethod
    def job(build, layer, n, k, m):
        return build.job(n=n, k=k, m=m)

    @staticmethod
    def cut(operand, rows, columns):
        """The part of the operand that is a tile's; ``rows`` and ``columns`` are slices."""
        return operand[rows, columns]

    @staticmethod
    def pack(build, job, operand):
        """The operand as the engine's stream has it for one token: uint8 [beats, bytes], packed once and kept."""
        return ternary_stream.pack_weights(build, job, operand)

    @staticmethod
    def stored_shape(build, job):
        """Shape of what :meth:`pack` returns."""
        return build.beats("w", replace(job, m=1)), build.beat_bytes

    @staticmethod
    def unpack(build, job, stored):
        """The inverse of :meth:`pack`; InputError for bytes that no operand packs to."""
        return ternary_stream.unpack_weights(build, replace(job, m=1), stored)

    @staticmethod
    def x_groups(layer):
        """Scales a token that come with the codes: none."""
        return 0

    @staticmethod
    def image(build, job, stored, codes, scale):
        """The bytes at the engine's ports for ``codes`` int8 [m, k]."""
        repeats = build.beats("w", job) // len(stored)
        return Image(streams={"w": np.tile(stored, (repeats, 1)) if repeats > 1 else stored},
                     buffers={"act": ternary_stream.pack_activations(build, job, codes)})

    @staticmethod
    def operands(operand, codes, scale):
        """The operands by the names that the golden model has for them."""
        return {"w": operand, "x": codes}

    @staticmethod
    def product(build, layer, weight, codes, scale):
        """The exact product of a loaded weight, int32 [m, n], from the definition."""
        return ternary.matmul(codes, weight.trits)

    @staticmethod
    def linear(layer, vectors, x, matmul):
        """float32 [m, n]: the layer on float32 ``x`` [m, k], by ``matmul(codes, scale)``."""
        codes, scale = quantize(x)
        return matmul(codes, None) * (np.float32(layer.scale) / scale)


def _whole(most, granule):
    return most // granule * granule or most


FAMILIES = {family.engine: family for family in (TernaryLinear, GroupedLinear)}


def family_of(build):
    """The entry for an engine build; ValueError if its family has none."""
    if build.name not in FAMILIES:
        raise ValueError(f"engine must be one of {', '.join(FAMILIES)}, got {build.name!r}")
    return FAMILIES[build.name]


def engine_for(graph):
    """The name of the engine that takes most of a graph's weights; the first of all if there are none."""
    kinds = Counter(layer.weight.kind for layer in graph.layers if layer.weight is not None)
    return max(FAMILIES.values(), key=lambda family: kinds[family.kind]).engine
