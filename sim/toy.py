"""The smallest engine that meets the contract: adds a buffer's words to an operand stream. The harness is tested on it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO

from ..hdl.common.ports import EngineSignature, layout
from ..hdl.export import export
from ..models.formats.engines import Image
from ..models.spec.engine import COUNTERS, Buffer, EngineSpec, Job, Status, Stream
from ..models.spec.errors import check_int
from ..models.spec.record import Field, Record

__all__ = ["Toy", "ToyJob", "ToyGates", "toy_design", "toy_image", "toy_results"]

JOB_QUEUE = 2


@dataclass(frozen=True, kw_only=True)
class ToyJob(Job):
    """y[i] = w[i] + act[i] for i < ``n``."""

    n: int


@dataclass(frozen=True, kw_only=True)
class Toy(EngineSpec):
    """Build parameters: ``width`` bits an operand (a multiple of 8)."""

    name: ClassVar[str] = "toy"
    job_class: ClassVar[type] = ToyJob

    width: int = 16
    max_n: int = 50
    read_latency: int = 2

    def __post_init__(self):
        check_int("width", self.width, 8, 1024)
        check_int("max_n", self.max_n, 1, 1 << 15)
        check_int("read_latency", self.read_latency, 1, 4)

    @property
    def job_record(self):
        return Record((Field("tag", 8), Field("n", 16)))

    @property
    def inputs(self):
        return (Stream("w", Record((Field("data", self.width),))),)

    @property
    def buffers(self):
        return (Buffer("act", self.width, self.max_n, self.read_latency),)

    @property
    def outputs(self):
        return (Stream("y", Record((Field("index", 16), Field("sum", self.width + 1)))),)

    def job(self, **shape):
        job = ToyJob(**shape)
        check_int("n", job.n, 1, self.max_n)
        return job

    def job_values(self, job):
        return {"tag": job.tag, "n": job.n}

    def draw_job(self, rng):
        return self.job(n=int(rng.integers(1, self.max_n + 1)), tag=int(rng.integers(256)))

    def beats(self, stream, job):
        return job.n

    def cycles(self, job):
        """For each word: the request, ``read_latency`` cycles to the data, the sum; then ``done``."""
        return job.n * (self.read_latency + 2) + 1

    cycles_back_to_back = cycles


class ToyGates(wiring.Component):
    """One word at a time: request it, keep it, add it to the operand. Job queue, counters and ``done`` as the contract says."""

    def __init__(self, build):
        self.build = build
        super().__init__(EngineSignature(build))

    def elaborate(self, platform):
        m, build = Module(), self.build
        job = layout(build.job_record)
        m.submodules.queue = queue = SyncFIFO(width=build.job_record.bits, depth=JOB_QUEUE)
        m.d.comb += [queue.w_data.eq(self.job.payload.as_value()), queue.w_en.eq(self.job.valid), self.job.ready.eq(queue.w_rdy)]
        head = Signal(job)
        m.d.comb += head.as_value().eq(queue.r_data)

        index, word = Signal(range(build.max_n)), Signal(build.width, reset_less=True)
        data_due = Signal(build.read_latency)
        y, done = self.o_y, self.done
        counters = {field.name: Signal(field.width, name=field.name) for field in COUNTERS[2:]}
        m.d.comb += [done.payload.tag.eq(head.tag), *(done.payload[name].eq(value) for name, value in counters.items())]
        m.d.comb += [
            self.x_act.addr.eq(index), y.payload.index.eq(index), y.payload.sum.eq(self.i_w.payload.data + word),
        ]

        def count(name):
            m.d.sync += counters[name].eq(counters[name] + 1)

        m.d.sync += data_due.eq(Cat(self.x_act.valid & self.x_act.ready, data_due))
        with m.If(queue.r_rdy):
            count("cycles")
        with m.FSM():
            with m.State("REQUEST"):
                with m.If(queue.r_rdy & ((head.n == 0) | (head.n > build.max_n))):
                    m.d.sync += done.payload.status.eq(Status.ILLEGAL)
                    count("busy")
                    m.next = "DONE"
                with m.Elif(queue.r_rdy):
                    m.d.comb += self.x_act.valid.eq(1)
                    count_or_stall(m, count, self.x_act.ready, "stall_x")
                    with m.If(self.x_act.ready):
                        m.next = "FETCH"
            with m.State("FETCH"):
                count("busy")
                with m.If(data_due[-1]):
                    m.d.sync += word.eq(self.x_act.data)
                    m.next = "ADD"
            with m.State("ADD"):
                m.d.comb += [y.valid.eq(self.i_w.valid), self.i_w.ready.eq(y.ready)]
                with m.If(~self.i_w.valid):
                    count("stall_i")
                with m.Else():
                    count_or_stall(m, count, y.ready, "stall_o")
                with m.If(y.valid & y.ready):
                    m.d.sync += index.eq(index + 1)
                    m.next = "REQUEST"
                    with m.If(index == head.n - 1):
                        m.d.sync += [index.eq(0), done.payload.status.eq(Status.OK)]
                        m.next = "DONE"
            with m.State("DONE"):
                first_offer = Signal(init=1)
                m.d.comb += done.valid.eq(1)
                # The record must not change while it is refused, and it counts its own first offer.
                m.d.comb += [done.payload[name].eq(counters[name] + first_offer) for name in ("cycles", "busy")]
                m.d.sync += first_offer.eq(0)
                with m.If(first_offer):
                    count("busy")
                with m.Else():
                    m.d.sync += counters["cycles"].eq(counters["cycles"])
                with m.If(done.ready):
                    m.d.comb += queue.r_en.eq(1)
                    m.d.sync += [*(value.eq(0) for value in counters.values()), first_offer.eq(1)]
                    m.next = "REQUEST"
        return m


def count_or_stall(m, count, ready, cause):
    """Count a cycle as busy if ``ready``, else as a stall of ``cause``."""
    with m.If(ready):
        count("busy")
    with m.Else():
        count(cause)


def toy_design(build):
    """The exported gates of a :class:`Toy`."""
    return export(ToyGates(build), "toy")


def toy_image(build, job, rng):
    """Random operands of a job at the ports."""
    shape = (job.n, build.width // 8)
    return Image(streams={"w": rng.integers(0, 256, shape, np.uint8)}, buffers={"act": rng.integers(0, 256, shape, np.uint8)})


def toy_results(build, image):
    """What the engine must deliver: a list of {index, sum} from plain integers."""
    rows = zip(image.streams["w"], image.buffers["act"], strict=True)
    return [{"index": i, "sum": sum(int.from_bytes(bytes(part), "little") for part in row)} for i, row in enumerate(rows)]
