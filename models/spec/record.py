"""Bit layouts of the records that cross an engine's ports: jobs, results, completions."""

from dataclasses import dataclass

__all__ = ["Field", "Record"]


@dataclass(frozen=True)
class Field:
    """``lanes`` values of ``width`` bits each, two's complement if ``signed``; lane 0 in the least significant bits."""

    name: str
    width: int
    signed: bool = False
    lanes: int = 1
    doc: str = ""

    @property
    def bits(self):
        return self.width * self.lanes

    @property
    def low(self):
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def high(self):
        return (1 << (self.width - 1 if self.signed else self.width)) - 1


@dataclass(frozen=True)
class Record:
    """Fields packed without gaps, the first in the least significant bits; carried in whole bytes, little-endian."""

    fields: tuple[Field, ...]

    @property
    def bits(self):
        return sum(field.bits for field in self.fields)

    @property
    def bytes(self):
        return -(-self.bits // 8)

    def encode(self, values):
        """``values`` (dict: int, or a sequence of ints where ``lanes`` > 1) as one non-negative int of ``bits`` bits.

        Raises ValueError for a missing or unknown field and for a value outside its field.
        """
        unknown = set(values) - {field.name for field in self.fields}
        if unknown:
            raise ValueError(f"unknown field {sorted(unknown)[0]!r}; fields are {', '.join(f.name for f in self.fields)}")
        word, offset = 0, 0
        for field in self.fields:
            if field.name not in values:
                raise ValueError(f"field {field.name} is missing")
            lanes = values[field.name] if field.lanes > 1 else [values[field.name]]
            if len(lanes) != field.lanes:
                raise ValueError(f"field {field.name} must have {field.lanes} lanes, got {len(lanes)}")
            for lane in lanes:
                lane = int(lane)
                if not field.low <= lane <= field.high:
                    raise ValueError(f"field {field.name} must be {field.low}..{field.high}, got {lane}")
                word |= (lane & ((1 << field.width) - 1)) << offset
                offset += field.width
        return word

    def decode(self, word):
        """The inverse of :meth:`encode`: a dict of ints, lists of ints where ``lanes`` > 1."""
        values, offset = {}, 0
        for field in self.fields:
            lanes = []
            for _ in range(field.lanes):
                lane = (word >> offset) & ((1 << field.width) - 1)
                lanes.append(lane - (1 << field.width) if field.signed and lane >> (field.width - 1) else lane)
                offset += field.width
            values[field.name] = lanes if field.lanes > 1 else lanes[0]
        return values

    def to_bytes(self, values):
        """:meth:`encode` as ``bytes`` little-endian bytes."""
        return self.encode(values).to_bytes(self.bytes, "little")

    def from_bytes(self, data):
        """:meth:`decode` of ``bytes`` little-endian bytes."""
        return self.decode(int.from_bytes(bytes(data), "little"))
