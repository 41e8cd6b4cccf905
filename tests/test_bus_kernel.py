"""The stand-alone kernel around the toy engine, in pysim: values, packets, closed forms, resets, registers, mutants."""

import importlib.util
import sys
from collections import deque
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from amaranth.sim import Simulator

from sparseloom.hdl.bus import core
from sparseloom.hdl.bus.kernel_spec import KernelSpec
from sparseloom.hdl.bus.regmap import register_map
from sparseloom.models.spec.engine import Status
from sparseloom.sim.toy import Toy, ToyGates, toy_image, toy_results

BUILD = Toy(width=40, max_n=9)
NARROW = {"w": 2, "act": 4, "y": 1}
OKAY, SLVERR, DECERR = 0, 2, 3
PERIOD = 1e-6
LIMIT = 6000

pytestmark = pytest.mark.rtl


async def until(ctx, condition, *values):
    """Cycles until ``condition`` holds at a clock edge; ``values`` at that edge. (Not ``tick().until``: a failing test may leave
    this at any time.)"""
    while True:
        _, _, holds, *seen = await ctx.tick().sample(condition, *values)
        if holds:
            return seen


class Bench:
    """A kernel in pysim with a driver on every port; ``stall`` is the probability of a pause in a cycle, on all of them;
    ``closed`` makes the result streams refuse everything."""

    def __init__(self, spec, stall=0.0, seed=0):
        self.spec, self.map = spec, register_map(spec)
        self.dut = core.KernelCore(spec, ToyGates(spec.build))
        self.stall, self.rng = stall, np.random.default_rng(seed)
        self.to_send = {channel.name: deque() for channel in spec.operands + spec.loads}
        self.packets = {channel.name: [[]] for channel in spec.results}
        self.closed, self.cycle, self.events = False, 0, []

    def run(self, test, limit=LIMIT):
        """Run ``test(bench)`` to its end; fails if it has not ended after ``limit`` cycles."""
        self.limit = limit
        simulator = Simulator(self.dut)
        simulator.add_clock(PERIOD)
        for channel in self.spec.channels:
            simulator.add_testbench(self._driver(channel), background=True)
        simulator.add_testbench(self._watch, background=True)
        ended = []

        async def main(ctx):
            self.ctx = ctx
            await test(self)
            ended.append(True)

        simulator.add_testbench(main)
        simulator.run()
        assert ended

    def _driver(self, channel):
        async def drive(ctx):
            await (self._receive if channel.kind == "result" else self._send)(ctx, channel)
        return drive

    def port(self, name):
        return getattr(self.dut, name)

    def get(self, name):
        return self.ctx.get(self.port(name))

    def pause(self):
        return self.stall and self.rng.random() < self.stall

    async def _watch(self, ctx):
        """Counts cycles, notes engine events and holds the senders to AXI4-Stream: what is offered stands until it is taken."""
        ports = {c.prefix: [self.port(f"{c.prefix}_{n}") for n in ("tvalid", "tready", "tdata", "tlast")]
                 for c in self.spec.results}
        offered, job, done = {}, self.dut.engine.job, self.dut.engine.done
        signals = [job.valid, job.ready, done.valid, done.ready, *(signal for port in ports.values() for signal in port)]
        async for _, _, job, job_ready, done, done_ready, *values in ctx.tick().sample(*signals):
            self.cycle += 1
            assert self.cycle < self.limit, "the kernel hangs"
            self.events += [(self.cycle, "job")] * (job & job_ready) + [(self.cycle, "done")] * (done & done_ready)
            for index, prefix in enumerate(ports):
                valid, ready, data, last = values[4 * index:4 * index + 4]
                if prefix in offered:
                    assert valid and (data, last) == offered[prefix], f"{prefix} changed while it was refused"
                offered.pop(prefix, None)
                if valid and not ready:
                    offered[prefix] = (data, last)
                if valid and ready and last:
                    self.events.append((self.cycle, "last"))

    async def _send(self, ctx, channel):
        queue, port = self.to_send[channel.name], lambda name: self.port(f"{channel.prefix}_{name}")
        while True:
            if not queue or self.pause():
                await ctx.tick()
                continue
            data, keep, last = queue.popleft()
            for name, value in (("tdata", data), ("tkeep", keep), ("tlast", last), ("tvalid", 1)):
                ctx.set(port(name), value)
            await until(ctx, port("tready"))
            ctx.set(port("tvalid"), 0)

    async def _receive(self, ctx, channel):
        packets, port = self.packets[channel.name], lambda name: self.port(f"{channel.prefix}_{name}")
        while True:
            ctx.set(port("tready"), int(not self.closed and not self.pause()))
            _, _, valid, ready, data, last = await ctx.tick().sample(*(port(n) for n in ("tvalid", "tready", "tdata", "tlast")))
            if valid and ready:
                packets[-1].append(int(data).to_bytes(channel.bus_bytes, "little"))
                if last:
                    packets.append([])

    def send(self, name, records, last=True):
        """Queue records (bytes each) as one packet, or as part of one."""
        channel = next(c for c in self.spec.channels if c.name == name)
        stream = b"".join(bytes(record).ljust(channel.stride, b"\xee") for record in records)
        beats = [stream[i:i + channel.bus_bytes] for i in range(0, len(stream), channel.bus_bytes)]
        keep = (1 << channel.bus_bytes) - 1
        self.to_send[name].extend((int.from_bytes(beat, "little"), keep, last and index == len(beats) - 1)
                                  for index, beat in enumerate(beats))

    def results(self, name):
        """The packets so far, each a list of decoded records; an open one is last."""
        channel = next(c for c in self.spec.channels if c.name == name)
        packets = []
        for packet in self.packets[name]:
            stream = b"".join(packet)
            records = [stream[i:i + channel.stride] for i in range(0, len(stream), channel.stride)]
            assert not any(any(record[channel.record.bytes:]) for record in records)
            packets.append([channel.record.from_bytes(record[:channel.record.bytes]) for record in records])
        return packets

    # AXI4-Lite --------------------------------------------------------------------------------------------------------
    async def _offer(self, channel, **values):
        for name, value in values.items():
            self.ctx.set(self.port(f"s_axi_{channel}{name}"), value)
        self.ctx.set(self.port(f"s_axi_{channel}valid"), 1)
        await until(self.ctx, self.port(f"s_axi_{channel}ready"))
        self.ctx.set(self.port(f"s_axi_{channel}valid"), 0)

    async def _answer(self, channel, *names):
        while self.pause():
            await self.ctx.tick()
        self.ctx.set(self.port(f"s_axi_{channel}ready"), 1)
        values = await until(self.ctx, self.port(f"s_axi_{channel}valid"), *(self.port(f"s_axi_{channel}{n}") for n in names))
        self.ctx.set(self.port(f"s_axi_{channel}ready"), 0)
        return values

    async def write_at(self, address, value, strobe=15, order="both"):
        """A write by byte address; ``order``: which of address and data comes first. Returns BRESP."""
        ctx = self.ctx
        if order == "both":
            for name, item in (("awaddr", address), ("awvalid", 1), ("wdata", value), ("wstrb", strobe), ("wvalid", 1)):
                ctx.set(self.port(f"s_axi_{name}"), item)
            await until(ctx, self.port("s_axi_awready") & self.port("s_axi_wready"))
            ctx.set(self.port("s_axi_awvalid"), 0)
            ctx.set(self.port("s_axi_wvalid"), 0)
        else:
            parts = [("aw", {"addr": address}), ("w", {"data": value, "strb": strobe})]
            for channel, values in parts if order == "address" else parts[::-1]:
                await self._offer(channel, **values)
                await ctx.tick()
                if channel == ("aw" if order == "address" else "w"):
                    assert not ctx.get(self.port("s_axi_bvalid")), "answered a half write"
        return int((await self._answer("b", "resp"))[0])

    async def read_at(self, address):
        await self._offer("ar", addr=address)
        data, resp = await self._answer("r", "data", "resp")
        return int(data), int(resp)

    async def write(self, name, value):
        assert await self.write_at(self.map[name].offset, value) == OKAY

    async def read(self, name):
        value, resp = await self.read_at(self.map[name].offset)
        assert resp == OKAY
        return value

    async def field(self, register, field):
        found = next(f for f in self.map[register].fields if f.name == field)
        return (await self.read(register) & found.mask) >> found.low

    async def push(self, job, load=True):
        word = self.spec.build.job_record.encode(self.spec.build.job_values(job))
        for piece in self.map.job:
            await self.write(piece.register, word >> piece.low & ((1 << piece.width) - 1))
        await self.write("GO", 1 | (0x100 if load else 0))

    async def pop(self):
        """The oldest completion, once there is one."""
        while not await self.field("STATUS", "done_level"):
            pass
        word = 0
        for piece in self.map.done:
            word |= await self.read(piece.register) << piece.low
        await self.write("POP", 1)
        return self.spec.build.done_record.decode(word)


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
    Bench(KernelSpec(build=BUILD, bus_bytes=bus, queue=2), stall, seed=7).run(whole_jobs)


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

    Bench(KernelSpec(build=build)).run(test)


