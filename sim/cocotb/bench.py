"""The cocotb side of a bench: runs any engine's jobs on the bus models and writes down what came of them."""

import os
import pickle
import random
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

from .models import BufferModel, Clocked, ProtocolWatcher, StreamSink, StreamSource

ORDER_FILE, RESULT_FILE = "order.pickle", "result.pickle"
"""What to run and what came of it, in the folder that the environment variable ``SPARSELOOM_BENCH`` names."""

_PERIOD_NS = 10
_GAP = 4  # cycles after each job, in which nothing may come any more


@cocotb.test()
async def jobs(dut):
    """One job at a time: its outputs, completion record and cycles, and every fault of the protocol."""
    folder = Path(os.environ["SPARSELOOM_BENCH"])
    with open(folder / ORDER_FILE, "rb") as file:
        order = pickle.load(file)
    build, options = order["build"], order["options"]
    time = Clocked(dut.clk)

    def rng(port):  # each port its own pattern
        return random.Random(f"{options['seed']} {port}")

    accepted, ended = [], []
    job_source = StreamSource(dut, "job", time, rng("job"), options["idle"], on_taken=lambda _, cycle: accepted.append(cycle))
    sources = {s.name: StreamSource(dut, f"i_{s.name}", time, rng(f"i_{s.name}"), options["idle"]) for s in build.inputs}
    buffers = {b.name: BufferModel(dut, f"x_{b.name}", time, rng(f"x_{b.name}"), b.width, b.read_latency, options["stall"])
               for b in build.buffers}
    sinks = {s.name: StreamSink(dut, f"o_{s.name}", time, rng(f"o_{s.name}"), options["stall"]) for s in build.outputs}
    done = StreamSink(dut, "done", time, rng("done"), options["stall"], on_item=lambda _, cycle: ended.append(cycle))
    watchers = [ProtocolWatcher(dut, name, time) for name in ("done", *(f"o_{s.name}" for s in build.outputs))]
    watchers += [ProtocolWatcher(dut, f"x_{b.name}", time, payload="addr") for b in build.buffers]
    models = [job_source, *sources.values(), *buffers.values(), *sinks.values(), done]

    dut.rst.value = 1
    cocotb.start_soon(Clock(dut.clk, _PERIOD_NS, unit="ns").start())
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0
    for model in [*watchers, *models, time]:
        cocotb.start_soon(model.run())

    results = []
    for work in order["works"]:
        for name, buffer in buffers.items():
            buffer.words = work["buffers"][name]
        for name, source in sources.items():
            source.queue.extend(work["streams"][name])
        job_source.queue.append(work["record"])
        begin = time.cycle
        while len(done.items) <= len(results):
            await RisingEdge(dut.clk)
            assert time.cycle - begin < options["limit"], f"job {len(results)} is not done after {options['limit']} cycles"
        await ClockCycles(dut.clk, _GAP)
        assert len(done.items) == len(results) + 1, "a completion without a job"
        for name, source in sources.items():
            assert not source.queue, f"i_{name}: {len(source.queue)} beats left over"
        results.append({"outputs": {name: sink.items for name, sink in sinks.items()}, "done": done.items[-1],
                        "cycles": ended[-1] - accepted[-1]})
        for sink in sinks.values():
            sink.items = []
    faults = [fault for watcher in watchers for fault in watcher.faults]
    with open(folder / RESULT_FILE, "wb") as file:
        pickle.dump({"results": results, "cycles": time.cycle, "faults": faults}, file)
    assert not faults, f"{faults[0]}; {len(faults)} faults in all"
