"""Runs inside the simulator, started by test_bus_cocotb.py: the drivers of the bench that a kernel ships with, on more work.

Random jobs from the project's formats and golden model, full rate, AXI4-Lite in every order, a full queue, illegal jobs, resets.
"""

import logging

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge, ValueChange, with_timeout
from cocotbext.axi import AxiResp
from kernel_bench import CONFIG, REGISTERS, Kernel, pauses

from sparseloom.fpga.deliver import deliver
from sparseloom.models.formats.engines import pack
from sparseloom.models.golden.engines import draw_operands, results
from sparseloom.models.spec.engine import Status
from sparseloom.models.spec.engines import ENGINES

BUILD = ENGINES[CONFIG["engine"]](**CONFIG["build"])
CHANNELS = {channel["name"]: channel for channel in CONFIG["channels"]}
GO_LOAD = 1 << 8 | 1
JOBS = 60
# What the buffer holds of a job's operands, and the job's fields that say how it lies there.
HELD = {"ternary_engine": ("x",), "sparse_chain": ("x", "x_scale")}[CONFIG["engine"]]
HELD_AS = {"ternary_engine": ("k", "m"), "sparse_chain": ("k", "m", "x_group", "block")}[CONFIG["engine"]]


class Case:
    """A job, what it reads and what it must deliver; ``reuse`` takes the activations of the case before it from the buffer."""

    def __init__(self, rng, job=None, reuse=None):
        self.job, self.reuse = BUILD.draw_job(rng) if job is None else job, reuse
        operands = draw_operands(BUILD, self.job, rng) | (reuse.held if reuse else {})
        self.held, golden = {name: operands[name] for name in HELD}, results(BUILD, self.job, operands)
        image = pack(BUILD, self.job, operands)
        self.send = {"w": image.streams["w"]} if reuse else {**image.streams, **image.buffers}
        self.expect = {name: frame(name, beats) for name, beats in deliver(BUILD, self.job, golden).items() if len(beats)}
        self.saturated = golden["saturated"]


def frame(name, records):
    """Records as the bytes of a packet."""
    padded = np.zeros((len(records), CHANNELS[name]["stride"]), np.uint8)
    padded[:, :records.shape[1]] = records
    return padded.tobytes()


def draw_cases(count, seed):
    """Random jobs; every third works on the activations of the one before it."""
    rng, cases = np.random.default_rng(seed), []
    for index in range(count):
        if index % 3 == 2:
            same = {name: getattr(cases[-1].job, name) for name in HELD_AS}
            job = BUILD.job(**same, n=int(rng.integers(1, BUILD.max_n + 1)), tag=index)
            cases.append(Case(rng, job, reuse=cases[-1]))
        else:
            cases.append(Case(rng))
    return cases


async def push(kernel, case, send=True):
    for name, records in case.send.items() if send else ():
        kernel.sources[name].send_nowait(frame(name, records))
    await write_job(kernel, BUILD.job_values(case.job))
    await kernel.write("GO", 1 if case.reuse else GO_LOAD)


async def write_job(kernel, values):
    for name, value in values.items():
        await kernel.write(f"JOB_{name.upper()}", value)


async def finish(kernel, case):
    while not await kernel.field("STATUS", "done_level"):
        pass
    done = {name: await kernel.read(f"DONE_{name}") for name in
            ("TAG", "STATUS", "SATURATED", "CYCLES", "BUSY", "STALL_I", "STALL_X", "STALL_O")}
    await kernel.write("POP", 1)
    assert (done["TAG"], done["STATUS"], done["SATURATED"]) == (case.job.tag, Status.OK, case.saturated)
    assert done["CYCLES"] == done["BUSY"] + done["STALL_I"] + done["STALL_X"] + done["STALL_O"]
    for name, expected in case.expect.items():
        # The completion shows only when the packet has left.
        assert bytes(kernel.sinks[name].recv_nowait().tdata) == expected, f"{name} of {case.job}"
    return done