def test_closed_forms():
    """Full rate: the engine's own cycles, no stall; the kernel's latencies as the spec states them."""
    spec = KernelSpec(build=BUILD)

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
        assert [b - a for a, b in zip(done, last, strict=True)] == [spec.last_latency("y")] * 3

    Bench(spec).run(test)


@pytest.mark.parametrize("load", [True, False])
def test_start_latency(load):
    spec = KernelSpec(build=BUILD)

    async def test(bench):
        bench.send("act", [bytes(5)])
        await bench.write("JOB_N", 1)
        before = bench.cycle
        await bench.write("GO", 1 | load << 8)
        while not bench.events:
            await bench.ctx.tick()
        # An idle subordinate takes address and data in the cycle after the last one counted.
        assert bench.events[0] == (before + 1 + spec.start_latency, "job")

    Bench(spec).run(test)


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
        await bench.ctx.tick().repeat(when)
        bench.closed = True
        await bench.ctx.tick().repeat(12)
        await bench.write("CONTROL", 1)
        await bench.write("GO", 1)
        assert await bench.read("ERROR") == 1 << 0
        while any(bench.to_send.values()):
            await bench.ctx.tick()
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

    Bench(KernelSpec(build=BUILD, bus_bytes=bus)).run(test)


@pytest.mark.parametrize("stall", [0.0, 0.4], ids=["free", "stalls"])
def test_registers(stall):
    """Every word of the map and every word between, in every order of the write channels."""
    async def test(bench):
        regmap = bench.map
        by_offset = {register.offset: register for register in regmap.registers}
        assert len(by_offset) == len(regmap.registers)
        for offset in range(0, 1 << regmap.addr_width, 4):
            register = by_offset.get(offset)
            value, resp = await bench.read_at(offset)
            assert resp == (OKAY if register else DECERR), hex(offset)
            assert value == 0 or register
            if register and register.access == "constant":
                assert value == register.value
            if register is None or register.access in ("constant", "read"):
                assert await bench.write_at(offset, 0xFFFFFFFF) == (SLVERR if register else DECERR)
                assert await bench.read_at(offset) == (value, resp)
            assert await bench.read_at(offset + 1 + offset // 4 % 3) == (value, resp), "the low address bits do not count"
        for register in regmap.registers:
            if register.access == "read_write" and register.name != "CONTROL":
                kept = 0
                for strobe, order in ((15, "data"), (1, "address"), (2, "data"), (12, "both"), (5, "address"), (0, "data")):
                    value = int(bench.rng.integers(1 << 32))
                    lanes = sum(255 << 8 * byte for byte in range(4) if strobe >> byte & 1)
                    kept = (kept & ~lanes | value & lanes) & register.mask
                    assert await bench.write_at(register.offset + strobe % 4, value, strobe, order) == OKAY
                    assert await bench.read(register.name) == kept

    Bench(KernelSpec(build=BUILD), stall, seed=5).run(test, 5 * LIMIT)


def test_errors_and_interrupt():
    async def test(bench):
        error = {field.name: field.mask for field in bench.map["ERROR"].fields}

        async def raised():
            """The errors since the last call, by name."""
            value = await bench.read("ERROR")
            await bench.write("ERROR", value)
            assert await bench.read("ERROR") == 0
            return {name for name, mask in error.items() if value & mask}

        await bench.write("POP", 1)
        assert await raised() == {"pop_empty"}
        await bench.read_at(0xFC)
        assert await raised() == {"bad_access"}
        await bench.write("JOB_TAG", 0x100)
        assert await raised() == {"job_range"}
        await bench.write_at(bench.map["JOB_TAG"].offset, 0x1FF, strobe=1)
        assert await raised() == set() and await bench.read("JOB_TAG") == 0xFF
        assert not bench.get("irq")
        await bench.write("IRQ_STATUS", 3)
        await bench.write("IRQ_ENABLE", 1)
        for _ in range(bench.spec.queue + 2):
            await bench.push(BUILD.job(n=2), load=False)
        assert await raised() == set(), "two in the engine, the others in the queue"
        await bench.push(BUILD.job(n=2), load=False)
        assert await raised() == {"push_refused"}
        assert not bench.get("irq") and await bench.read("IRQ_STATUS") == 2, "the interrupt of an error is not enabled"
        bench.send("w", [bytes(5)] * 2 * (bench.spec.queue + 2))
        while not bench.get("irq"):
            await bench.ctx.tick()
        await bench.pop()
        await bench.ctx.tick().repeat(150)
        assert await bench.field("STATUS", "done_level") == bench.spec.queue, "no more run than software has room for"
        assert bench.get("irq")
        await bench.write("IRQ_STATUS", 1)
        await bench.ctx.tick().repeat(2)
        assert not bench.get("irq")
        for _ in range(bench.spec.queue + 1):
            await bench.pop()
        assert await bench.field("STATUS", "done_level") == 0 and await raised() == set()

    Bench(KernelSpec(build=BUILD)).run(test)


def test_packet_errors():
    """A record cut short, a null byte, an overlong buffer: named, and nothing hangs."""
    async def test(bench):
        error = {field.name: field.mask for field in bench.map["ERROR"].fields}
        bench.send("act", [bytes([n] * 5) for n in range(BUILD.max_n + 2)])
        bench.to_send["w"].extend([(1, 3, 0), (2, 3, 1)])
        bench.to_send["w"].extend([(1, 3, 0), (2, 2, 0), (3, 3, 0)])
        bench.to_send["w"].extend([(0x0201, 3, 0), (0x0403, 3, 0), (0xEE05, 1, 1)])
        await bench.push(BUILD.job(n=3))
        assert (await bench.pop())["status"] == Status.OK
        assert await bench.read("ERROR") == error["framing_w"] | error["overlong_act"]
        await bench.write("ERROR", 0xFFFFFFFF)
        assert bench.results("y")[0][2] == {"index": 2, "sum": 0x0504030201 + 0x0202020202}
        bench.to_send["w"].extend([(0x0201, 3, 0), (0x0403, 3, 0), (0x0005, 3, 0)])
        await bench.push(BUILD.job(n=1), load=False)
        await bench.pop()
        assert await bench.read("ERROR") == 0

    Bench(KernelSpec(build=BUILD, bus_bytes=NARROW)).run(test)


# A fault each: file of hdl/bus, text that occurs once, what stands there instead.
MUTANTS = {
    "TLAST dropped": ("axi_stream", "last = self.i.payload.last & (beats == 1)", "last = self.i.payload.last & 0"),
    "BRESP stuck at OKAY": ("axi_lite", "self.s_axi_bresp.eq(access.write_resp)", "self.s_axi_bresp.eq(0)"),
    "buffer address off by one": ("loaded_buffer", "Cat(half, self.x.addr)", "Cat(half, self.x.addr + 1)"),
    "buffer halves swapped never": ("loaded_buffer", "half.eq(~half)", "half.eq(half)"),
    "last result lost": ("last_marker", "self.held & (last | self.i.valid)", "self.held & self.i.valid"),
    "completion before its packet": ("job_control", "m.d.sync += waits.eq(self.held)", "m.d.sync += waits.eq(0)"),
    "buffer swapped while it is read": ("job_control", "with m.If((running == 0) | self.close):", "with m.If(1):"),
    "offered beat dropped at a reset": ("axi_stream", "with m.If(free):", "with m.If(free | self.flush):"),
    "WSTRB ignored": ("registers", "access.write_mask & register.mask", "register.mask"),
}


@contextmanager
def mutated(module, old, new):
    """The kernel with one text of one of its sources replaced."""
    name = f"sparseloom.hdl.bus.{module}"
    original = sys.modules[name]
    source = Path(original.__file__).read_text()
    assert source.count(old) == 1, f"{old!r} must occur once"
    spec = importlib.util.spec_from_file_location(f"{name}_mutant", original.__file__)
    mutant = importlib.util.module_from_spec(spec)
    exec(compile(source.replace(old, new), f"{name}_mutant", "exec"), mutant.__dict__)
    names = [public for public in mutant.__all__ if getattr(core, public, None) is getattr(original, public)]
    try:
        for public in names:
            setattr(core, public, getattr(mutant, public))
        yield
    finally:
        for public in names:
            setattr(core, public, getattr(original, public))


def checks():
    """Tests by the way they look: the whole set that a mutant has to pass."""
    yield lambda: test_random_jobs({}, 0.5)
    yield lambda: test_registers(0.4)
    yield lambda: test_soft_reset({}, 20)


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_killed(name):
    with mutated(*MUTANTS[name]):
        survived = []
        for check in checks():
            try:
                check()
            except AssertionError:
                return
            survived.append(check)
    pytest.fail(f"{name}: {len(survived)} tests did not see it")
