"""The loader of the N:M training array: operands gathered from feature maps on chip."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from . import nm_load_draw
from .engine import COUNTERS, Buffer, EngineSpec, Stream
from .errors import check_choice, check_int
from .nm_load_job import WORD, NmLoadJob, check_job
from .nm_load_plan import plan
from .nm_train_job import MIN_SLOTS
from .record import Field, Record

__all__ = ["FIRST_REQUEST", "NmLoad"]

FIRST_REQUEST = 11
"""The cycle of the first request; a job is accepted in cycle 0."""
_RETURN = 3
"""Cycles from a beat's request to its completion, the buffer's latency not counted."""
_QUEUED = 1
_COUNT_BITS = 24
_COUNTS = ("rounds", "passes", "tiles", "repeats")
CARRIES = ((0, 0), (1, 0), (0, 1), (1, 1))
"""Of the lower two digits of a walk, in the order of its moves."""


@dataclass(frozen=True, kw_only=True)
class NmLoad(EngineSpec):
    """Feature maps as operands of the training array: im2col with zero fill by rows or columns, and transposed maps.

    Beats have ``words`` words of 16 bfloat16; ``rows`` are the array's, ``slots`` too, its columns are 16 * ``words`` where a
    job makes B. A beat a cycle, without gaps. ``map_words``: words of 16 channels of the map on chip, which has ``words`` copies.
    Maps can be transposed where ``rows`` is a multiple of 16 or divides it; in blocks of 16 x 16, so that fewer rows than 16
    come as slowly as 16 do.
    """

    name: ClassVar[str] = "nm_load"
    job_class: ClassVar[type] = NmLoadJob

    words: int = 1
    rows: int = 16
    slots: int = 8
    map_words: int = 4096
    read_latency: int = 2

    def __post_init__(self):
        object.__setattr__(self, "words", check_choice("words", self.words, (1, 2, 4)))
        for name, low, high in (("rows", 2, 128), ("slots", MIN_SLOTS, 16), ("map_words", 16, 1 << 20), ("read_latency", 1, 4)):
            object.__setattr__(self, name, check_int(name, getattr(self, name), low, high))
        if self.rows % self.words:
            raise ValueError(f"words must divide rows ({self.rows}), got {self.words}")

    # Derived ----------------------------------------------------------------------------------------------------------
    @property
    def turns(self):
        """Whether maps can be transposed."""
        return self.rows % WORD == 0 or WORD % self.rows == 0

    @property
    def tile_slots(self):
        """Beats that a round of a tile of rows reads."""
        return self.rows // self.words

    @property
    def turned_slots(self):
        """The same where maps are transposed: whole blocks."""
        return max(self.rows, WORD) // self.words

    @property
    def places(self):
        """Beats of the longest round."""
        return max(self.turned_slots if self.turns else self.tile_slots, self.slots)

    @property
    def addr_width(self):
        return self.buffers[0].addr_width

    @property
    def coordinate_width(self):
        """Of a signed coordinate and of its parts."""
        return self.addr_width + 4

    @property
    def max_coordinate(self):
        return (1 << self.coordinate_width - 1) - 1

    def slots_of(self, words):
        """Slots of a tile of columns with so many words of each row."""
        return max(MIN_SLOTS, min(self.slots, -(-words // self.words)))

    @cached_property
    def job_record(self):
        places, count = self.places.bit_length(), [Field(name, _COUNT_BITS) for name in _COUNTS]
        extent = self.map_words.bit_length()
        return Record((
            Field("tag", 8, doc="comes back in the completion"), Field("first", 1, doc="of no effect: no state outlives a job"),
            Field("last", 1, doc="of no effect"), Field("turn", 1, doc="transpose blocks of 16 x 16"),
            Field("slots", places, doc="beats of a round"), Field("last_slots", places, doc="the same in the last tile"), *count,
            Field("count", _COUNT_BITS, doc="words of the inner walk; those behind are zeros"),
            Field("height", extent, doc="y of the map: others are zeros"), Field("width", extent),
            *self._walk_fields("inner", self.words), *self._walk_fields("outer", 1),
        ))

    def _walk_fields(self, walk, lanes):
        wide, addr = self.coordinate_width, self.addr_width
        return (
            *(Field(f"{walk}_{digit}", wide - 1, lanes=lanes, doc="where the words of the first beat begin")
              for digit in ("low", "middle")),
            Field(f"{walk}_y", wide, signed=True, lanes=lanes), Field(f"{walk}_x", wide, signed=True, lanes=lanes),
            Field(f"{walk}_addr", addr, lanes=lanes),
            *(Field(f"{walk}_{digit}_{what}", wide - 1, doc="of the digit: its step; its limit less that")
              for digit in ("low", "middle") for what in ("step", "room")),
            Field(f"{walk}_move_y", wide, signed=True, lanes=4, doc="by carries of middle and low digit"),
            Field(f"{walk}_move_x", wide, signed=True, lanes=4), Field(f"{walk}_move_addr", addr, lanes=4),
        )

    @property
    def done_record(self):
        return Record(COUNTERS)

    @property
    def inputs(self):
        return ()

    @property
    def buffers(self):
        return tuple(Buffer(f"map{i}", 16 * WORD, self.map_words, self.read_latency,
                            "the map, word ((image * height + y) * width + x) * channel_words + channel / 16; copies are alike")
                     for i in range(self.words))

    @property
    def outputs(self):
        return (Stream("w", Record((Field("data", 16, lanes=WORD * self.words, doc="bfloat16"),)),
                       "beats of A, or values of B, as the array takes them"),)

    # Jobs -------------------------------------------------------------------------------------------------------------
    def job(self, **shape):
        return check_job(self, shape)

    def job_values(self, job):
        work = plan(self, job)
        values = {name: getattr(work, name) for name in ("slots", "last_slots", *_COUNTS, "count", "height", "width")}
        values |= {"tag": job.tag, "first": int(job.first), "last": int(job.last), "turn": int(job.order == "transposed")}
        return values | self._walk_values("inner", work.inner, self.words) | self._walk_values("outer", work.outer, 1)

    def _walk_values(self, name, walk, lanes):
        """Addresses count modulo a power of two: what is outside the map is never read."""
        mask = (1 << self.addr_width) - 1
        step = walk.digits(lanes)
        places = [walk.digits(i)[:2] + walk.place(i) for i in range(lanes)]
        moves = [walk.move(lanes, carries) for carries in CARRIES]
        values = {f"{name}_{part}": [place[i] for place in places] for i, part in enumerate(("low", "middle", "y", "x", "addr"))}
        values[f"{name}_addr"] = [addr & mask for addr in values[f"{name}_addr"]]
        if lanes == 1:
            values = {key: value[0] for key, value in values.items()}
        for i, digit in enumerate(("low", "middle")):
            values |= {f"{name}_{digit}_step": step[i], f"{name}_{digit}_room": walk.limits[i] - step[i]}
        return values | {f"{name}_move_y": [move[0] for move in moves], f"{name}_move_x": [move[1] for move in moves],
                         f"{name}_move_addr": [move[2] & mask for move in moves]}

    @classmethod
    def draw_build(cls, rng):
        return nm_load_draw.draw_build(cls, rng)

    def draw_job(self, rng):
        return nm_load_draw.draw_job(self, rng)

    def largest_job(self):
        return nm_load_draw.largest_job(self)

    def illegal_values(self):
        fields = {field.name: field for field in self.job_record.fields}
        values = [{name: 0} for name in _COUNTS]
        for name, most in (("slots", self.places), ("height", self.map_words), ("width", self.map_words)):
            values += [{name: value} for value in (0, most + 1, fields[name].high)
                       if not 0 < value <= most and value <= fields[name].high]
        values += [{"last_slots": 0}, {"last_slots": fields["last_slots"].high, "slots": 1}]
        return values + ([] if self.turns else [{"turn": 1}])

    # Closed forms -----------------------------------------------------------------------------------------------------
    def beats(self, stream, job):
        if stream != "w":
            raise ValueError(f"stream must be w, got {stream!r}")
        beats = plan(self, job).beats
        if job.order == "transposed":
            return beats * self.tile_slots // self.turned_slots
        return beats

    def cycles(self, job):
        """A beat is read a cycle from the first request on; a transposed map needs as many more as move its last rows out."""
        work, out = plan(self, job), 0
        if job.order == "transposed":
            rows = min(self.rows, WORD)
            out = ((work.tiles - 1) % (WORD // rows) + 1) * rows // self.words
        return FIRST_REQUEST + work.beats - 1 + out + self.read_latency + _RETURN

    def cycles_back_to_back(self, job):
        return self.cycles(job) - _QUEUED

    def useful_fraction(self, job, cycles):
        """Words of the operand, not its padding, against words at full rate."""
        if job.order == "transposed":
            values = job.channels * job.pixels
        else:
            values = job.rows * job.taps_y * job.taps_x * job.channels
        useful = values * job.repeats / (WORD * self.words) / cycles
        return {"stream": useful, "compute": useful, "useful": useful}
