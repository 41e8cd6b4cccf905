"""Deliberate faults in every block of the stand-alone kernel; jobs, registers or resets of a small one must show each."""

import numpy as np
import pytest

from sparseloom.hdl.bus.kernel_spec import KernelSpec
from sparseloom.sim.kernel_bench import KernelBench
from sparseloom.sim.mutants import Mutant, verdict
from sparseloom.sim.toy import Toy, ToyGates, toy_image, toy_results

BUILD = Toy(width=40, max_n=5)
NARROW = {"w": 2, "act": 4, "y": 1}

pytestmark = pytest.mark.rtl

MUTANTS = [
    Mutant("TLAST dropped", "hdl.bus.axi_stream", "last = rest_last & (left == 1)", "last = rest_last & 0"),
    Mutant("a record one beat short", "hdl.bus.axi_stream", "left.eq(beats - 1),\n", "left.eq(beats - 2),\n"),
    Mutant("records gathered in the wrong order", "hdl.bus.axi_stream", "Cat(earlier, beat.data))", "Cat(beat.data, earlier))"),
    Mutant("TLAST within a record overlooked", "hdl.bus.axi_stream", "ends.eq(full | beat.last)", "ends.eq(full)"),
    Mutant("null bytes overlooked", "hdl.bus.axi_stream", "(~full | null)", "~full"),
    Mutant("offered beat dropped at a reset", "hdl.bus.axi_stream", "with m.If(free):", "with m.If(free | self.flush):"),
    Mutant("packet left open at a reset", "hdl.bus.axi_stream", "self.o.valid.eq(opened), ", "self.o.valid.eq(0), "),
    Mutant("BRESP stuck at OKAY", "hdl.bus.axi_lite", "self.s_axi_bresp.eq(access.write_resp)", "self.s_axi_bresp.eq(0)"),
    Mutant("write done without its data", "hdl.bus.axi_lite", "write.eq(aw_held & w_held & ", "write.eq(aw_held & "),
    Mutant("WSTRB ignored", "hdl.bus.registers", "access.write_mask & register.mask", "register.mask"),
    Mutant("an error is lost to its clearing", "hdl.bus.registers", "(access.write_data & mask)) | getattr",
           "(access.write_data & mask)) & getattr"),
    Mutant("buffer address off by one", "hdl.bus.loaded_buffer", "Cat(half ^ self.take, self.x.addr)",
           "Cat(half ^ self.take, self.x.addr + 1)"),
    Mutant("buffer halves never swapped", "hdl.bus.loaded_buffer", "half.eq(~half)", "half.eq(half)"),
    Mutant("overlong packet wraps", "hdl.bus.loaded_buffer", "fits = word != buffer.words", "fits = word != buffer.words + 1"),
    Mutant("last result lost", "hdl.bus.last_marker", "self.held & (last | self.i.valid)", "self.held & self.i.valid"),
    Mutant("every result is the last", "hdl.bus.last_marker", "last = closed | self.close", "last = self.held"),
    Mutant("completion before its packet", "hdl.bus.job_control", "m.d.sync += waits.eq(self.held)", "m.d.sync += waits.eq(0)"),
    Mutant("buffer swapped while it is read", "hdl.bus.job_control", "with m.If((running == 0) | ended):", "with m.If(1):"),
    Mutant("more jobs than completions fit", "hdl.bus.job_control", "(unread != depth) & ready", "ready"),
    Mutant("GO accepted during a reset", "hdl.bus.core", "push & (reset | ~control.push.ready)", "push & ~control.push.ready"),
]


def require(condition, text):
    if not condition:
        raise AssertionError(text)


