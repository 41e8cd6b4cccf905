"""The registers of a kernel, its errors and its interrupt, in pysim."""

import pytest

from sparseloom.hdl.bus.kernel_spec import KernelSpec
from sparseloom.models.spec.engine import Status
from sparseloom.sim.kernel_bench import MAX_CYCLES, KernelBench
from sparseloom.sim.toy import Toy, ToyGates

BUILD = Toy(width=40, max_n=9)
NARROW = {"w": 2, "act": 4, "y": 1}
OKAY, SLVERR, DECERR = 0, 2, 3

pytestmark = pytest.mark.rtl


def bench_of(stall=0.0, seed=0, **kernel):
    return KernelBench(KernelSpec(build=BUILD, **kernel), ToyGates(BUILD), stall=stall, seed=seed)


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

    bench_of(stall, 5).run(test, 5 * MAX_CYCLES)


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
            await bench.wait(1)
        await bench.pop()
        await bench.wait(150)
        assert await bench.field("STATUS", "done_level") == bench.spec.queue, "no more run than software has room for"
        assert bench.get("irq")
        await bench.write("IRQ_STATUS", 1)
        await bench.wait(2)
        assert not bench.get("irq")
        for _ in range(bench.spec.queue + 1):
            await bench.pop()
        assert await bench.field("STATUS", "done_level") == 0 and await raised() == set()

    bench_of().run(test)


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

    bench_of(bus_bytes=NARROW).run(test)
