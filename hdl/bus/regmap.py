"""The registers of a kernel, described once: the gates, the documents and the headers are all made from this table."""

from dataclasses import asdict, dataclass
from importlib import metadata

__all__ = [
    "BitField", "Register", "RegisterMap", "register_map",
    "ERROR_BITS", "FIRST_FRAMING_BIT", "FIRST_OVERLONG_BIT", "FIRST_LOAD_BIT", "WORD_BITS",
]

WORD_BITS = 32
_WORD_BYTES = WORD_BITS // 8
_ID = int.from_bytes(b"SPLM", "little")
_FIRST_CAPABILITY = 0x040
_BLOCK = 0x100
FIRST_LOAD_BIT = 8
"""Place of the first buffer in GO."""
FIRST_FRAMING_BIT, FIRST_OVERLONG_BIT = 8, 24
"""Places of the first incoming stream, and of the first buffer, in ERROR."""
ERROR_BITS = ("push_refused", "pop_empty", "job_range", "bad_access")

ACCESSES = {
    "constant": "read only, never changes",
    "read": "read only",
    "read_write": "reads back what was written",
    "clear": "write 1 to a bit to clear it",
    "write": "acts when written, reads as 0",
}


@dataclass(frozen=True)
class BitField:
    """``width`` bits of a register from bit ``low`` up."""

    name: str
    low: int
    width: int
    doc: str

    @property
    def mask(self):
        return ((1 << self.width) - 1) << self.low


@dataclass(frozen=True)
class Register:
    """A 32-bit word at byte ``offset``; ``access`` is a key of ``ACCESSES``; ``value`` is given for constants alone.

    ``signed``: reads and writes are two's complement over the whole word. ``checked``: a written value that does not fit sets
    ERROR.job_range.
    """

    name: str
    offset: int
    access: str
    fields: tuple[BitField, ...]
    doc: str
    value: int | None = None
    signed: bool = False
    checked: bool = False

    @property
    def mask(self):
        return sum(field.mask for field in self.fields)


@dataclass(frozen=True)
class Slice:
    """A register that holds ``width`` bits of a record from bit ``low`` up."""

    register: str
    low: int
    width: int


@dataclass(frozen=True)
class RegisterMap:
    """All registers by rising offset, and how job and completion records are cut into them."""

    registers: tuple[Register, ...]
    job: tuple[Slice, ...]
    done: tuple[Slice, ...]

    def __getitem__(self, name):
        return next(register for register in self.registers if register.name == name)

    def words(self, pieces, record):
        """``{register: word}`` of an encoded record, cut into ``pieces`` (``job`` or ``done``); signed fields fill the word."""
        words = {}
        for piece in pieces:
            word = record >> piece.low & ((1 << piece.width) - 1)
            negative = self[piece.register].signed and word >> (piece.width - 1)
            words[piece.register] = word - (negative << piece.width) & ((1 << WORD_BITS) - 1)
        return words

    @property
    def addr_width(self):
        """Bits of a byte address; the map fills 2**addr_width bytes from a base aligned to that."""
        return self.registers[-1].offset.bit_length()

    def to_dict(self):
        """Plain data for JSON: sizes in bits and bytes, offsets in bytes from the base."""
        return {
            "addr_width": self.addr_width, "word_bits": WORD_BITS, "accesses": ACCESSES,
            "registers": [asdict(register) for register in self.registers],
            "job": [asdict(piece) for piece in self.job], "done": [asdict(piece) for piece in self.done],
        }


def register_map(spec):
    """The :class:`RegisterMap` of a :class:`~sparseloom.hdl.bus.kernel_spec.KernelSpec`."""
    registers = [*_control(spec), *_capabilities(spec)]
    job, job_registers = _record(spec.build.job_record, "JOB", "read_write", _next_block(registers))
    registers += job_registers
    done, done_registers = _record(spec.build.done_record, "DONE", "read", _next_block(registers))
    return RegisterMap((*registers, *done_registers), job, done)


