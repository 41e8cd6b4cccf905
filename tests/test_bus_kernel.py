"""The stand-alone kernel around small engines, in pysim: values, packets, closed forms, resets."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component
from amaranth.sim import Simulator

from sparseloom.hdl.bus.job_control import JobControl
from sparseloom.hdl.bus.kernel import Kernel
from sparseloom.hdl.bus.kernel_spec import KernelSpec
from sparseloom.hdl.common.ports import EngineSignature
from sparseloom.hdl.common.stream_register import StreamRegister
from sparseloom.hdl.export import export
from sparseloom.models.spec.engine import COUNTERS, EngineSpec, Job, Status, Stream
from sparseloom.models.spec.record import Field, Record
from sparseloom.sim.kernel_bench import KernelBench
from sparseloom.sim.lint import lint
from sparseloom.sim.toy import Toy, ToyGates, toy_image, toy_results

BUILD = Toy(width=40, max_n=9)
NARROW = {"w": 2, "act": 4, "y": 1}

pytestmark = pytest.mark.rtl


def bench_of(stall=0.0, seed=0, build=BUILD, **kernel):
    return KernelBench(KernelSpec(build=build, **kernel), ToyGates(build), stall=stall, seed=seed)


def image_of(job, seed):
    return toy_image(BUILD, job, np.random.default_rng(seed))


async def whole_jobs(bench, count=6, seed=3):
    """Random jobs pushed ahead as far as the queue takes them; every value, packet and completion is checked."""
    rng = np.random.default_rng(seed)
    jobs = [BUILD.draw_job(rng) for _ in range(count)]
    images = [image_of(job, index) for index, job in enumerate(jobs)]
    for image in images:
        bench.send("act", image.buffers["act"])
        bench.send("w", image.streams["w"])
    completions = []
    for job in jobs:
        while await bench.field("STATUS", "queue_level") == bench.spec.queue:
            completions.append(await bench.pop())
        await bench.push(job)
    while len(completions) < count:
        completions.append(await bench.pop())
    assert [c["tag"] for c in completions] == [job.tag for job in jobs]
    for completion in completions:
        assert completion["status"] == Status.OK
        assert completion["cycles"] == completion["busy"] + completion["stall_i"] + completion["stall_x"] + completion["stall_o"]
    assert bench.results("y") == [*(toy_results(BUILD, image) for image in images), []]
    assert await bench.read("ERROR") == 0
    assert await bench.read("STATUS") & 0xFFFF03 == 3
    return jobs, completions


@pytest.mark.parametrize("bus", [{}, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("stall", [0.0, 0.5], ids=["free", "stalls"])
def test_random_jobs(bus, stall):
    bench_of(stall, 7, bus_bytes=bus, queue=2).run(whole_jobs)


@pytest.mark.parametrize("read_latency", [1, 3])
def test_read_latency_is_exact(read_latency):
    build = Toy(width=40, max_n=9, read_latency=read_latency)

    async def test(bench):
        job = build.job(n=9)
        image = toy_image(build, job, np.random.default_rng(1))
        bench.send("act", image.buffers["act"])
        bench.send("w", image.streams["w"])
        await bench.push(job)
        assert (await bench.pop())["cycles"] == build.cycles(job)
        assert bench.results("y")[0] == toy_results(build, image)

    bench_of(build=build).run(test)


def test_closed_forms():
    """Full rate: the engine's own cycles, no stall; the kernel's latencies as the spec states them."""
    async def test(bench):
        jobs = [BUILD.job(n=n, tag=n) for n in (9, 3, 1)]
        for job in jobs:
            await bench.push(job)
        for index, job in enumerate(jobs):
            image = image_of(job, index)
            bench.send("w", image.streams["w"])
            bench.send("act", image.buffers["act"])
        completions = [await bench.pop() for _ in jobs]
        assert [c["cycles"] for c in completions] == [BUILD.cycles(job) for job in jobs]
        assert all(c["busy"] == c["cycles"] for c in completions)
        accepted, done, last = ([cycle for cycle, what in bench.events if what == kind] for kind in ("job", "done", "last"))
        assert accepted[1] < done[0] and accepted[2] < done[1]
        assert [b - a for a, b in zip(done, done[1:], strict=False)] == [BUILD.cycles_back_to_back(job) for job in jobs[1:]]
        assert [b - a for a, b in zip(done, last, strict=True)] == [bench.spec.last_latency("y")] * 3

    bench_of().run(test)


@pytest.mark.parametrize("load", [True, False])
def test_start_latency(load):
    async def test(bench):
        bench.send("act", [bytes(5)])
        await bench.write("JOB_N", 1)
        before = bench.cycle
        await bench.write("GO", 1 | load << 8)
        while not bench.events:
            await bench.wait(1)
        # An idle subordinate takes address and data in the cycle after the last one counted.
        assert bench.events[0] == (before + 1 + bench.spec.start_latency, "job")

    bench_of().run(test)


@pytest.mark.parametrize("bus", [{}, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("when", range(20, 60, 5))
def test_soft_reset(bus, when):
    """Results refused, operands on their way: the streams keep to their rules, then the next job is whole."""
    async def test(bench):
        job = BUILD.job(n=9, tag=1)
        for index in range(3):
            image = image_of(job, index)
            bench.send("act", image.buffers["act"])
            bench.send("w", image.streams["w"])
            await bench.push(job)
        await bench.wait(when)
        bench.closed = True
        await bench.wait(12)
        await bench.write("CONTROL", 1)
        await bench.write("GO", 1)
        assert await bench.read("ERROR") == 1 << 0
        while any(bench.to_send.values()):
            await bench.wait(1)
        started = len(bench.packets["y"]) > 1 or bench.packets["y"][0] or bench.get("m_axis_y_tvalid")
        if bench.get("m_axis_y_tvalid"):
            assert not await bench.field("STATUS", "quiet")
        bench.closed = False
        while not await bench.field("STATUS", "quiet"):
            pass
        assert started and bench.packets["y"][-1] == []
        assert await bench.read("STATUS") == 3
        await bench.write("CONTROL", 0)
        await bench.write("ERROR", 0xFFFFFFFF)
        bench.packets["y"][:] = [[]]
        await whole_jobs(bench, count=2)

    bench_of(bus_bytes=bus).run(test)


def test_a_buffer_is_swapped_as_done_is_first_offered():
    """The engine may read for the next job from then on, even while the kernel still refuses ``done`` for a packet on its way."""
    control = JobControl(KernelSpec(build=BUILD))

    async def test(ctx):
        ctx.set(control.push.valid, 1)
        ctx.set(control.push.payload.load, 1)
        ctx.set(control.loaded, 1)
        ctx.set(control.job.ready, 1)
        await ctx.tick().repeat(3)
        ctx.set(control.push.valid, 0)
        ctx.set(control.done.valid, 1)
        ctx.set(control.held, 1)
        # The first done is taken and its packet waits; the second is refused, but the buffer of the third job comes at once.
        _, _, ready, take = await ctx.tick().sample(control.done.ready, control.take)
        assert (ready, take) == (1, 1)
        for expected in (1, 0, 0):
            _, _, ready, take = await ctx.tick().sample(control.done.ready, control.take)
            assert (ready, take) == (0, expected)
        ctx.set(control.sent, 1)
        _, _, finished = await ctx.tick().sample(control.finished)
        assert finished
        _, _, ready, take = await ctx.tick().sample(control.done.ready, control.take)
        assert (ready, take) == (1, 0)

    simulator = Simulator(control)
    simulator.add_clock(1e-6)
    simulator.add_testbench(test)
    simulator.run()


@dataclass(frozen=True, kw_only=True)
class PairJob(Job):
    """s[i] = a[i] + b[i] for i < n on ``s``; of these the odd ones on ``odd``."""

    n: int


@dataclass(frozen=True, kw_only=True)
class Pair(EngineSpec):
    """As unlike the toy engine as the contract allows: no buffer, two operands, two results, signed and wide fields."""

    name: ClassVar[str] = "pair"
    job_class: ClassVar[type] = PairJob

    job_record = Record((Field("tag", 8), Field("offset", 12, True), Field("n", 40)))
    done_record = Record((*COUNTERS, Field("least", 10, True, 2)))
    inputs = tuple(Stream(name, Record((Field("data", bits),))) for name, bits in (("a", 16), ("b", 8)))
    buffers = ()
    outputs = tuple(Stream(name, Record((Field("sum", 20),))) for name in ("s", "odd"))

    def job_values(self, job):
        return {"tag": job.tag, "offset": -job.tag, "n": job.n}


class PairGates(Component):
    def __init__(self, build):
        super().__init__(EngineSignature(build))

    def elaborate(self, platform):
        m = Module()
        left, running, put = Signal(40), Signal(), Signal()
        total = self.i_a.payload.data + self.i_b.payload.data
        m.submodules.s = s = StreamRegister(self.o_s.payload.shape())
        m.submodules.odd = odd = StreamRegister(self.o_odd.payload.shape())
        for register, port in ((s, self.o_s), (odd, self.o_odd)):
            m.d.comb += [
                register.i.payload.sum.eq(total), port.payload.eq(register.o.payload), port.valid.eq(register.o.valid),
                register.o.ready.eq(port.ready),
            ]
        done = self.done.payload
        m.d.comb += [
            put.eq(running & (left != 0) & self.i_a.valid & self.i_b.valid & s.i.ready & odd.i.ready),
            self.i_a.ready.eq(put), self.i_b.ready.eq(put), s.i.valid.eq(put), odd.i.valid.eq(put & total[0]),
            self.job.ready.eq(~running), self.done.valid.eq(running & (left == 0) & ~s.o.valid & ~odd.o.valid),
            done.least[0].eq(-5), done.least[1].eq(done.tag.as_signed()),
        ]
        with m.If(self.job.valid & ~running):
            job = self.job.payload
            m.d.sync += [left.eq(job.n), running.eq(1), done.tag.eq(job.tag), done.cycles.eq(job.offset)]
        with m.If(put):
            m.d.sync += left.eq(left - 1)
        with m.If(self.done.valid & self.done.ready):
            m.d.sync += running.eq(0)
        return m


@pytest.mark.parametrize("stall", [0.0, 0.5], ids=["free", "stalls"])
def test_any_shape_of_engine(stall):
    """No buffers, several streams, jobs without any result on one of them, lanes and fields wider than a register."""
    build, spec = Pair(), KernelSpec(build=Pair(), bus_bytes={"s": 1})

    async def test(bench):
        rng = np.random.default_rng(2)
        work = [(rng.integers(0, 1 << 16, n), rng.integers(0, 1 << 8, n)) for n in (3, 1, 4, 2, 5)]
        work[1] = np.array([2]), np.array([4])
        odd = []
        for tag, (a, b) in enumerate(work):
            bench.send("a", [int(value).to_bytes(2, "little") for value in a])
            bench.send("b", [bytes([value]) for value in b])
            await bench.push(PairJob(n=len(a), tag=tag))
            done = await bench.pop()
            assert (done["tag"], done["least"]) == (tag, [-5, tag]) and done["cycles"] == -tag % (1 << 32)
            assert await bench.read("JOB_OFFSET") == -tag % (1 << 32) and await bench.read("JOB_N_W1") == 0
            odd += [[{"sum": int(total)} for total in a + b if total % 2]]
        assert bench.results("s") == [*([{"sum": int(total)} for total in a + b] for a, b in work), []]
        assert bench.results("odd") == [*(packet for packet in odd if packet), []] and odd[1] == []
        assert await bench.read("ERROR") == 0

    KernelBench(spec, PairGates(build), stall=stall, seed=4).run(test)


@pytest.mark.parametrize("spec, engine", [
    (KernelSpec(build=BUILD), ToyGates(BUILD)), (KernelSpec(build=BUILD, bus_bytes=NARROW), ToyGates(BUILD)),
    (KernelSpec(build=Pair()), PairGates(Pair())),
], ids=["wide", "narrow", "no buffers"])
def test_the_verilog_is_clean(spec, engine):
    """AMBA's names alone at the top, and nothing that Verilator's lint objects to."""
    design = export(Kernel(spec, engine), "kernel")
    assert {port.name for port in design.ports} >= {"aclk", "aresetn", "irq", "s_axi_awaddr", "s_axi_wstrb"}
    assert {port.name.split("_")[0] for port in design.ports} == {"aclk", "aresetn", "irq", "s", "m"}
    assert lint(design) == []


@pytest.mark.parametrize("settings, said", [
    ({"queue": 3}, "queue must be a power of two, got 3"), ({"queue": 1}, "queue must be 2..64, got 1"),
    ({"bus_bytes": {"w": 3}}, "bus_bytes of w must be a power of two, got 3"),
    ({"bus_bytes": {"w": 256}}, "bus_bytes of w must be 1..128, got 256"),
    ({"bus_bytes": {"v": 4}}, "bus_bytes must name one of w, act, y, got 'v'"),
])
def test_parameters_are_checked(settings, said):
    with pytest.raises(ValueError, match=said):
        KernelSpec(build=BUILD, **settings)


def test_a_kernel_wants_an_engine():
    with pytest.raises(TypeError, match="build must be an engine's build parameters, got 7"):
        KernelSpec(build=7)