async def watch(dut):
    """AXI4-Stream and AXI4-Lite at the kernel's outputs: what is offered stands until it is taken."""
    groups = [[getattr(dut, f"{c['prefix']}_{n}") for n in ("tvalid", "tready", "tdata", "tlast")]
              for c in CHANNELS.values() if c["kind"] == "result"]
    groups += [[dut.s_axi_bvalid, dut.s_axi_bready, dut.s_axi_bresp],
               [dut.s_axi_rvalid, dut.s_axi_rready, dut.s_axi_rdata, dut.s_axi_rresp]]
    refused = {}
    while True:
        await RisingEdge(dut.aclk)
        for index, (valid, ready, *payload) in enumerate(groups):
            now = [int(signal.value) for signal in payload]
            if index in refused and int(dut.aresetn.value):
                assert int(valid.value) and now == refused[index], f"{valid._name}: an offer changed"
            refused.pop(index, None)
            if int(valid.value) and not int(ready.value):
                refused[index] = now


async def start(dut):
    kernel = await Kernel.start(dut)
    logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.ERROR)  # a reset makes the sources print what they drop
    cocotb.start_soon(watch(dut))
    return kernel


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def random_jobs(dut):
    """Random jobs as fast as the queue takes them, pauses on every channel."""
    kernel, waiting = await start(dut), []
    kernel.pause()
    cases = draw_cases(JOBS, 1)
    for case in cases:
        if len(waiting) == CONFIG["queue"]:
            await finish(kernel, waiting.pop(0))
        await push(kernel, case)
        waiting.append(case)
    for case in waiting:
        await finish(kernel, case)
    assert sum(case.saturated for case in cases) and sum(case.reuse is not None for case in cases) == JOBS // 3
    await kernel.check_empty()


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def full_rate(dut):
    """Nothing pauses and all is there in time: from TLAST to TLAST the engine's own cycles back to back, not one more."""
    kernel = await start(dut)
    rng = np.random.default_rng(2)
    # A word of 3 beats of the bus has to arrive while the engine works on one: jobs with many outputs.
    cases = [Case(rng, BUILD.job(k=int(rng.integers(30, BUILD.max_k + 1)), n=BUILD.max_n - index, m=1, tag=index))
             for index in range(CONFIG["queue"])]
    lasts = []

    async def note():
        cycle = 0
        while True:
            await RisingEdge(dut.aclk)
            cycle += 1
            if int(dut.m_axis_y_tvalid.value) and int(dut.m_axis_y_tready.value) and int(dut.m_axis_y_tlast.value):
                lasts.append(cycle)

    cocotb.start_soon(note())
    for case in cases:
        await push(kernel, case, send=False)
    for case in cases:
        for name, records in case.send.items():
            kernel.sources[name].send_nowait(frame(name, records))
    for case in cases:
        done = await finish(kernel, case)
        assert done["BUSY"] == done["CYCLES"] == BUILD.cycles(case.job)
    assert [b - a for a, b in zip(lasts, lasts[1:], strict=False)] == [BUILD.cycles_back_to_back(c.job) for c in cases[1:]]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def write_orders(dut):
    """Address first, data first, together, many in flight, reads among them; the response belongs to its write."""
    kernel = await start(dut)
    register = next(f"JOB_{field.name.upper()}" for field in BUILD.job_record.fields if field.width > 8)
    write, offset = kernel.bus.write_if, REGISTERS[register]["offset"]
    for value, late in enumerate([None, write.aw_channel, write.w_channel] * 3):
        if late:
            late.pause = True
        event = kernel.bus.init_write(offset, value.to_bytes(4, "little"))
        await ClockCycles(dut.aclk, 12)
        assert event.is_set() == (late is None)
        if late:
            late.pause = False
        await event.wait()
        assert await kernel.read(register) == value
    writes = [kernel.bus.init_write(offset if value % 3 else REGISTERS["ID"]["offset"], value.to_bytes(4, "little"))
              for value in range(9)]
    reads = [kernel.bus.init_read(REGISTERS[name]["offset"], 4) for name in ("ID", "VERSION", "DIGEST_LOW") * 3]
    for value, event in enumerate(writes):
        await event.wait()
        assert event.data.resp == (AxiResp.OKAY if value % 3 else AxiResp.SLVERR)
    for event, name in zip(reads, ("ID", "VERSION", "DIGEST_LOW") * 3, strict=True):
        await event.wait()
        assert int.from_bytes(event.data.data, "little") == REGISTERS[name]["value"]
    assert await kernel.read(register) == 8
    await kernel.bus.write(offset + 1, b"\x01")
    assert await kernel.read(register) == 0x108


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def full_queue(dut):
    """One job more than the kernel holds is refused and reported; those before it are whole."""
    kernel, rng = await start(dut), np.random.default_rng(3)
    cases = [Case(rng) for _ in range(CONFIG["queue"] + 1)]
    for sink in kernel.sinks.values():
        sink.pause = True
    for case in cases[:-1]:
        await push(kernel, case, send=False)
    assert await kernel.field("STATUS", "queue_level") == CONFIG["queue"]
    assert await kernel.field("ERROR", "push_refused") == 0
    await push(kernel, cases[-1], send=False)
    assert await kernel.field("ERROR", "push_refused") == 1
    await kernel.write("ERROR", 0xFFFFFFFF)
    for sink in kernel.sinks.values():
        sink.pause = False
    for case in cases[:-1]:
        await push_data(kernel, case)
        await finish(kernel, case)
    await kernel.write("POP", 1)
    assert await kernel.field("ERROR", "pop_empty") == 1
    await kernel.write("ERROR", 0xFFFFFFFF)
    await kernel.check_empty()


