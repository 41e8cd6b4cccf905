"""The harness and the bus models see every way in which an engine may break the rules of its ports."""

import dataclasses
import re

import numpy as np
import pytest
from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring

from sparseloom.hdl.common.ports import EngineSignature
from sparseloom.hdl.export import export
from sparseloom.models.formats.engines import Image
from sparseloom.sim.cocotb.runner import run_jobs
from sparseloom.sim.runner import SimulationError, Simulator, Work
from sparseloom.sim.toy import Toy, ToyGates, toy_design, toy_image

pytestmark = pytest.mark.rtl

BUILD = Toy(max_n=20)
FAULTS = {
    1: "o_y: the payload changed while it was refused",
    2: "o_y: valid fell while it was refused",
    3: "x_act: the payload changed while it was refused",
    4: "x_act: valid fell while it was refused",
    5: "done: the payload changed while it was refused",
    6: "done: valid fell while it was refused",
    7: "done: a completion without a job",
    8: "o_y: a beat beyond those of the jobs accepted so far",
    9: "nothing moved for 300 cycles",
    10: "o_y: valid or payload waits for ready",
}
PROVOKED = (1, 2, 3, 4, 5, 6, 10)  # the faults that show only where something is refused
GOOD = 0


class FaultyToy(wiring.Component):
    """The toy engine; the tag of a job chooses the fault it shows."""

    def __init__(self, build):
        self.build = build
        super().__init__(EngineSignature(build))

    def elaborate(self, platform):
        m = Module()
        m.submodules.good = good = ToyGates(self.build)
        fault, flip, late = Signal(8), Signal(), Signal(2)
        m.d.sync += flip.eq(~flip)
        with m.If(self.job.valid & self.job.ready):
            m.d.sync += fault.eq(self.job.payload.tag)
        finished = good.done.valid & good.done.ready
        m.d.sync += late.eq(late << 1 | finished)

        for name in ("job", "i_w", "x_act", "o_y", "done"):
            wiring.connect(m, **{f"mine_{name}": wiring.flipped(getattr(self, name)), f"its_{name}": getattr(good, name)})
        for name, payload, changes, falls in (("o_y", "payload", 1, 2), ("x_act", "addr", 3, 4), ("done", "payload", 5, 6)):
            mine, its = getattr(self, name), getattr(good, name)
            with m.If(fault == changes):
                m.d.comb += Value.cast(getattr(mine, payload)).eq(Value.cast(getattr(its, payload)) ^ flip)
            with m.If((fault == falls) & flip):
                m.d.comb += [mine.valid.eq(0), its.ready.eq(0)]
        with m.If((fault == 7) & late[1]):
            m.d.comb += self.done.valid.eq(1)
        with m.If((fault == 8) & late[1]):
            m.d.comb += self.o_y.valid.eq(1)
        with m.If(fault == 9):
            m.d.comb += [self.o_y.valid.eq(0), good.o_y.ready.eq(0)]
        with m.If(fault == 10):
            m.d.comb += self.o_y.valid.eq(good.o_y.valid & self.o_y.ready)
        return m


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def design():
    return export(FaultyToy(BUILD), "faulty")


@pytest.fixture(scope="module")
def simulator(design):
    with Simulator(BUILD, design=design) as simulator:
        yield simulator


def work(rng, tag=GOOD, n=12, beats=0, **override):
    """A job of ``n`` words whose image has ``beats`` more of ``w`` than it needs."""
    job = BUILD.job(n=n, tag=tag)
    image = toy_image(BUILD, BUILD.job(n=n + max(beats, 0)), rng)
    streams = {"w": image.streams["w"][: n + beats]}
    return Work(job, Image(streams, image.buffers), **override)


@pytest.mark.parametrize("tag", FAULTS)
def test_harness_names_the_fault(simulator, rng, tag):
    with pytest.raises(SimulationError, match=FAULTS[tag]) as caught:
        simulator.run([work(rng), *(work(rng, tag) for _ in range(5))], max_cycles=300, stall=0.9 if tag in PROVOKED else 0.0)
    assert caught.value.violations >= 1
    # The fault is over with its run: a good job passes.
    (receipt,) = simulator.run([work(rng)], stall=0.5, idle=0.5)
    assert receipt.done["tag"] == GOOD and len(receipt.outputs["y"]) == 12


@pytest.mark.parametrize("tag", PROVOKED)
def test_a_fault_that_no_refusal_provokes_is_legal(simulator, rng, tag):
    """Nothing is refused, so nothing must hold: the watcher must not cry then."""
    assert len(simulator.run([work(rng, tag)])) == 1


def test_stuck_engine_shows_its_ports(simulator, rng):
    with pytest.raises(SimulationError, match=r"job 0 of 1.*i_w valid=1 ready=0 0 taken.*x_act valid=0.*done valid=0 .*o_y"):
        simulator.run([work(rng, 9)], max_cycles=300)


@pytest.mark.parametrize("case, message", [
    ({"beats": 1}, "i_w: done was offered with operand beats left over"),
    ({"beats": -1}, "nothing moved"),
])
def test_operand_beats_must_be_as_many_as_the_job_takes(simulator, rng, case, message):
    with pytest.raises(SimulationError, match=message):
        simulator.run([work(rng, **case)], max_cycles=300)


@pytest.mark.parametrize("count, message", [
    (11, "o_y: a beat beyond"), (13, "o_y: done was offered before the last result was taken"),
])
def test_result_beats_must_be_as_many_as_expected(simulator, rng, count, message):
    job = work(rng)
    with pytest.raises(SimulationError, match=message):
        simulator.run([Work(job.job, job.image, beats={"y": count})])


@pytest.mark.parametrize("tag, message", [(1, "o_y: the payload changed"), (4, "x_act: valid fell"), (6, "done: valid fell")])
def test_cocotb_watcher_sees_the_fault(design, rng, tag, message):
    receipts, _ = run_jobs(BUILD, [work(rng)], design=design, stall=0.8)
    assert len(receipts) == 1
    with pytest.raises(SimulationError, match=message):
        run_jobs(BUILD, [work(rng, tag) for _ in range(3)], design=design, stall=0.8)


def test_cocotb_leaves_no_beat_behind(design, rng):
    with pytest.raises(SimulationError, match="i_w: 1 beats left over"):
        run_jobs(BUILD, [work(rng, beats=1)], design=design)


def test_logic_that_does_not_settle_is_an_error_and_no_crash(rng):
    toy = toy_design(BUILD)
    ring = r"reg ring = 0; always @* ring = i_w_valid & ~ring; assign i_w_ready = \1 ^ ring;"
    verilog, count = re.subn(r"assign i_w_ready = (.*?);", ring, toy.verilog)
    assert count == 1
    design = dataclasses.replace(toy, verilog=verilog)
    with Simulator(BUILD, design=design) as simulator, pytest.raises(SimulationError, match="the simulation failed: .*converge"):
        simulator.run([work(rng)])
