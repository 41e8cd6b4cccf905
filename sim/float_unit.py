"""An engine that streams pairs of numbers through one float unit: what its tests by the million run on."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component

from ..hdl.common.countdown import Countdown
from ..hdl.common.delay import delay
from ..hdl.common.fifo import Fifo
from ..hdl.common.job_shell import JobShell
from ..hdl.common.ports import EngineSignature
from ..hdl.export import export
from ..hdl.nm_train.float_add import FloatAdd
from ..hdl.nm_train.float_multiply import FloatMultiply
from ..hdl.nm_train.float_product import FloatProduct
from ..hdl.nm_train.round_bf16 import round_bf16
from ..models.formats.engines import Image
from ..models.spec.engine import EngineSpec, Job, Stream
from ..models.spec.errors import check_choice, check_int
from ..models.spec.floats import ADD_LATENCY, MULTIPLY_LATENCY, PRODUCT_LATENCY
from ..models.spec.record import Field, Record

__all__ = ["CORNERS", "FloatUnit", "FloatUnitGates", "FloatUnitJob", "UNITS", "draw_pairs", "float_unit_design",
           "float_unit_image", "float_unit_results"]

UNITS = {"add": (FloatAdd, ADD_LATENCY), "multiply": (FloatMultiply, MULTIPLY_LATENCY),
         "product": (FloatProduct, PRODUCT_LATENCY), "round": (None, 0)}
"""Component and latency."""
_DEPTH = 16

_MAGNITUDES = (
    0, 1, 2, 3, 0x7FFFFF, 0x400000, 0x800000, 0x800001, 0xFFFFFF, 0x1000000, 0x0C000000, 0x1FC00000, 0x20000000, 0x20000001,
    0x33800000, 0x33800001, 0x34000000, 0x3EFFFFFF, 0x3F7FFFFF, 0x3F800000, 0x3F800001, 0x3F808000, 0x3F818000, 0x3F80FFFF,
    0x3FFFFFFF, 0x4B000001, 0x4B7FFFFF, 0x4B800000, 0x5F800000, 0x7F7F7FFF, 0x7F7F8000, 0x7F7FFFFF, 0x7F800000, 0x7F800001,
    0x7FBFFFFF, 0x7FC00000, 0x7FC00001, 0x7FFFFFFF,
)
CORNERS = np.array([sign | magnitude for magnitude in _MAGNITUDES for sign in (0, 1 << 31)], np.uint32)
"""Zeros, the ends of subnormal and normal numbers, ties of both roundings, square roots of the smallest, infinity, NaNs."""


@dataclass(frozen=True, kw_only=True)
class FloatUnitJob(Job):
    """``n`` pairs."""

    n: int


@dataclass(frozen=True, kw_only=True)
class FloatUnit(EngineSpec):
    """``unit``: add, multiply (float32), product (bfloat16, in the low halves), round (the first one to bfloat16)."""

    name: ClassVar[str] = "float_unit"
    job_class: ClassVar[type] = FloatUnitJob

    unit: str = "add"

    def __post_init__(self):
        check_choice("unit", self.unit, UNITS)

    @property
    def job_record(self):
        return Record((Field("tag", 8), Field("n", 32)))

    @property
    def inputs(self):
        return (Stream("x", Record((Field("a", 32), Field("b", 32)))),)

    @property
    def buffers(self):
        return ()

    @property
    def outputs(self):
        return (Stream("y", Record((Field("data", 32),))),)

    def job(self, **shape):
        job = FloatUnitJob(**shape)
        check_int("n", job.n, 1, (1 << 32) - 1)
        return job

    def job_values(self, job):
        return {"tag": job.tag, "n": job.n}

    def beats(self, stream, job):
        return job.n

    def cycles(self, job):
        """A pair a cycle; two registers around the unit, the queue, the completion."""
        return job.n + UNITS[self.unit][1] + 6


class FloatUnitGates(Component):
    """A register, the unit, a register, a queue; a pair is taken when there is a place for its result."""

    def __init__(self, build):
        self.build = build
        super().__init__(EngineSignature(build))

    def elaborate(self, platform):
        m = Module()
        m.submodules.shell = shell = JobShell(self.build)
        m.submodules.queue = queue = Fifo(32, _DEPTH)
        source, out, n = self.i_x, self.o_y, (1 << 32) - 1
        wanted, free, take, give = Signal(), Signal(range(_DEPTH + 1), init=_DEPTH), Countdown(n, "take"), Countdown(n, "give")
        took, gave = source.valid & source.ready, out.valid & out.ready
        a, b, result = (Signal(32, name=name, reset_less=True) for name in ("a", "b", "result"))
        kind, latency = UNITS[self.build.unit]
        m.d.sync += [a.eq(source.payload.a), b.eq(source.payload.b), free.eq(free + gave - took)]
        if kind:
            m.submodules.unit = unit = kind()
            m.d.comb += [unit.a.eq(a[: len(unit.a)]), unit.b.eq(b[: len(unit.b)])]
        m.d.sync += result.eq(unit.o if kind else round_bf16(a))
        m.d.comb += [
            *shell.ports(self),
            source.ready.eq(wanted & free.any()), shell.stall_i.eq(source.ready & ~source.valid),
            shell.stall_o.eq(out.valid & ~out.ready), shell.refuse.eq(shell.waiting.n == 0), shell.finish.eq(gave & give.last),
            queue.i.valid.eq(delay(m, took, latency + 2, "put", reset_less=False)), queue.i.payload.eq(result),
            out.payload.data.eq(queue.o.payload), out.valid.eq(queue.o.valid), queue.o.ready.eq(out.ready),
        ]
        with m.If(took):
            m.d.sync += [*take.advance(), wanted.eq(~take.last)]
        with m.If(gave):
            m.d.sync += give.advance()
        with m.If(shell.start):
            m.d.sync += [*take.load(shell.current.n), *give.load(shell.current.n), wanted.eq(1)]
        return m


def float_unit_design(build):
    """The exported gates of a :class:`FloatUnit`."""
    return export(FloatUnitGates(build), "float_unit")


def float_unit_image(a, b):
    """Pairs of uint32 (or uint16) patterns at the ports."""
    pairs = np.stack([np.asarray(a, "<u4"), np.asarray(b, "<u4")], axis=1)
    return Image(streams={"x": np.ascontiguousarray(pairs).view(np.uint8)}, buffers={})


def float_unit_results(receipt):
    """uint32 patterns that came out."""
    return np.ascontiguousarray(receipt.outputs["y"]).view("<u4")[:, 0]


def draw_pairs(rng, n, unit):
    """(a, b): ``n`` pairs of patterns for ``unit``: random bits, random bits in few exponents, exponents that are close, products
    near the smallest numbers, corners with anything."""
    a, b = rng.integers(0, 1 << 32, (2, n), np.uint32)
    kind = rng.integers(0, 7, n)
    magnitude, rest = (a >> 23 & 255).astype(np.int64), b & 0x807FFFFF
    near = (magnitude + rng.integers(-27, 28, n)).clip(0, 255).astype(np.uint32) << 23 | rest
    # Products of 2**-154 to 2**-120.
    small = (2 * 127 - 154 - magnitude + rng.integers(0, 35, n)).clip(0, 255).astype(np.uint32) << 23 | rest
    # Long runs of equal bits: ties, carries, cancellation.
    runs = (0xFFFFFFFF << rng.integers(0, 24, n)).astype(np.uint32)
    b = np.select([kind == 1, kind == 2, kind == 3], [near, small, near & runs], b)
    a = np.select([kind == 3, kind == 4], [a & runs, a & 0x80FFFFFF], a)
    a, b = np.where(kind == 5, rng.choice(CORNERS, n), a), np.where(rng.integers(0, 8, n) == 0, rng.choice(CORNERS, n), b)
    # Zeros and the smallest numbers among themselves.
    least = kind == 6
    a, b = (np.where(least, rng.choice(CORNERS[:6], n), part) for part in (a, b))
    return (a >> 16, b >> 16) if unit == "product" else (a, b)
