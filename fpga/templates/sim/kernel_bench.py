"""cocotb bench of the kernel: golden vectors through its AXI ports, at full rate, with pauses, after a reset in mid-job.

Reads ../config.json, ../regs/ and ../vectors/; needs cocotb and cocotbext-axi.
"""

import itertools
import json
import logging
import random
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp, AxiStreamBus, AxiStreamSink, AxiStreamSource

HERE = Path(__file__).resolve().parent
CONFIG = json.loads((HERE.parent / "config.json").read_text())
REGISTERS = {r["name"]: r for r in json.loads((HERE.parent / "regs" / f"{CONFIG['name']}.json").read_text())["registers"]}
VECTORS = json.loads((HERE.parent / "vectors" / "vectors.json").read_text())
PAUSE = 0.3
TIMEOUT_US = 5000


def load_frame(name):
    """A packet of ../vectors as bytes; a line of the file is a beat of the bus."""
    lines = (HERE.parent / "vectors" / name).read_text().split()
    return b"".join(bytes.fromhex(line)[::-1] for line in lines)


def pauses(seed):
    """An endless choice of cycles in which a port does nothing."""
    chance = random.Random(seed)
    return (chance.random() < PAUSE for _ in itertools.count())


class Kernel:
    """Drivers on every port of the kernel."""

    def __init__(self, dut):
        self.dut = dut
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
        reset = {"reset": dut.aresetn, "reset_active_level": False}
        self.bus = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.aclk, **reset)
        self.sources, self.sinks = {}, {}
        for channel in CONFIG["channels"]:
            group, driver = (self.sinks, AxiStreamSink) if channel["kind"] == "result" else (self.sources, AxiStreamSource)
            group[channel["name"]] = driver(AxiStreamBus.from_prefix(dut, channel["prefix"]), dut.aclk, **reset)

    @classmethod
    async def start(cls, dut):
        cocotb.start_soon(Clock(dut.aclk, 10, unit="ns").start())
        dut.aresetn.value = 0
        kernel = cls(dut)
        await ClockCycles(dut.aclk, 4)
        dut.aresetn.value = 1
        await ClockCycles(dut.aclk, 2)
        return kernel

    def pause(self):
        """Random pauses on every channel from here on."""
        write, read = self.bus.write_if, self.bus.read_if
        ports = [write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel]
        for seed, port in enumerate([*ports, *self.sources.values(), *self.sinks.values()]):
            port.set_pause_generator(pauses(seed))

    async def write(self, name, value):
        await self.bus.write_dword(REGISTERS[name]["offset"], value)

    async def read(self, name):
        return await self.bus.read_dword(REGISTERS[name]["offset"])

    async def field(self, register, name):
        found = next(field for field in REGISTERS[register]["fields"] if field["name"] == name)
        return (await self.read(register)) >> found["low"] & ((1 << found["width"]) - 1)

    def send(self, vector):
        """Queue what a job reads at the sources."""
        for name, file in vector["send"].items():
            self.sources[name].send_nowait(load_frame(file))

    async def push(self, vector):
        for name, value in vector["registers"].items():
            await self.write(name, value)

    async def finish(self, vector):
        """Wait for the oldest completion, drop it, compare it and the packets of its job; returns its cycles."""
        while not await self.field("STATUS", "done_level"):
            pass
        done = {name: await self.read(name) for name in ("DONE_CYCLES", *vector["done"])}
        cycles = done.pop("DONE_CYCLES")
        await self.write("POP", 1)
        assert done == vector["done"], f"completion {done}, not {vector['done']}"
        for name, file in vector["expect"].items():
            frame = bytes((await self.sinks[name].recv()).tdata)
            expected = load_frame(file)
            assert frame == expected, f"{file}: first difference at byte {first_difference(frame, expected)} of {len(expected)}"
        return cycles

    async def check_empty(self):
        assert all(sink.empty() for sink in self.sinks.values()), "a packet too many"
        assert await self.read("ERROR") == 0
        assert await self.field("STATUS", "idle") and await self.field("STATUS", "quiet")


def first_difference(a, b):
    return next((index for index, pair in enumerate(itertools.zip_longest(a, b)) if pair[0] != pair[1]), None)


@cocotb.test(timeout_time=TIMEOUT_US, timeout_unit="us")
async def constants(dut):
    """Every constant of the register map, and the answer where there is no register."""
    kernel = await Kernel.start(dut)
    for name, register in REGISTERS.items():
        if register["value"] is not None:
            assert await kernel.read(name) == register["value"], name
    nowhere = max(register["offset"] for register in REGISTERS.values()) + 4
    assert (await kernel.bus.read(nowhere, 4)).resp == AxiResp.DECERR


@cocotb.test(timeout_time=TIMEOUT_US, timeout_unit="us")
async def one_job_at_a_time(dut):
    """Streams at full rate: every result, the interrupt, and the number of cycles that was predicted."""
    kernel = await Kernel.start(dut)
    for vector in VECTORS:
        kernel.send(vector)
        for name in vector["load"]:
            while not await kernel.field("STATUS", f"loaded_{name}"):
                pass
        assert not dut.irq.value
        await kernel.write("IRQ_ENABLE", 1)
        await kernel.push(vector)
        cycles = await kernel.finish(vector)
        assert dut.irq.value
        await kernel.write("IRQ_STATUS", 1)
        if CONFIG["full_rate"]:
            assert cycles == vector["cycles"], f"{cycles} cycles, predicted {vector['cycles']}"
    await kernel.check_empty()


@cocotb.test(timeout_time=TIMEOUT_US, timeout_unit="us")
async def jobs_back_to_back(dut):
    """As many jobs in the queue as fit, random pauses on every channel, completions announced by the interrupt."""
    kernel = await Kernel.start(dut)
    kernel.pause()
    await kernel.write("IRQ_ENABLE", 1)
    waiting = []
    for vector in VECTORS + VECTORS[::-1]:
        kernel.send(vector)
        if len(waiting) == CONFIG["queue"]:
            if not await kernel.field("STATUS", "done_level") and not dut.irq.value:
                await RisingEdge(dut.irq)
            await kernel.write("IRQ_STATUS", 1)
            await kernel.finish(waiting.pop(0))
        await kernel.push(vector)
        waiting.append(vector)
    for vector in waiting:
        await kernel.finish(vector)
    await kernel.check_empty()


@cocotb.test(timeout_time=TIMEOUT_US, timeout_unit="us")
async def reset_in_mid_job(dut):
    """CONTROL.reset while results are refused and operands are on their way; then the same jobs again, whole."""
    kernel = await Kernel.start(dut)
    for vector in VECTORS[:3]:
        for sink in kernel.sinks.values():
            sink.pause = True
        kernel.send(vector)
        await kernel.push(vector)
        await ClockCycles(dut.aclk, vector["cycles"] // 2)
        await kernel.write("CONTROL", 1)
        for sink in kernel.sinks.values():
            sink.pause = False
        while not await kernel.field("STATUS", "quiet") or not all(source.idle() for source in kernel.sources.values()):
            pass
        await kernel.write("CONTROL", 0)
        for sink in kernel.sinks.values():
            sink.clear()
        kernel.send(vector)
        await kernel.push(vector)
        await kernel.finish(vector)
    await kernel.check_empty()
