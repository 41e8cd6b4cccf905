"""What a stand-alone kernel is made of: an engine, the depth of its queues, the widths of its AXI4-Streams."""

import hashlib
import json
from dataclasses import asdict, dataclass

from ...models.spec.engine import EngineSpec
from ...models.spec.errors import check_int
from ...models.spec.record import Field, Record

__all__ = ["Channel", "KernelSpec"]

_MAX_BUS_BYTES = 128
_MAX_CHANNELS = 8
_RESERVED = ("axi",)


@dataclass(frozen=True)
class Channel:
    """An AXI4-Stream that carries records, each of which begins on a beat of its own.

    ``kind``: ``operand`` (``s_axis_<name>`` into the engine's ``i_<name>``), ``buffer`` (``s_axis_<name>`` into the memory
    behind ``x_<name>``) or ``result`` (``m_axis_<name>`` from ``o_<name>``).
    """

    name: str
    kind: str
    record: Record
    bus_bytes: int
    doc: str = ""

    @property
    def prefix(self):
        return f"{'m' if self.kind == 'result' else 's'}_axis_{self.name}"

    @property
    def beats(self):
        """Beats of the bus for one record; the last is filled up with bytes that mean nothing (results: 0)."""
        return -(-self.record.bytes // self.bus_bytes)

    @property
    def stride(self):
        """Bytes from one record to the next, in the stream and so in memory."""
        return self.beats * self.bus_bytes


@dataclass(frozen=True, kw_only=True)
class KernelSpec:
    """Build parameters of a kernel around one engine.

    ``queue``: jobs that wait, and completions that wait to be read; a power of two. ``bus_bytes``: width of an AXI4-Stream by
    name, a power of two of 1..128; by default the smallest that carries a record in one beat, so that the engine runs at its
    own rate.
    """

    build: EngineSpec
    queue: int = 4
    bus_bytes: tuple = ()

    def __post_init__(self):
        if not isinstance(self.build, EngineSpec):
            raise TypeError(f"build must be an engine's build parameters, got {self.build!r}")
        check_int("queue", self.queue, 2, 64)
        if self.queue & (self.queue - 1):
            raise ValueError(f"queue must be a power of two, got {self.queue}")
        widths = dict(self.bus_bytes)
        object.__setattr__(self, "bus_bytes", tuple(sorted(widths.items())))
        names = [channel.name for channel in self.channels]
        for name, width in self.bus_bytes:
            if name not in names:
                raise ValueError(f"bus_bytes must name one of {', '.join(names)}, got {name!r}")
            check_int(f"bus_bytes of {name}", width, 1, _MAX_BUS_BYTES)
            if width & (width - 1):
                raise ValueError(f"bus_bytes of {name} must be a power of two, got {width}")
        if len(set(names)) != len(names) or set(names) & set(_RESERVED):
            raise ValueError(f"streams and buffers must have different names, none called {_RESERVED[0]}, got {', '.join(names)}")
        for kind in (self.operands, self.loads, self.results):
            if len(kind) > _MAX_CHANNELS:
                raise ValueError(f"streams of a kind must be at most {_MAX_CHANNELS}, got {len(kind)}")

    def _channel(self, name, kind, record, doc):
        whole = min(_MAX_BUS_BYTES, 1 << (record.bytes - 1).bit_length())
        return Channel(name, kind, record, dict(self.bus_bytes).get(name, whole), doc)

    @property
    def operands(self):
        """Channels of the engine's operand streams."""
        return tuple(self._channel(s.name, "operand", s.record, s.doc) for s in self.build.inputs)

    @property
    def loads(self):
        """Channels that fill the engine's buffers: a record is a word of the buffer."""
        return tuple(self._channel(b.name, "buffer", Record((Field("data", b.width),)), b.doc) for b in self.build.buffers)

    @property
    def results(self):
        """Channels of the engine's results."""
        return tuple(self._channel(s.name, "result", s.record, s.doc) for s in self.build.outputs)

    @property
    def channels(self):
        return self.operands + self.loads + self.results

    @property
    def full_rate(self):
        """Whether operands and results move a record a beat: then the engine's own closed forms hold for the kernel."""
        return all(channel.beats == 1 for channel in self.operands + self.results)

    def config(self):
        """The resolved parameters, plain enough for JSON."""
        return {"engine": self.build.name, "build": asdict(self.build), "queue": self.queue,
                "bus_bytes": {channel.name: channel.bus_bytes for channel in self.channels}}

    @property
    def digest(self):
        """64 bits of SHA-256 over :meth:`config`: software refuses a kernel that is not the one it was made for."""
        text = json.dumps(self.config(), sort_keys=True, separators=(",", ":"))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")

    # Closed forms, held by a test: nothing refuses, operands and buffers wait in the kernel -----------------------------------
    start_latency = 2
    """Clock edges from the write of GO (address and data together) to the idle engine's acceptance of the job. From there the
    engine's own ``cycles`` and ``cycles_back_to_back`` hold."""

    def last_latency(self, name):
        """Clock edges from a job's ``done`` to the transfer of the beat with TLAST on the result stream ``name``."""
        return next(channel.beats for channel in self.results if channel.name == name)
