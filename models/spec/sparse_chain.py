"""The sparse chain engine: int8 activations times weights of 1..8 bits in scaled groups, dense, N:M or block-sparse."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from . import sparse_cycles, sparse_draw
from .engine import Buffer, EngineSpec, Stream
from .errors import check_choice, check_int
from .record import Field, Record
from .sparse_check import check_job
from .sparse_job import (
    CHANNEL,
    CODE_PEAK,
    HEADERS,
    LANE_STEPS,
    MANTISSA_BITS,
    MAX_LOG_GROUP,
    MAX_SEGMENT,
    POSITIONS,
    SEGMENT,
    ZERO_BITS,
    SparseJob,
)

__all__ = ["LANE_BITS", "SparseChain"]

LANE_BITS = POSITIONS * LANE_STEPS


@dataclass(frozen=True, kw_only=True)
class SparseChain(EngineSpec):
    """Weights of 1 to 8 bits in scaled groups, dense, N:M or block-sparse, on chains of DSP groups.

    ``chains`` chains of eight multipliers work on as many output rows; a beat of ``i_w`` has a word of 32 bits for each.
    ``window``: activations of a token in a word of the buffer, 8 times the sparsest group / nnz that jobs may have; 8: dense
    only, no multiplexers. ``tokens``: that share a weight in a multiplier, 2 or 1. ``group_dsps``: length of a cascade, after
    which a reduction node ends it and begins the next. ``target``: ``portable``, or primitives of ``dsp48e2`` or ``ecp5``.
    """

    name: ClassVar[str] = "sparse_chain"
    job_class: ClassVar[type] = SparseJob
    max_shift: ClassVar[int] = 47

    chains: int = 16
    window: int = 32
    tokens: int = 2
    max_bits: int = 8
    codebook: bool = False
    group_dsps: int = 8
    max_k: int = 4096
    max_n: int = 65536
    max_m: int = 64
    read_latency: int = 2
    target: str = "portable"

    def __post_init__(self):
        def put(name, low, high):
            object.__setattr__(self, name, check_int(name, getattr(self, name), low, high))

        def choose(name, *choices):
            object.__setattr__(self, name, check_choice(name, getattr(self, name), choices))

        put("chains", 1, 64)
        choose("window", 8, 16, 32, 64, 128)
        choose("tokens", 1, 2)
        put("max_bits", 1, 8)
        if not isinstance(self.codebook, bool):
            raise TypeError(f"codebook must be true or false, got {self.codebook!r}")
        if self.codebook and self.max_bits < 4:
            raise ValueError(f"max_bits must be 4 or more with a codebook, got {self.max_bits}")
        choose("group_dsps", 1, 2, 4, 8)
        put("max_k", 1, 1 << 15)
        put("max_n", 1, 1 << 18)
        put("max_m", 1, 256)
        put("read_latency", 2, 4)
        choose("target", "portable", "dsp48e2", "ecp5")

    # Derived ----------------------------------------------------------------------------------------------------------
    @property
    def beat_bytes(self):
        return self.chains * LANE_BITS // 8

    @property
    def max_ratio(self):
        """Largest group / nnz."""
        return self.window // POSITIONS

    @property
    def max_tiles(self):
        return -(-self.max_n // self.chains)

    @property
    def max_pairs(self):
        """Passes over the tokens, ``tokens`` at a time."""
        return -(-self.max_m // self.tokens)

    @property
    def max_words(self):
        """Words of the buffer that hold one pass's activations."""
        return -(-self.max_k // self.window)

    @property
    def word_scales(self):
        """Scales of a token in a word of the buffer."""
        return max(1, self.window // SEGMENT)

    @property
    def segment_peak(self):
        """Largest magnitude of a segment's integer sum."""
        return MAX_SEGMENT * CODE_PEAK**2

    @property
    def acc_peak(self):
        """Largest magnitude of a scaled sum: (sum * scale + activations * offset) * activation scale, over all segments.

        The proof that ``acc_width`` cannot overflow."""
        peak = 1 << (MANTISSA_BITS - 1)
        columns = -(-self.max_k // MAX_SEGMENT) * MAX_SEGMENT
        return columns * (CODE_PEAK**2 + CODE_PEAK) * peak * ((1 << MANTISSA_BITS) - 1)

    @property
    def acc_width(self):
        """At most 64."""
        return self.acc_peak.bit_length() + 1

    @cached_property
    def job_record(self):
        return Record((
            Field("tag", 8, doc="comes back in the completion"), Field("first", 1, doc="of no effect: no state outlives a job"),
            Field("last", 1, doc="of no effect"),
            Field("k_steps", 13, doc="ceil(k * nnz / (8 * group)): steps of a row"), Field("n", 19, doc="output rows"),
            Field("m", 9, doc="tokens"), Field("bits", 4, doc="of a code"), Field("ratio", 3, doc="log2(group / nnz)"),
            Field("index_bits", 3, doc="log2(group), 0 if dense; no sparser than 1 of 16"),
            Field("segment", 2, doc="log2(segment / 32), at most 2"),
            Field("scale_group", 4, doc="log2(scale_group / 32); 15: one group a row"),
            Field("header", 2, doc="0 scale, 1 affine, 2 zero, 3 levels"),
            Field("codebook", 1, doc="codes name entries of the codebook at the stream's begin"),
            Field("x_words", 13, doc="ceil(k / window), k rounded up to whole blocks"),
            Field("blocks", 1, doc="the stream says which blocks there are"),
            Field("block", 4, doc="log2(block / 32)"), Field("shift", 6, doc="of the sums, to the right, rounded half to even"),
        ))

    @property
    def inputs(self):
        return (Stream("w", Record((Field("data", LANE_BITS, lanes=self.chains),)), "weights, formats.sparse_stream"),)

    @property
    def activation_record(self):
        """A word of the buffer."""
        return Record((
            Field("codes", 8, True, self.tokens * self.window, "of the first token, then of the second"),
            Field("scales", MANTISSA_BITS, False, self.tokens * self.word_scales, "one for each 32 codes of a token, or for all"),
        ))

    @property
    def buffers(self):
        return (Buffer("act", self.activation_record.bits, self.max_words * self.max_pairs, self.read_latency,
                       "activation codes and scales, word (token // tokens) * x_words + k // window"),)

    @property
    def outputs(self):
        return (Stream("y", Record((
            Field("row", 18, doc="first output row of the beat"), Field("token", 8),
            Field("data", 32, True, self.chains, "one result a row; rows beyond n are 0"),
        )), "results: tiles of rows, in each the tokens"),)

    # Jobs -------------------------------------------------------------------------------------------------------------
    def job(self, **shape):
        return check_job(self, shape)

    def resized(self, job, **sizes):
        """``job`` with other sizes; its blocks, if it has some, are every second one."""
        return self.job(**vars(job) | {"blocks": None} | sizes)

    def tiles(self, job):
        return -(-job.n // self.chains)

    def pairs(self, job):
        return -(-job.m // self.tokens)

    def x_words(self, job):
        """Words of the buffer for each pass over the tokens."""
        return -(-job.columns // self.window)

    def job_values(self, job):
        return {
            "tag": job.tag, "first": int(job.first), "last": int(job.last), "k_steps": job.k_steps, "n": job.n, "m": job.m,
            "bits": job.bits, "ratio": _log2(job.ratio), "index_bits": _log2(job.group) if job.sparse else 0,
            "segment": _log2(job.segment // SEGMENT),
            "scale_group": CHANNEL if job.scale_group == 0 else _log2(job.scale_group // SEGMENT),
            "header": HEADERS.index(job.header), "codebook": int(job.codebook), "x_words": self.x_words(job),
            "blocks": int(job.block > 0), "block": _log2(job.block // SEGMENT) if job.block else 0, "shift": job.shift,
        }

    @classmethod
    def draw_build(cls, rng):
        return sparse_draw.draw_build(cls, rng)

    def draw_job(self, rng):
        return sparse_draw.draw_job(self, rng)

    def largest_job(self):
        return self.job(k=self.max_k, n=self.max_n, m=self.max_m, bits=self.max_bits)

    def illegal_values(self):
        shapes = {"k_steps": -(-self.max_k // POSITIONS), "n": self.max_n, "m": self.max_m, "bits": self.max_bits,
                  "x_words": self.max_words}
        fields = {field.name: field for field in self.job_record.fields}
        values = [{name: value} for name, most in shapes.items() for value in (0, most + 1, fields[name].high)]
        values += [{"segment": 3}, {"ratio": _log2(self.max_ratio) + 1}, {"shift": self.max_shift + 1}, {"index_bits": 5},
                   {"index_bits": 1}, {"header": HEADERS.index("affine"), "index_bits": 2}]
        values += [{"scale_group": 0, "segment": 1}, {"scale_group": MAX_LOG_GROUP + 1}, {"blocks": 1, "block": 0, "segment": 1},
                   {"blocks": 1, "block": MAX_LOG_GROUP + 1}, {"blocks": 1, "block": 0, "scale_group": 1, "segment": 0}]
        values += [{"header": header, "bits": ZERO_BITS + 1} for header in (2, 3)]
        return [*values, {"codebook": 1, "bits": self.max_bits, "header": 1} if self.codebook else {"codebook": 1}]

    # Closed forms -----------------------------------------------------------------------------------------------------
    def beats(self, stream, job):
        if stream == "w":
            return sparse_cycles.words(self, job)
        if stream == "y":
            return self.tiles(job) * job.m
        raise ValueError(f"stream must be w or y, got {stream!r}")

    def cycles(self, job):
        return sparse_cycles.cycles(self, job)

    def cycles_back_to_back(self, job):
        return sparse_cycles.cycles_back_to_back(self, job)

    def useful_fraction(self, job, cycles):
        stream = job.useful_bits(self.chains) / (8 * self.beat_bytes) / cycles
        compute = job.m * job.kept(self.chains) / (self.chains * POSITIONS * self.tokens) / cycles
        return {"stream": stream, "compute": compute, "useful": max(stream, compute)}


def _log2(power):
    return power.bit_length() - 1
