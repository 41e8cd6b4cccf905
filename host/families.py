"""How a linear layer runs on an engine: one entry a kind of weights. The only place of the driver that knows families apart."""

import numpy as np

from ..models.formats import ternary_stream
from ..models.formats.engines import Image

__all__ = ["FAMILIES", "TernaryLinear", "family_of"]


class TernaryLinear:
    """Ternary weights on ``ternary_engine``. ``n`` x ``k`` is the tile of the matrix that one job takes, ``m`` its tokens."""

    kind = "ternary"
    """Of the weights, as ``models.graph`` says it."""
    engine = "ternary_engine"
    takes = "ternary weights: TQ1_0, TQ2_0 or I2_S in GGUF, packed BitNet in safetensors"
    """For messages."""
    result = "y"
    """Name of the result that is the product."""

    @staticmethod
    def most(build):
        """``(n, k, m)``: the largest tile a job takes, in whole beats where the build holds one, and the most tokens."""
        return _whole(build.max_n, build.rows), _whole(build.max_k, build.lanes), build.max_m

    @staticmethod
    def most_inputs(build):
        """The largest k of a whole layer: sums over its tiles still fit int32."""
        return np.iinfo(np.int32).max // build.act_peak

    @staticmethod
    def job(build, n, k, m):
        return build.job(n=n, k=k, m=m)

    @staticmethod
    def cut(weight, rows, columns):
        """The operand (int8 [n, k]) that is a tile's part of a loaded ``weight``; ``rows`` and ``columns`` are slices."""
        return weight.trits[rows, columns]

    @staticmethod
    def pack(build, operand):
        """The operand as the engine's stream has it for one token: uint8 [beats, bytes], packed once and kept."""
        n, k = operand.shape
        return ternary_stream.pack_weights(build, build.job(n=n, k=k), operand)

    @staticmethod
    def stored_shape(build, n, k):
        """Shape of what :meth:`pack` returns."""
        return build.beats("w", build.job(n=n, k=k)), build.beat_bytes

    @staticmethod
    def unpack(build, n, k, stored):
        """The inverse of :meth:`pack`; InputError for bytes that no operand packs to."""
        return ternary_stream.unpack_weights(build, build.job(n=n, k=k), stored)

    @staticmethod
    def image(build, job, stored, codes):
        """The bytes at the engine's ports for ``codes`` int8 [m, k]."""
        repeats = build.beats("w", job) // len(stored)
        return Image(streams={"w": np.tile(stored, (repeats, 1)) if repeats > 1 else stored},
                     buffers={"act": ternary_stream.pack_activations(build, job, codes)})

    @staticmethod
    def operands(operand, codes):
        """The operands by the names that the golden model has for them."""
        return {"w": operand, "x": codes}


def _whole(most, granule):
    return most // granule * granule or most


FAMILIES = {family.engine: family for family in (TernaryLinear,)}


def family_of(build):
    """The entry for an engine build; ValueError if its family has none."""
    if build.name not in FAMILIES:
        raise ValueError(f"engine must be one of {', '.join(FAMILIES)}, got {build.name!r}")
    return FAMILIES[build.name]
