"""The MoE linear engine: int8 linear layers for several tokens at once, dense or expert by expert."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from . import moe_linear_cycles, moe_linear_draw
from .engine import Buffer, EngineSpec, Stream
from .errors import check_choice, check_int
from .moe_linear_check import check_job
from .moe_linear_job import BIAS_BITS, EXPERT_WORD, HEADER_BYTES, PAIR_WORD, SCALE_BITS, MoeLinearJob
from .record import Field, Record

__all__ = ["MoeLinear", "POSITIONS"]

POSITIONS = 8
"""Multipliers of a cascade."""
_CODE_PEAK = 128
_MOST_BEATS = 32
"""Result beats of a group of tokens and a tile."""


@dataclass(frozen=True, kw_only=True)
class MoeLinear(EngineSpec):
    """Linear layers of int8 for several tokens at once: dense, or a queue of tokens for each expert; bias, GELU, scores.

    In each cycle ``tokens`` x ``rows`` x ``lanes`` products: of so many tokens, with the weights of a tile of rows, over so many
    columns. ``beat_bytes`` of weights come a cycle; a ring of ``ring_words`` steps' weights lets the stream run ahead of the
    tokens. ``result_lanes`` rows of a token leave a cycle; 0: a tile's. ``gelu``, ``score`` (a memory of ``max_m`` tokens times
    ``score_n`` rows, at most ``max_n``; 0: ``max_n``), ``narrow`` (results of 8 bits): what jobs may ask for. ``target``:
    ``portable``, or primitives of ``dsp48e2`` or ``ecp5``.
    """

    name: ClassVar[str] = "moe_linear"
    job_class: ClassVar[type] = MoeLinearJob
    max_shift: ClassVar[int] = 62
    max_out_shift: ClassVar[int] = 47

    tokens: int = 2
    rows: int = 8
    lanes: int = 16
    beat_bytes: int = 16
    ring_words: int = 512
    result_lanes: int = 0
    max_m: int = 64
    max_k: int = 1024
    max_n: int = 4096
    max_experts: int = 16
    max_top_k: int = 2
    gelu: bool = True
    score: bool = True
    score_n: int = 1024
    narrow: bool = True
    read_latency: int = 2
    target: str = "portable"

    def __post_init__(self):
        def put(name, low, high):
            object.__setattr__(self, name, check_int(name, getattr(self, name), low, high))

        def choose(name, *choices):
            object.__setattr__(self, name, check_choice(name, getattr(self, name), choices))

        put("tokens", 1, 4)
        put("rows", 2, 64)
        if self.rows % 2:
            raise ValueError(f"rows must be even, got {self.rows}")
        choose("lanes", *range(8, 65, 8))
        choose("beat_bytes", 8, 16, 32, 64, 128)
        if self.word_bytes % self.beat_bytes:
            raise ValueError(f"beat_bytes must divide rows * lanes ({self.word_bytes}), got {self.beat_bytes}")
        choose("ring_words", *(1 << bits for bits in range(3, 13)))
        put("result_lanes", 0, 64)
        if self.rows % self.out_lanes or self.tokens * self.chunks > _MOST_BEATS:
            raise ValueError(f"result_lanes must divide rows ({self.rows}) into at most {_MOST_BEATS // self.tokens} parts, "
                             f"got {self.result_lanes}")
        put("max_m", 1, 4096)
        put("max_k", 1, 1 << 15)
        if self.max_steps > self.ring_words:
            raise ValueError(f"ring_words must hold a tile, {self.max_steps} steps of {self.lanes} columns, "
                             f"got {self.ring_words}")
        put("max_n", 1, 1 << 16)
        put("max_experts", 1, 64)
        put("max_top_k", 1, 8)
        put("score_n", 0, 1 << 16)
        for name in ("gelu", "score", "narrow"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be true or false, got {getattr(self, name)!r}")
        put("read_latency", 2, 4)
        choose("target", "portable", "dsp48e2", "ecp5")

    # Derived ----------------------------------------------------------------------------------------------------------
    @property
    def word_bytes(self):
        """Weights of a step."""
        return self.rows * self.lanes

    @property
    def word_beats(self):
        return self.word_bytes // self.beat_bytes

    @property
    def header_beats(self):
        return -(-self.rows * HEADER_BYTES // self.beat_bytes)

    @property
    def out_lanes(self):
        """Results a beat."""
        return self.result_lanes or self.rows

    @property
    def chunks(self):
        """Result beats of a token and a tile."""
        return self.rows // self.out_lanes

    @property
    def max_steps(self):
        return -(-self.max_k // self.lanes)

    @property
    def max_tiles(self):
        return -(-self.max_n // self.rows)

    @property
    def max_pairs(self):
        """Places of the queue, or tokens."""
        return self.max_m * (self.max_top_k if self.queues else 1)

    @property
    def queues(self):
        """Whether jobs may have experts."""
        return self.max_experts > 1

    @property
    def scores(self):
        """Whether jobs may have scores."""
        return self.score and self.queues

    @property
    def score_rows(self):
        """Most rows of a job with scores."""
        return min(self.score_n or self.max_n, self.max_n)

    @property
    def score_tiles(self):
        return -(-self.score_rows // self.rows)

    @property
    def acc_width(self):
        """Bits of a sum of max_k products of -128 * -128."""
        return (self.max_k * _CODE_PEAK**2).bit_length() + 1

    @property
    def product_width(self):
        """Bits of a sum times two scales; at most 63."""
        return self.acc_width + 2 * SCALE_BITS

    @cached_property
    def job_record(self):
        return Record((
            Field("tag", 8, doc="comes back in the completion"), Field("first", 1, doc="of no effect: no state outlives a job"),
            Field("last", 1, doc="of no effect"),
            Field("k_steps", 13, doc="ceil(k / lanes)"), Field("n", 17, doc="output rows of an expert"),
            Field("m", 13, doc="tokens"), Field("queued", 1, doc="experts: x_expert and x_queue tell who goes where"),
            Field("gather", 1, doc="x by token, else by place in the queue"),
            Field("gelu", 1), Field("use_score", 1, doc="add up score * y of a token's experts"), Field("narrow", 1),
            Field("shift", 6, doc="of sums times scales, to the right, rounded half to even"),
            Field("out_multiplier", SCALE_BITS, doc="of narrow results"), Field("out_shift", 6, doc="of narrow results"),
        ))

    @property
    def inputs(self):
        return (Stream("w", Record((Field("data", 8, lanes=self.beat_bytes),)), "weights, formats.moe_linear_stream"),)

    @cached_property
    def activation_record(self):
        """A word of the activation buffers."""
        return Record((Field("codes", 8, True, self.lanes),
                       Field("scale", SCALE_BITS, doc="of the row, the same in all its words")))

    @cached_property
    def buffers(self):
        latency = self.read_latency
        copies = tuple(Buffer(f"act{t}", self.activation_record.bits, self.max_pairs * self.max_steps, latency,
                              "activation codes and scale, word row * k_steps + step; all copies are alike")
                       for t in range(self.tokens))
        if not self.queues:
            return copies
        return (*copies, Buffer("queue", PAIR_WORD.bits, self.max_pairs, latency, "pairs in the order of their experts"),
                Buffer("expert", EXPERT_WORD.bits, self.max_experts, latency, "the experts that have tokens, ascending"))

    @property
    def outputs(self):
        return (Stream("y", Record((
            Field("row", 16, doc="first output row of the beat"), Field("token", 16, doc="or place in the queue"),
            Field("data", BIAS_BITS, True, self.out_lanes, "one result a row; rows beyond n are 0"),
        )), "results: experts, tiles of rows, groups of tokens, tokens, rows"),)

    # Jobs -------------------------------------------------------------------------------------------------------------
    def job(self, **shape):
        return check_job(self, shape)

    def resized(self, job, **sizes):
        """``job`` with other sizes; its routes, if it has some, are those of :func:`~.moe_linear_job.default_routes`."""
        return self.job(**vars(job) | {"routes": None} | sizes)

    def steps(self, job):
        return -(-job.k // self.lanes)

    def tiles(self, job):
        """Of one expert."""
        return -(-job.n // self.rows)

    def job_values(self, job):
        return {
            "tag": job.tag, "first": int(job.first), "last": int(job.last), "k_steps": self.steps(job), "n": job.n, "m": job.m,
            "queued": int(job.queued), "gather": int(job.gather), "gelu": int(job.gelu), "use_score": int(job.use_score),
            "narrow": int(job.narrow), "shift": job.shift, "out_multiplier": job.out_multiplier, "out_shift": job.out_shift,
        }

    @classmethod
    def draw_build(cls, rng):
        return moe_linear_draw.draw_build(cls, rng)

    def draw_job(self, rng):
        return moe_linear_draw.draw_job(self, rng)

    def largest_job(self):
        return self.job(m=self.max_m, k=self.max_k, n=self.max_n, experts=self.max_experts,
                        top_k=min(self.max_experts, self.max_top_k), gelu=self.gelu)

    def illegal_values(self):
        shapes = {"k_steps": self.max_steps, "n": self.max_n, "m": self.max_m}
        fields = {field.name: field for field in self.job_record.fields}
        values = [{name: value} for name, most in shapes.items() for value in (0, most + 1, fields[name].high)]
        values += [{"shift": self.max_shift + 1}, {"out_shift": self.max_out_shift + 1}, {"queued": 0, "use_score": 1}]
        values += [{name: 1} for name, has in (("gelu", self.gelu), ("narrow", self.narrow), ("queued", self.queues)) if not has]
        if self.scores and self.score_rows < self.max_n:
            values.append({"queued": 1, "use_score": 1, "n": self.score_rows + 1})
        return values if self.scores else [*values, {"queued": 1, "use_score": 1}]

    # Closed forms -----------------------------------------------------------------------------------------------------
    def beats(self, stream, job):
        tiles = self.tiles(job)
        if stream == "w":
            return len(job.counts) * tiles * (self.header_beats + self.steps(job) * self.word_beats)
        if stream == "y":
            return job.emitted * -(-job.n // self.out_lanes)
        raise ValueError(f"stream must be w or y, got {stream!r}")

    def cycles(self, job):
        return moe_linear_cycles.cycles(self, job)

    def cycles_back_to_back(self, job):
        return moe_linear_cycles.cycles_back_to_back(self, job)

    def compute_cycles(self, job):
        """Steps: what the multipliers need if weights never come late."""
        return sum(-(-count // self.tokens) for count in job.counts) * self.steps(job) * self.tiles(job)

    def useful_fraction(self, job, cycles):
        bits = 8 * len(job.counts) * job.n * (job.k + HEADER_BYTES)
        stream = bits / (8 * self.beat_bytes) / cycles
        compute = job.pairs * job.k * job.n / (self.tokens * self.rows * self.lanes) / cycles
        return {"stream": stream, "compute": compute, "useful": max(stream, compute)}
