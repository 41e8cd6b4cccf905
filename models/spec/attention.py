"""The attention engine: queries in parallel, keys streamed once for each group of them, nothing of the scores leaves the chip."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from . import attention_cycles, attention_draw
from .attention_job import BLOCKS, MAX_FRACTION, MAX_MULTIPLIER, MAX_UNIT, MIN_SHIFT, SCORE_BITS, AttentionJob, check_job
from .engine import Buffer, EngineSpec, Stream
from .errors import check_choice, check_int
from .record import Field, Record

__all__ = ["Attention", "MAX_RAISE", "SCALE_BITS", "SCORES", "WEIGHT_ONE"]

SCORES = ("online", "two_pass", "shiftmax", "sigmoid")
SCALE_BITS = 16
WEIGHT_ONE = 1 << 15
"""The largest weight of a value."""
MAX_RAISE = 31
"""An online maximum that rises by more empties the sums instead of shifting them."""
_MAX_RESIDENT = 1 << 15


@dataclass(frozen=True, kw_only=True)
class Attention(EngineSpec):
    """Attention of ``p`` queries at a time over streamed keys and values: online, two-pass, integer or sigmoid scores, masks.

    ``d_lanes``: elements of a beat, and multipliers of a query for scores, as many for values. ``score``: ``online``, softmax in
    one pass; ``two_pass``, maximum first; ``shiftmax``, I-ViT's integer softmax; ``sigmoid``, without a sum. ``bits`` of q, k and
    v. ``block_sparse``: jobs may list blocks of keys (online, sigmoid). ``target``: ``portable``.
    """

    name: ClassVar[str] = "attention"
    job_class: ClassVar[type] = AttentionJob

    p: int = 4
    d_lanes: int = 16
    score: str = "online"
    bits: int = 8
    max_queries: int = 256
    max_keys: int = 1024
    max_d: int = 64
    max_heads: int = 16
    block_sparse: bool = False
    read_latency: int = 2
    target: str = "portable"

    def __post_init__(self):
        def put(name, low, high):
            object.__setattr__(self, name, check_int(name, getattr(self, name), low, high))

        def choose(name, *choices):
            object.__setattr__(self, name, check_choice(name, getattr(self, name), choices))

        put("p", 1, 16)
        put("d_lanes", 4, 128)
        choose("score", *SCORES)
        choose("bits", 8, 16)
        if self.score == "shiftmax" and self.bits != 8:
            raise ValueError(f"bits must be 8 with score shiftmax, got {self.bits}")
        put("max_queries", 1, 1 << 20)
        # The largest sum of weighted values keeps below 2**46, so that its product with a reciprocal fits 63 bits.
        most = _MAX_RESIDENT if attention_cycles.PHASES[self.score] > 1 else 1 << (20 if self.bits == 8 else 16)
        put("max_keys", 1, most)
        put("max_d", 1, 1024)
        put("max_heads", 1, 256)
        if not isinstance(self.block_sparse, bool):
            raise TypeError(f"block_sparse must be true or false, got {self.block_sparse!r}")
        if self.block_sparse and attention_cycles.PHASES[self.score] > 1:
            raise ValueError(f"block_sparse must be false with score {self.score}, got {self.block_sparse}")
        put("read_latency", 2, 4)
        choose("target", "portable")

    # Derived ----------------------------------------------------------------------------------------------------------
    @property
    def max_chunks(self):
        """Beats of a key."""
        return -(-self.max_d // self.d_lanes)

    @property
    def dot_peak(self):
        """Largest magnitude of q . k: the proof of the scores' width."""
        return self.max_chunks * self.d_lanes << 2 * (self.bits - 1)

    @property
    def acc_peak(self):
        """Largest magnitude of a sum of weighted values: every weight the largest.

        Shiftmax: probabilities add up to the largest weight at most, unless the sum of exponentials was clamped; then each is
        at most MAX_UNIT / 2."""
        weights = max(WEIGHT_ONE, self.max_keys * (MAX_UNIT >> 1)) if self.score == "shiftmax" else self.max_keys * WEIGHT_ONE
        return weights << (self.bits - 1)

    @property
    def acc_width(self):
        return self.acc_peak.bit_length() + 1

    @property
    def sum_width(self):
        """Of the sum of exponentials."""
        return (self.max_keys * WEIGHT_ONE).bit_length()

    @cached_property
    def beat_record(self):
        """A beat of keys or values, and a word of queries."""
        return Record((Field("data", self.bits, True, self.d_lanes, "elements; those beyond d are 0"),
                       Field("scale", SCALE_BITS, doc="of the whole vector, the same in each of its beats")))

    @property
    def max_blocks(self):
        """Blocks of keys, of the smallest size."""
        return -(-self.max_keys // BLOCKS[0])

    @property
    def max_listed(self):
        """Words of the list of blocks."""
        return -(-self.max_queries // self.p) * self.max_blocks

    @property
    def block_record(self):
        """A word of the list of blocks."""
        return Record((Field("index", max(1, (self.max_blocks - 1).bit_length()), doc="of the block"),
                       Field("last", 1, doc="of its group")))

    @cached_property
    def job_record(self):
        fields = [
            Field("tag", 8, doc="comes back in the completion"), Field("first", 1, doc="of no effect: no state outlives a job"),
            Field("last", 1, doc="of no effect"), Field("queries", 21), Field("keys", 21, doc="of a head"),
            Field("chunks", 9, doc="ceil(d / d_lanes): beats of a key"), Field("heads", 9),
            Field("causal", 1, doc="query i sees keys up to i + keys - queries"),
            Field("window", 21, doc="and no more than so many, 0: any number"),
            Field("shift", 6, doc="of q . k times its scales, to the right, rounded half to even"),
        ]
        if self.score == "shiftmax":
            fields += [Field("multiplier", 32, doc="of q . k"), Field("unit", 10, doc="|x0| of the integer exponential"),
                       Field("out_multiplier", 32, doc="of the sums"), Field("out_shift", 6, doc="of the sums")]
        else:
            fields.append(Field("fraction", 4, doc="fraction bits of the results"))
        if self.score == "sigmoid":
            fields.append(Field("bias", SCORE_BITS, True, doc="added to the scores"))
        if self.block_sparse:
            fields += [Field("blocks", 1, doc="x_blocks says which blocks of keys there are"),
                       Field("block", 2, doc="log2(block / 16)"),
                       Field("listed", (self.max_listed + 1).bit_length(), doc="words of x_blocks")]
        return Record(tuple(fields))

    @property
    def inputs(self):
        return (Stream("k", self.beat_record, "keys, formats.attention_stream"),
                Stream("v", self.beat_record, "values, formats.attention_stream"))

    @property
    def buffers(self):
        words = self.max_heads * self.max_queries * self.max_chunks
        queries = Buffer("q", self.beat_record.bits, words, self.read_latency,
                         "queries, word (head * queries + query) * chunks + chunk")
        if not self.block_sparse:
            return (queries,)
        return queries, Buffer("blocks", self.block_record.bits, self.max_listed, self.read_latency,
                               "blocks of keys of each group of queries, ascending; the same for all heads")

    @property
    def outputs(self):
        return (Stream("y", Record((
            Field("query", 20), Field("head", 8), Field("chunk", 8, doc="of d_lanes elements"),
            Field("data", 32, True, self.d_lanes, "results; elements beyond d are 0"),
        )), "results: heads, in each the queries, in each the chunks"),)

    # Jobs -------------------------------------------------------------------------------------------------------------
    def job(self, **shape):
        return check_job(self, shape)

    def resized(self, job, **sizes):
        """``job`` with other sizes; its blocks, if it has some, are every second one."""
        return self.job(**vars(job) | {"blocks": None} | sizes)

    def chunks(self, job):
        """Beats of a key: steps of a key-time."""
        return -(-job.d // self.d_lanes)

    def groups(self, job):
        """Groups of queries of a head."""
        return -(-job.queries // self.p)

    def job_values(self, job):
        values = {"tag": job.tag, "first": int(job.first), "last": int(job.last), "queries": job.queries, "keys": job.keys,
                  "chunks": self.chunks(job), "heads": job.heads, "causal": int(job.causal), "window": job.window,
                  "shift": job.shift}
        names = {field.name for field in self.job_record.fields} - set(values)
        values |= {name: getattr(job, name) for name in names - {"blocks", "block", "listed"}}
        if self.block_sparse:
            values |= {"blocks": int(job.block > 0), "block": (job.block // BLOCKS[0]).bit_length() - 1 if job.block else 0,
                       "listed": sum(map(len, job.blocks)) if job.block else 0}
        return values

    @classmethod
    def draw_build(cls, rng):
        return attention_draw.draw_build(cls, rng)

    def draw_job(self, rng):
        return attention_draw.draw_job(self, rng)

    def largest_job(self):
        return self.job(queries=self.max_queries, keys=self.max_keys, d=self.max_d, heads=self.max_heads)

    def illegal_values(self):
        shapes = {"queries": self.max_queries, "keys": self.max_keys, "chunks": self.max_chunks, "heads": self.max_heads}
        fields = {field.name: field for field in self.job_record.fields}
        values = [{name: value} for name, most in shapes.items() for value in (0, most + 1, fields[name].high)]
        values += [{"shift": MIN_SHIFT - 1}, {"causal": 0, "window": 1}, {"causal": 1, "window": self.max_keys + 1}]
        if self.score == "shiftmax":
            return values + [{"multiplier": MAX_MULTIPLIER + 1}, {"out_multiplier": MAX_MULTIPLIER + 1}, {"unit": 0},
                             {"out_shift": MIN_SHIFT - 1}]
        values.append({"fraction": MAX_FRACTION + 1})
        if self.block_sparse:
            values += [{"blocks": 1, "listed": 1, "causal": 1, "window": 0}, {"blocks": 1, "listed": 0, "causal": 0, "window": 0},
                       {"blocks": 1, "listed": self.max_listed + 1, "causal": 0, "window": 0}]
        return values

    # Closed forms -----------------------------------------------------------------------------------------------------
    def beats(self, stream, job):
        if stream in ("k", "v"):
            return job.heads * attention_cycles.keys_streamed(self, job) * self.chunks(job)
        if stream == "y":
            return job.heads * job.queries * self.chunks(job)
        raise ValueError(f"stream must be k, v or y, got {stream!r}")

    def cycles(self, job):
        return attention_cycles.cycles(self, job)

    def cycles_back_to_back(self, job):
        return attention_cycles.cycles_back_to_back(self, job)

    def pairs(self, job):
        """Pairs of a query and a key that it sees, of a head."""
        if not job.causal:
            rows = [min(self.p, job.queries - group * self.p) for group in range(self.groups(job))]
            if not job.block:
                return job.queries * job.keys
            return sum(count * sum(map(job.block_keys, chosen)) for count, chosen in zip(rows, job.blocks, strict=True))
        seen = (min(job.keys, max(0, query + job.offset + 1)) for query in range(job.queries))
        return sum(min(count, job.window or count) for count in seen)

    def useful_fraction(self, job, cycles):
        bits = job.d * self.bits + SCALE_BITS
        stream = job.heads * attention_cycles.keys_streamed(self, job) * bits / self.beat_record.bits / cycles
        compute = job.heads * self.pairs(job) * job.d / (self.p * self.d_lanes) / cycles
        return {"stream": stream, "compute": compute, "useful": max(stream, compute)}
