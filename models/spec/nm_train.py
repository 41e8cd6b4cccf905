"""The N:M training array: products of bfloat16 matrices, dense or sparse, on systolic PEs with interleaved float32 sums."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from . import nm_train_cycles, nm_train_draw
from .engine import EngineSpec, Stream
from .errors import check_choice, check_int
from .nm_pattern import MAX_GROUP, MAX_NNZ, PATTERNS, groups_of
from .nm_train_job import MIN_SLOTS, WORD, NmTrainJob, check_job
from .record import Field, Record

__all__ = ["NmTrain"]

_M_BITS, _N_BITS, _K_BITS = 24, 17, 24


@dataclass(frozen=True, kw_only=True)
class NmTrain(EngineSpec):
    """C[m, n] = A[m, k] x B[k, n], float32, on ``rows`` x ``cols`` PEs: a multiplier of bfloat16, an adder of float32 each.

    Each PE interleaves up to ``slots`` sums, so that the adder's latency never stalls; a tile of columns has cols * slots of
    them. ``words`` words of 16 values of A come in a beat. B is dense or N:M sparse; its values meet the values of A that their
    indices choose in a memory of the PE. Two data flows, a job's choice, give the same bits: output-stationary ("os", sums stay,
    both operands move) and weight-stationary ("ws", B stays, sums move down; up to ``ws_rows`` rows of A meet the tile of B
    before the next one is loaded, their sums wait on chip).
    """

    name: ClassVar[str] = "nm_train"
    job_class: ClassVar[type] = NmTrainJob

    rows: int = 4
    cols: int = 4
    slots: int = 8
    words: int = 1
    ws_rows: int = 64
    max_m: int = 1024
    max_n: int = 1024
    max_k: int = 4096

    def __post_init__(self):
        def put(name, low, high):
            object.__setattr__(self, name, check_int(name, getattr(self, name), low, high))

        put("rows", 2, 128)
        object.__setattr__(self, "cols", check_choice("cols", self.cols, (2, 4, 8, 16, 32, 64)))
        put("slots", MIN_SLOTS, 16)
        object.__setattr__(self, "words", check_choice("words", self.words, (1, 2, 4, 8)))
        if self.rows % self.words:
            raise ValueError(f"words must divide rows ({self.rows}), got {self.words}")
        put("ws_rows", 2, 4096)
        put("max_m", 1, (1 << _M_BITS) - 2)
        put("max_n", 1, (1 << _N_BITS) - 2)
        put("max_k", 1, (1 << _K_BITS) - 2)

    # Derived ----------------------------------------------------------------------------------------------------------
    @property
    def tile_columns(self):
        """Columns of a full tile."""
        return self.cols * self.slots

    @property
    def max_k_tiles(self):
        """Tiles of ``rows`` groups in the longest reduction (weight-stationary), at the smallest group."""
        return -(-self.max_k // self.rows)

    @property
    def entries(self):
        """Weights that a PE holds for a tile (weight-stationary)."""
        return MAX_NNZ * self.slots

    @property
    def entry_bits(self):
        """Bits of a weight's place in a PE; the top one tells the tile that is at work from the next one."""
        return (self.entries - 1).bit_length() + 1

    @property
    def gap(self):
        """Periods that a weight-stationary tile takes at least: its sums have come back before the next tile needs them."""
        return self.rows + 2 + -(-(self.rows + self.cols + 24) // MIN_SLOTS)

    @property
    def queue_depth(self):
        """Places for results: more than are ever under way at full rate."""
        return 1 << (self.rows + self.cols + 3 * self.slots + 16).bit_length()

    @cached_property
    def job_record(self):
        return Record((
            Field("tag", 8, doc="comes back in the completion"), Field("first", 1, doc="of no effect: no state outlives a job"),
            Field("last", 1, doc="of no effect"), Field("m", _M_BITS), Field("n", _N_BITS), Field("k", _K_BITS),
            Field("k_tiles", _K_BITS, doc="tiles of rows groups, ceil(k / group / rows)"),
            Field("pattern", 3, doc="nnz of group: place in 1:1, 2:4, 1:4, 4:8, 2:8, 2:16"),
            Field("ws", 1, doc="weight-stationary, else output-stationary"),
            Field("narrow", 1, doc="results rounded to bfloat16"),
        ))

    @property
    def inputs(self):
        a = Record((Field("data", 16, lanes=WORD * self.words, doc="bfloat16"),))
        b = Record((Field("data", 16, lanes=self.cols, doc="bfloat16"), Field("index", 4, lanes=self.cols, doc="in its group")))
        return Stream("a", a, "words of A, formats.nm_train_stream"), Stream("b", b, "columns of B, formats.nm_train_stream")

    @property
    def buffers(self):
        return ()

    @property
    def outputs(self):
        return (Stream("y", Record((
            Field("row", _M_BITS), Field("column", _N_BITS, doc="of lane 0"),
            Field("data", 32, lanes=self.cols, doc="bits of float32, narrow: of bfloat16; lanes beyond n are 0"),
        )), "results, row after row of a tile, slot after slot"),)

    # Jobs -------------------------------------------------------------------------------------------------------------
    def job(self, **shape):
        return check_job(self, shape)

    def groups(self, job):
        return groups_of(job.k, job.group)

    def slots_of(self, columns):
        """Slots of a tile of so many columns."""
        return max(MIN_SLOTS, min(self.slots, -(-columns // self.cols)))

    def column_tiles(self, job):
        """(slots, slots that have columns of the job) of each tile of columns."""
        full, rest = divmod(job.n, self.tile_columns)
        tiles = [(self.slots, self.slots)] * full
        return [*tiles, (self.slots_of(rest), -(-rest // self.cols))] if rest else tiles

    def k_tiles(self, job):
        return -(-self.groups(job) // self.rows)

    def ws_blocks(self, job):
        """Rows of each block of A (weight-stationary)."""
        full, rest = divmod(job.m, self.ws_rows)
        return [self.ws_rows] * full + [rest] * bool(rest)

    def job_values(self, job):
        return {
            "tag": job.tag, "first": int(job.first), "last": int(job.last), "m": job.m, "n": job.n, "k": job.k,
            "k_tiles": self.k_tiles(job), "pattern": PATTERNS.index((job.nnz, job.group)), "ws": int(job.dataflow == "ws"),
            "narrow": int(job.narrow),
        }

    @classmethod
    def draw_build(cls, rng):
        return nm_train_draw.draw_build(cls, rng)

    def draw_job(self, rng):
        return nm_train_draw.draw_job(self, rng)

    def largest_job(self):
        return self.job(m=self.max_m, n=self.max_n, k=self.max_k)

    def illegal_values(self):
        fields = {field.name: field for field in self.job_record.fields}
        shapes = {"m": self.max_m, "n": self.max_n, "k": self.max_k, "k_tiles": self.max_k_tiles}
        values = [{name: value} for name, most in shapes.items() for value in (0, most + 1, fields[name].high)]
        return [*values, *({"pattern": value} for value in range(len(PATTERNS), 8))]

    # Closed forms -----------------------------------------------------------------------------------------------------
    def a_beats(self, job):
        """Beats of ``a`` of a period: a word for each row, or (weight-stationary) a group for each."""
        group = MAX_GROUP if job.dataflow == "os" else job.group
        return -(-self.rows * group // (WORD * self.words))

    def periods(self, job):
        """Periods of a weight-stationary job in which row 0 works or waits: of each block of rows with each tile of B."""
        return nm_train_cycles.ws_periods(self, job)

    def beats(self, stream, job):
        tiles = self.column_tiles(job)
        os = job.dataflow == "os"
        if stream == "a":
            if os:
                return len(tiles) * -(-job.m // self.rows) * -(-job.k // WORD) * self.a_beats(job)
            return (sum(self.periods(job)) + self.rows - 1) * self.a_beats(job)
        if stream == "b":
            again = -(-job.m // self.rows) if os else len(self.ws_blocks(job))
            groups = self.groups(job) if os else self.k_tiles(job) * self.rows
            return again * groups * job.nnz * sum(slots for slots, _ in tiles)
        if stream == "y":
            return job.m * sum(valid for _, valid in tiles)
        raise ValueError(f"stream must be a, b or y, got {stream!r}")

    def cycles(self, job):
        return nm_train_cycles.cycles(self, job)

    def cycles_back_to_back(self, job):
        return nm_train_cycles.cycles_back_to_back(self, job)

    def macs(self, job):
        """Products of kept elements."""
        return job.m * job.n * job.k * job.nnz // job.group

    def useful_fraction(self, job, cycles):
        # Kept elements of a ragged last group count by their share: at most one group a column.
        stored = job.n * job.k * job.nnz / job.group * (16 + 4 * (job.group > 1))
        bits = max(stored / (20 * self.cols), job.m * job.k / (WORD * self.words))
        stream, compute = bits / cycles, self.macs(job) / (self.rows * self.cols) / cycles
        return {"stream": stream, "compute": compute, "useful": max(stream, compute)}