async def jobs(bench):
    """Jobs that wait, results refused for a while, completions left unread for a while; then all is compared."""
    rng = np.random.default_rng(3)
    work = [BUILD.job(n=n, tag=n) for n in (5, 2, 4, 1)]
    images = [toy_image(BUILD, job, rng) for job in work]
    bench.closed = True
    for job, image in zip(work, images, strict=True):
        bench.send("act", image.buffers["act"])
        bench.send("w", image.streams["w"])
        await bench.push(job)
    await bench.wait(100)
    require(await bench.field("STATUS", "done_level") == 0, "a completion shows before its packet has left")
    bench.closed = False
    await bench.wait(200)
    require(await bench.field("STATUS", "done_level") == 2, "as many completions as fit")
    done = [await bench.pop() for _ in work]
    require([d["tag"] for d in done] == [job.tag for job in work], "completions")
    require(bench.results("y") == [*(toy_results(BUILD, image) for image in images), []], "results")
    require(await bench.read("ERROR") == 0, "an error out of nothing")


async def registers(bench):
    """Orders of the write channels, strobes, responses, an error that stays until it is cleared."""
    address = bench.map["JOB_N"].offset
    for order, value in (("both", 0x1234), ("data", 0x2345), ("address", 0x3456)):
        require(await bench.write_at(address, value, order=order) == 0 and await bench.read("JOB_N") == value, order)
    await bench.write_at(address, 0xFFFF, strobe=1)
    require(await bench.read("JOB_N") == 0x34FF, "strobes")
    require(await bench.write_at(bench.map["ID"].offset, 0) == 2, "a write to a constant")
    await bench.write("ERROR", 0)
    require(await bench.read("ERROR") == 1 << 3, "an error that nobody cleared")
    await bench.write("ERROR", 1 << 3)
    await bench.write("CONTROL", 1)
    await bench.write("GO", 1)
    require(await bench.read("ERROR") == 1 << 0, "GO during a reset")


async def reset(bench):
    """CONTROL.reset while a result is refused: it stands, its packet is closed, and the next job is whole."""
    job = BUILD.job(n=5)
    for length in (10, 20, 30):
        bench.closed, bench.packets["y"][:] = True, [[]]
        bench.send("w", [bytes(5)] * 5)
        await bench.push(job, load=False)
        await bench.wait(length)
        await bench.write("CONTROL", 1)
        await bench.wait(3)
        bench.closed = False
        while not await bench.field("STATUS", "quiet") or any(bench.to_send.values()):
            pass
        require(bench.packets["y"][-1] == [], "a packet stays open")
        await bench.write("CONTROL", 0)
        image = toy_image(BUILD, job, bench.rng)
        bench.packets["y"][:] = [[]]
        bench.send("act", image.buffers["act"])
        bench.send("w", image.streams["w"])
        await bench.push(job)
        await bench.pop()
        require(bench.results("y") == [toy_results(BUILD, image), []], "the job after the reset")


async def packets(bench):
    """Records cut short, null bytes, a packet longer than the buffer: each is named."""
    bit = {field.name: field.mask for field in bench.map["ERROR"].fields}
    bench.send("act", [bytes([n] * 5) for n in range(BUILD.max_n + 1)])
    bench.send("w", [bytes(5)])
    await bench.push(BUILD.job(n=1))
    await bench.pop()
    require(await bench.read("ERROR") == bit["overlong_act"], "overlong")
    await bench.write("ERROR", bit["overlong_act"])
    for beats in ([(1, 3, 1)], [(1, 1, 0), (2, 3, 0), (3, 3, 0)]):
        bench.to_send["w"].extend(beats)
        await bench.push(BUILD.job(n=1), load=False)
        await bench.pop()
        require(await bench.read("ERROR") == bit["framing_w"], "framing")
        await bench.write("ERROR", bit["framing_w"])


def check():
    """Raises if the kernel is at fault."""
    for test, bus in ((jobs, {}), (registers, {}), (reset, NARROW), (reset, {}), (packets, NARROW), (jobs, NARROW)):
        spec = KernelSpec(build=BUILD, queue=2, bus_bytes=bus)
        KernelBench(spec, ToyGates(BUILD), seed=1).run(test)


def test_the_kernel_passes_what_kills_its_mutants():
    check()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutants_are_killed(mutant):
    said = verdict(mutant, check)
    assert said is not None, "survived"
    assert said.startswith(("AssertionError", "SimulationError")), said