def _next_block(registers):
    return (registers[-1].offset // _BLOCK + 1) * _BLOCK


def _word(name, offset, access, doc, value=None):
    return Register(name, offset, access, (BitField("value", 0, WORD_BITS, doc),), doc, value)


def _control(spec):
    loads = [channel.name for channel in spec.loads]
    incoming = [channel.name for channel in spec.operands + spec.loads]
    error = [
        BitField("push_refused", 0, 1, "GO was written while the job queue was full or CONTROL.reset set; the job was dropped"),
        BitField("pop_empty", 1, 1, "POP was written while no completion waited"),
        BitField("job_range", 2, 1, "a JOB register was written with a value that it cannot hold"),
        BitField("bad_access", 3, 1, "an access was answered with SLVERR or DECERR"),
        *(BitField(f"framing_{name}", FIRST_FRAMING_BIT + i, 1, f"s_axis_{name}: TLAST or a null byte within a record")
          for i, name in enumerate(incoming)),
        *(BitField(f"overlong_{name}", FIRST_OVERLONG_BIT + i, 1, f"s_axis_{name}: a packet longer than the buffer, cut off")
          for i, name in enumerate(loads)),
    ]
    status = [
        BitField("idle", 0, 1, "no job waits or runs"),
        BitField("quiet", 1, 1, "no result stream has anything to send; with CONTROL.reset set: the reset is complete"),
        BitField("queue_level", 8, 8, f"jobs waiting in the queue, 0..{spec.queue}"),
        BitField("done_level", 16, 8, f"completions waiting to be read, 0..{spec.queue}"),
        *(BitField(f"loaded_{name}", 24 + i, 1, f"a packet of buffer {name} waits for its job") for i, name in enumerate(loads)),
    ]
    irq = [BitField("done", 0, 1, "a completion was added to those waiting"), BitField("error", 1, 1, "a bit of ERROR was set")]
    go = [
        BitField("push", 0, 1, "1: put the JOB registers as one job into the queue"),
        *(BitField(f"load_{name}", FIRST_LOAD_BIT + i, 1,
                   f"1: the job waits for the next packet of buffer {name}; 0: it reads what the job before it read")
          for i, name in enumerate(loads)),
    ]
    version = _version()
    return [
        _word("ID", 0x00, "constant", "the letters SPLM", _ID),
        Register("VERSION", 0x04, "constant", (
            BitField("patch", 0, 8, "patch"), BitField("minor", 8, 8, "minor"), BitField("major", 16, 8, "major"),
        ), "version of the generator", version[0] << 16 | version[1] << 8 | version[2]),
        _word("DIGEST_LOW", 0x08, "constant", "digest of the build, low half", spec.digest & 0xFFFFFFFF),
        _word("DIGEST_HIGH", 0x0C, "constant", "digest of the build, high half", spec.digest >> 32),
        Register("CONTROL", 0x10, "read_write", (
            BitField("reset", 0, 1, "1: drop all jobs, accept and drop whatever arrives, close open result packets. Stop what "
                     "sends to the kernel, wait for STATUS.quiet, then write 0"),
        ), "control"),
        Register("STATUS", 0x14, "read", tuple(status), "state of the kernel"),
        Register("ERROR", 0x18, "clear", tuple(error), "errors since they were cleared"),
        Register("IRQ_STATUS", 0x1C, "clear", tuple(irq), "causes of the interrupt"),
        Register("IRQ_ENABLE", 0x20, "read_write", tuple(irq), "which causes raise the port irq"),
        Register("GO", 0x24, "write", tuple(go), "start a job"),
        Register("POP", 0x28, "write", (BitField("pop", 0, 1, "1: drop the completion shown in the DONE registers"),),
                 "next completion"),
    ]


def _capabilities(spec):
    values = {"queue": spec.queue, **spec.config()["build"]}
    entries = []
    for index, (name, value) in enumerate(values.items()):
        doc = f"{name} = {value}"
        if isinstance(value, str):
            doc += " (its first four letters, the first in the low byte)"
            value = int.from_bytes(value.encode("ascii")[:_WORD_BYTES], "little")
        entries.append(_word(f"CAP_{name.upper()}", _FIRST_CAPABILITY + index * _WORD_BYTES, "constant", doc, int(value)))
    return entries


def _record(record, prefix, access, base):
    """Registers from ``base`` for a record: one a field, several where it has lanes or more than 32 bits."""
    pieces, registers, low = [], [], 0
    for field in record.fields:
        for lane in range(field.lanes):
            for start in range(0, field.width, WORD_BITS):
                width = min(WORD_BITS, field.width - start)
                name = f"{prefix}_{field.name.upper()}"
                name += f"_{lane}" if field.lanes > 1 else ""
                name += f"_W{start // WORD_BITS}" if field.width > WORD_BITS else ""
                doc = field.doc or field.name
                pieces.append(Slice(name, low + start, width))
                top = start + width == field.width
                registers.append(Register(
                    name, base + len(registers) * _WORD_BYTES, access, (BitField("value", 0, width, doc),), doc,
                    signed=field.signed and top, checked=access == "read_write"))
            low += field.width
    return tuple(pieces), registers


def _version():
    return [int(part) for part in metadata.version("sparseloom").split(".")[:3]]
