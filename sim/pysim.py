"""Jobs on Amaranth's own simulator: slow, no compiler needed, for mutants and for engines under construction."""

import random

import numpy as np
from amaranth.hdl import ClockDomain, Module, Value
from amaranth.sim import Simulator as AmaranthSimulator

from ..hdl.engines import component
from .runner import Receipt, SimulationError

__all__ = ["PySimulator"]

QUIET_CYCLES = 1000
"""Cycles without a transfer after which the engine counts as stuck; the small builds simulated here are silent far shorter."""


class PySimulator:
    """``run`` and ``reset_mid_job`` of :class:`~.runner.Simulator`, on ``gates`` (default: the component of ``build``).

    Every run starts from the power-up state; ``reset_mid_job`` is carried out at the beginning of the next run.
    """

    def __init__(self, build, gates=None):
        self.build = build
        self._gates = gates or (lambda: component(build))
        self._before = None

    def reset_mid_job(self, work, after, *, stall=0.0, idle=0.0, seed=0):
        """Remember to start ``work`` and reset the engine ``after`` cycles later, ahead of the next run."""
        self._before = work, after

    def run(self, works, *, stall=0.0, idle=0.0, seed=0, back_to_back=False):
        """Receipts of ``works``. Raises SimulationError as the compiled harness does."""
        bench = _Bench(self.build, self._gates(), works, stall, idle, seed, back_to_back)
        bench.aborted, self._before = self._before, None
        top, domain = Module(), ClockDomain("sync")
        top.domains += domain
        top.submodules.gates = bench.gates
        bench.reset = domain.rst
        simulator = AmaranthSimulator(top)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench.main)
        simulator.run()
        return bench.receipts


class _Bench:
    """Drives all ports, one iteration a clock cycle."""

    def __init__(self, build, gates, works, stall, idle, seed, back_to_back):
        self.build, self.gates, self.works = build, gates, works
        self.stall, self.idle, self.back_to_back = stall, idle, back_to_back
        self.rng, self.receipts = random.Random(seed), []
        self.sinks = {s.name: (getattr(gates, f"o_{s.name}"), s.record) for s in build.outputs}
        self.sinks["done"] = gates.done, build.done_record

    async def main(self, ctx):
        if self.aborted:
            work, after = self.aborted
            await self._drive(ctx, [work], after)
            ctx.set(self.reset, 1)
            await ctx.tick()
            ctx.set(self.reset, 0)
        if self.back_to_back:
            await self._drive(ctx, self.works)
        else:
            for work in self.works:
                await self._drive(ctx, [work])

    async def _drive(self, ctx, works, abort=None):
        build = self.build
        sources = {"job": [(build.job_record.encode(build.job_values(work.job) | (work.values or {}))) for work in works]}
        sources |= {s.name: [beat for work in works for beat in _words(work.image.streams[s.name])] for s in build.inputs}
        ports = {"job": self.gates.job} | {s.name: getattr(self.gates, f"i_{s.name}") for s in build.inputs}
        sent, offered = dict.fromkeys(sources, 0), dict.fromkeys(sources, False)
        held, outputs, pipes = {}, {name: [] for name in self.sinks}, {b.name: [0] * b.read_latency for b in build.buffers}
        accepted, cycle, quiet, finished, began = [], 0, 0, 0, None
        while finished < len(works):
            for name, port in ports.items():
                offered[name] = sent[name] < len(sources[name]) and (offered[name] or self.rng.random() >= self.idle)
                ctx.set(port.valid, offered[name])
                ctx.set(Value.cast(port.payload), sources[name][sent[name]] if offered[name] else 0)
            for port, _ in self.sinks.values():
                ctx.set(port.ready, self.rng.random() >= self.stall)
            for buffer in build.buffers:
                port = getattr(self.gates, f"x_{buffer.name}")
                ctx.set(port.ready, self.rng.random() >= self.stall)
                ctx.set(port.data, pipes[buffer.name][-1])
            moved = [name for name, port in ports.items() if ctx.get(port.valid) and ctx.get(port.ready)]
            taken = {name: self._sink(ctx, name, held) for name in self.sinks}
            for buffer in build.buffers:
                port, image = getattr(self.gates, f"x_{buffer.name}"), works[min(finished, len(works) - 1)].image
                words = image.buffers[buffer.name]
                addr = ctx.get(port.addr)
                asked = ctx.get(port.valid) and ctx.get(port.ready) and addr < len(words)
                # Between requests the buffer's output is whatever lies there: something that hurts if it is used.
                word = int.from_bytes(words[addr].tobytes(), "little") if asked else (1 << buffer.width) - 1
                pipes[buffer.name] = [word, *pipes[buffer.name][:-1]]
            await ctx.tick()
            cycle += 1
            quiet = 0 if moved or any(v is not None for v in taken.values()) else quiet + 1
            if quiet > QUIET_CYCLES:
                raise SimulationError("the engine is stuck", 1)
            for name in moved:
                sent[name] += 1
                offered[name] = False
                if name == "job":
                    accepted.append(cycle)
            if abort is not None and accepted and cycle - accepted[0] >= abort:
                return
            for name, word in taken.items():
                if word is not None:
                    outputs[name].append(word)
            if taken["done"] is not None:
                began = began or accepted[0]
                self._finish(works[finished], outputs, cycle - began)
                began, finished = cycle, finished + 1
        left = [name for name in sources if sent[name] != len(sources[name])]
        if left:
            raise SimulationError(f"{left[0]}: {len(sources[left[0]]) - sent[left[0]]} beats were not consumed", 1)

    def _sink(self, ctx, name, held):
        """The word taken from a result port in this cycle, or None; SimulationError if a refused one changed."""
        port, _ = self.sinks[name]
        word = ctx.get(Value.cast(port.payload)) if ctx.get(port.valid) else None
        if name in held and word != held[name]:
            raise SimulationError(f"{name}: a refused payload changed", 1)
        held.pop(name, None)
        if word is None or ctx.get(port.ready):
            return word
        held[name] = word
        return None

    def _finish(self, work, outputs, cycles):
        expected = {s.name: (work.beats or {}).get(s.name, self.build.beats(s.name, work.job)) for s in self.build.outputs}
        arrays = {}
        for name, count in expected.items():
            if len(outputs[name]) != count:
                raise SimulationError(f"{name}: {len(outputs[name])} beats instead of {count}", 1)
            record = self.sinks[name][1]
            raw = b"".join(word.to_bytes(record.bytes, "little") for word in outputs[name])
            arrays[name] = np.frombuffer(raw, np.uint8).reshape(count, record.bytes)
        done = self.build.done_record.decode(outputs["done"][0])
        self.receipts.append(Receipt(arrays, done, cycles))
        for words in outputs.values():
            words.clear()


def _words(beats):
    return [int.from_bytes(beat.tobytes(), "little") for beat in beats]