async def push_data(kernel, case):
    for name, records in case.send.items():
        await kernel.sources[name].send(frame(name, records))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def illegal_job(dut):
    """Shapes beyond the build: status ILLEGAL, no packet, and the next job is whole."""
    kernel, case = await start(dut), Case(np.random.default_rng(4))
    await kernel.write("IRQ_ENABLE", 1)
    for wrong in BUILD.illegal_values():
        await write_job(kernel, BUILD.job_values(case.job) | wrong)
        await kernel.write("GO", 1)
        if not dut.irq.value:
            await with_timeout(ValueChange(dut.irq), 10, "us")
        assert await kernel.read("DONE_STATUS") == Status.ILLEGAL, wrong
        await kernel.write("POP", 1)
        await kernel.write("IRQ_STATUS", 1)
    await push(kernel, case)
    await finish(kernel, case)
    await kernel.check_empty()


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def resets(dut):
    """aresetn, then CONTROL.reset, at many points of a job, its results refused now and then."""
    kernel, rng = await start(dut), np.random.default_rng(5)
    for index in range(16):
        case, pin = Case(rng, BUILD.job(k=50, n=20, m=2, tag=index)), index % 2 == 0
        for seed, sink in enumerate(kernel.sinks.values()):
            sink.set_pause_generator(pauses(seed))
        await push(kernel, case)
        await ClockCycles(dut.aclk, 5 * index)
        if pin:
            dut.aresetn.value = 0
            await ClockCycles(dut.aclk, 2)
            dut.aresetn.value = 1
            for source in kernel.sources.values():
                source.clear()
            await ClockCycles(dut.aclk, 2)
        else:
            await kernel.write("CONTROL", 1)
            while not await kernel.field("STATUS", "quiet") or not all(source.idle() for source in kernel.sources.values()):
                pass
            assert await kernel.read("STATUS") == 3
            await kernel.write("CONTROL", 0)
        for sink in kernel.sinks.values():
            sink.clear()
        case = Case(rng)
        await push(kernel, case)
        await finish(kernel, case)
    await kernel.check_empty()
