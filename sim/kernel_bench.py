"""A stand-alone kernel on Amaranth's own simulator, a driver on every AXI port: for mutants and engines under construction."""

from collections import deque

import numpy as np
from amaranth.sim import Simulator

from ..hdl.bus.regmap import register_map
from .runner import SimulationError

__all__ = ["KernelBench"]

MAX_CYCLES = 6000
PERIOD = 1e-6


class KernelBench:
    """The kernel ``spec`` around ``engine`` (default: the family's own).

    ``stall``: probability per cycle of a pause, on every port; ``closed``: result streams refuse everything. ``events`` holds
    ``(cycle, what)``: ``job`` and ``done`` as the engine's ports accept them, ``last`` as a beat with TLAST leaves.
    Raises SimulationError if the kernel hangs, or changes or withdraws a result that is refused.
    """

    def __init__(self, spec, engine=None, *, stall=0.0, seed=0):
        from ..hdl.bus.core import KernelCore  # here, so that a mutant's sources count

        self.spec, self.map = spec, register_map(spec)
        self.dut = KernelCore(spec, engine)
        self.stall, self.rng, self.closed = stall, np.random.default_rng(seed), False
        self.to_send = {channel.name: deque() for channel in spec.operands + spec.loads}
        self.packets = {channel.name: [[]] for channel in spec.results}
        self.cycle, self.events = 0, []

    def run(self, test, max_cycles=MAX_CYCLES):
        """Run the coroutine ``test(bench)`` to its end."""
        self.max_cycles = max_cycles
        simulator = Simulator(self.dut)
        simulator.add_clock(PERIOD)
        for channel in self.spec.channels:
            simulator.add_testbench(self._driver(channel), background=True)
        simulator.add_testbench(self._watch, background=True)

        async def main(ctx):
            self.ctx = ctx
            await test(self)

        simulator.add_testbench(main)
        simulator.run()

    def _driver(self, channel):
        async def drive(ctx):
            await (self._receive if channel.kind == "result" else self._send)(ctx, channel)
        return drive

    def port(self, name):
        return getattr(self.dut, name)

    def get(self, name):
        return self.ctx.get(self.port(name))

    async def wait(self, cycles):
        await self.ctx.tick().repeat(cycles)

    def _pause(self):
        return self.stall and self.rng.random() < self.stall

    # AXI4-Stream ------------------------------------------------------------------------------------------------------
    async def _watch(self, ctx):
        ports = [[self.port(f"{c.prefix}_{name}") for name in ("tvalid", "tready", "tdata", "tlast")] for c in self.spec.results]
        refused, job, done = {}, self.dut.engine.job, self.dut.engine.done
        signals = [job.valid, job.ready, done.valid, done.ready, *(signal for port in ports for signal in port)]
        async for _, _, job, job_ready, done, done_ready, *values in ctx.tick().sample(*signals):
            self.cycle += 1
            if self.cycle >= self.max_cycles:
                raise SimulationError(f"no end after {self.cycle} cycles", 1)
            self.events += [(self.cycle, "job")] * (job & job_ready) + [(self.cycle, "done")] * (done & done_ready)
            for index, channel in enumerate(self.spec.results):
                valid, ready, data, last = values[4 * index:4 * index + 4]
                if index in refused and not (valid and (data, last) == refused[index]):
                    raise SimulationError(f"{channel.prefix} changed while it was refused", 1)
                refused.pop(index, None)
                if valid and not ready:
                    refused[index] = (data, last)
                if valid and ready and last:
                    self.events.append((self.cycle, "last"))

    async def _send(self, ctx, channel):
        queue, port = self.to_send[channel.name], lambda name: self.port(f"{channel.prefix}_{name}")
        while True:
            if not queue or self._pause():
                await ctx.tick()
                continue
            data, keep, last = queue.popleft()
            for name, value in (("tdata", data), ("tkeep", keep), ("tlast", last), ("tvalid", 1)):
                ctx.set(port(name), value)
            await _until(ctx, port("tready"))
            ctx.set(port("tvalid"), 0)

    async def _receive(self, ctx, channel):
        packets, port = self.packets[channel.name], lambda name: self.port(f"{channel.prefix}_{name}")
        while True:
            ctx.set(port("tready"), int(not self.closed and not self._pause()))
            _, _, valid, ready, data, last = await ctx.tick().sample(*(port(n) for n in ("tvalid", "tready", "tdata", "tlast")))
            if valid and ready:
                packets[-1].append(int(data).to_bytes(channel.bus_bytes, "little"))
                if last:
                    packets.append([])

    def send(self, name, records, last=True):
        """Queue records (bytes each) as one packet, or without ``last`` as part of one; the filling bytes are not 0."""
        channel = next(c for c in self.spec.channels if c.name == name)
        stream = b"".join(bytes(record).ljust(channel.stride, b"\xee") for record in records)
        beats = [stream[i:i + channel.bus_bytes] for i in range(0, len(stream), channel.bus_bytes)]
        keep = (1 << channel.bus_bytes) - 1
        self.to_send[name].extend((int.from_bytes(beat, "little"), keep, last and index == len(beats) - 1)
                                  for index, beat in enumerate(beats))

    def results(self, name):
        """The packets so far, each a list of decoded records; the one that is open, or nothing, is last."""
        channel = next(c for c in self.spec.channels if c.name == name)
        packets = []
        for packet in self.packets[name]:
            stream = b"".join(packet)
            records = [stream[i:i + channel.stride] for i in range(0, len(stream), channel.stride)]
            if any(any(record[channel.record.bytes:]) for record in records):
                raise SimulationError(f"{channel.prefix} fills a beat up with something else than 0", 1)
            packets.append([channel.record.from_bytes(record[:channel.record.bytes]) for record in records])
        return packets

    # AXI4-Lite --------------------------------------------------------------------------------------------------------
    async def _offer(self, channel, **values):
        for name, value in values.items():
            self.ctx.set(self.port(f"s_axi_{channel}{name}"), value)
        self.ctx.set(self.port(f"s_axi_{channel}valid"), 1)
        await _until(self.ctx, self.port(f"s_axi_{channel}ready"))
        self.ctx.set(self.port(f"s_axi_{channel}valid"), 0)

    async def _answer(self, channel, *names):
        while self._pause():
            await self.ctx.tick()
        self.ctx.set(self.port(f"s_axi_{channel}ready"), 1)
        values = await _until(self.ctx, self.port(f"s_axi_{channel}valid"), *(self.port(f"s_axi_{channel}{n}") for n in names))
        self.ctx.set(self.port(f"s_axi_{channel}ready"), 0)
        return values

    async def write_at(self, address, value, strobe=15, order="both"):
        """A write by byte address; ``order``: ``both`` together, ``address`` or ``data`` first. Returns BRESP."""
        parts = {"aw": {"addr": address}, "w": {"data": value, "strb": strobe}}
        if order == "both":
            for channel, values in parts.items():
                for name, item in {**values, "valid": 1}.items():
                    self.ctx.set(self.port(f"s_axi_{channel}{name}"), item)
            await _until(self.ctx, self.port("s_axi_awready") & self.port("s_axi_wready"))
            for channel in parts:
                self.ctx.set(self.port(f"s_axi_{channel}valid"), 0)
        else:
            first, second = ("aw", "w") if order == "address" else ("w", "aw")
            await self._offer(first, **parts[first])
            await self.wait(3)
            if self.get("s_axi_bvalid"):
                raise SimulationError("half a write was answered", 1)
            await self._offer(second, **parts[second])
        return int((await self._answer("b", "resp"))[0])

    async def read_at(self, address):
        """``(data, RRESP)`` of a read by byte address."""
        await self._offer("ar", addr=address)
        data, resp = await self._answer("r", "data", "resp")
        return int(data), int(resp)

    async def write(self, name, value):
        """Write a register by name; SimulationError for a response other than OKAY."""
        resp = await self.write_at(self.map[name].offset, value)
        if resp:
            raise SimulationError(f"a write to {name} was answered with {resp}", 1)

    async def read(self, name):
        """Read a register by name; SimulationError for a response other than OKAY."""
        value, resp = await self.read_at(self.map[name].offset)
        if resp:
            raise SimulationError(f"a read of {name} was answered with {resp}", 1)
        return value

    async def field(self, register, field):
        found = next(f for f in self.map[register].fields if f.name == field)
        return (await self.read(register) & found.mask) >> found.low

    async def push(self, job, load=True):
        """Write a job and GO; ``load``: it waits for a packet of every buffer."""
        word = self.spec.build.job_record.encode(self.spec.build.job_values(job))
        for name, value in self.map.words(self.map.job, word).items():
            await self.write(name, value)
        await self.write("GO", sum(field.mask for field in self.map["GO"].fields if load or field.name == "push"))

    async def pop(self):
        """The oldest completion, decoded, once there is one."""
        while not await self.field("STATUS", "done_level"):
            pass
        word = 0
        for piece in self.map.done:
            word |= (await self.read(piece.register) & ((1 << piece.width) - 1)) << piece.low
        await self.write("POP", 1)
        return self.spec.build.done_record.decode(word)


async def _until(ctx, condition, *values):
    """Cycles until ``condition`` holds at a clock edge; ``values`` at that edge."""
    # Not ``tick().until``: a test that fails leaves this anywhere, which that generator cannot stand.
    while True:
        _, _, holds, *seen = await ctx.tick().sample(condition, *values)
        if holds:
            return seen
