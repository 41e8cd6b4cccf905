"""The compiled harness on the toy engine: values, cycles, patterns of pauses, resets, waveforms, memories, interruption."""

import ctypes
import os
import signal

import numpy as np
import pytest

from sparseloom.models.formats.engines import Image, decode_beats
from sparseloom.models.spec.errors import InputError, MissingTool
from sparseloom.models.spec.memory import Memory
from sparseloom.sim import build as sim_build
from sparseloom.sim.runner import Simulator, Work
from sparseloom.sim.toy import Toy, toy_design, toy_image, toy_results

pytestmark = pytest.mark.rtl

BUILD = Toy(width=24, max_n=50, read_latency=3)
PAUSES = ({}, {"stall": 0.4}, {"idle": 0.6}, {"stall": 0.5, "idle": 0.5}, {"back_to_back": True},
          {"back_to_back": True, "stall": 0.3, "idle": 0.3})


@pytest.fixture(scope="module")
def design():
    return toy_design(BUILD)


@pytest.fixture(scope="module")
def simulator(design):
    with Simulator(BUILD, design=design) as simulator:
        yield simulator


@pytest.fixture
def works():
    rng = np.random.default_rng(7)
    jobs = [BUILD.job(n=1), BUILD.job(n=BUILD.max_n, tag=255), *(BUILD.draw_job(rng) for _ in range(30))]
    return [Work(job, toy_image(BUILD, job, rng)) for job in jobs]


def check_values(works, receipts):
    assert len(works) == len(receipts) > 0
    for work, receipt in zip(works, receipts, strict=True):
        fields = decode_beats(BUILD.outputs[0].record, receipt.outputs["y"])
        got = [{"index": int(index), "sum": int(total)} for index, total in zip(fields["index"], fields["sum"], strict=True)]
        assert got == toy_results(BUILD, work.image) and len(got) == work.job.n
        done = receipt.done
        assert done["tag"] == work.job.tag and done["status"] == 0
        assert done["cycles"] == done["busy"] + done["stall_i"] + done["stall_x"] + done["stall_o"] <= receipt.cycles


@pytest.mark.parametrize("pauses", PAUSES, ids=str)
def test_values_and_cycles(simulator, works, pauses):
    receipts = simulator.run(works, seed=3, **pauses)
    check_values(works, receipts)
    cycles = [receipt.cycles for receipt in receipts]
    exact = [BUILD.cycles(work.job) for work in works]
    if set(pauses) <= {"back_to_back"}:
        assert cycles == exact
    else:
        assert sum(cycles) > sum(exact) and all(have >= least for have, least in zip(cycles, exact, strict=True))


def test_a_seed_fixes_the_pauses(simulator, works):
    runs = [[receipt.cycles for receipt in simulator.run(works, stall=0.5, idle=0.5, seed=seed)] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_refusals_come_as_often_as_asked(simulator, works):
    """A word needs an x request and a result: with refusals of probability p each takes 1 / (1 - p) cycles on average."""
    words = sum(work.job.n for work in works)
    receipts = simulator.run(works, stall=0.75)
    for cause in ("stall_x", "stall_o"):
        assert sum(receipt.done[cause] for receipt in receipts) / words == pytest.approx(3, rel=0.15)


def test_a_thousand_jobs_in_one_call(simulator):
    rng = np.random.default_rng(1)
    works = [Work(job := BUILD.job(n=1 + i % 3, tag=i % 256), toy_image(BUILD, job, rng)) for i in range(1000)]
    check_values(works, simulator.run(works, back_to_back=True))


def test_illegal_job_ends_without_results(simulator, works):
    nothing = Image({"w": np.zeros((0, 3), np.uint8)}, {"act": np.zeros((0, 3), np.uint8)})
    bad = Work(BUILD.job(n=1, tag=9), nothing, values={"n": BUILD.max_n + 1}, beats={"y": 0})
    refused, after = simulator.run([bad, works[1]])
    assert refused.done["status"] == 1 and refused.done["tag"] == 9 and len(refused.outputs["y"]) == 0
    check_values([works[1]], [after])


@pytest.mark.parametrize("after", (0, 1, 2, 3, 4, 5, 6, 57))
def test_reset_in_mid_job_leaves_no_trace(simulator, works, after):
    simulator.reset_mid_job(works[1], after, stall=0.3, idle=0.3)
    receipts = simulator.run(works[:3])
    check_values(works[:3], receipts)
    assert [receipt.cycles for receipt in receipts] == [BUILD.cycles(work.job) for work in works[:3]]


def test_memory_before_a_stream_delays_its_first_beat(simulator, works):
    """The first beat is wanted read_latency + 1 cycles after the request's, so a longer latency shows cycle for cycle."""
    hidden = BUILD.read_latency + 2
    for latency in (1, hidden, hidden + 1, 40):
        receipts = simulator.run(works, memory={"w": Memory(latency=latency, beat_bytes=3)})
        late = max(0, latency - hidden)
        assert [receipt.cycles - late for receipt in receipts] == [BUILD.cycles(work.job) for work in works]
        assert {receipt.done["stall_i"] for receipt in receipts} == {late}


def test_memory_twin_equals_its_spec(simulator):
    rng = np.random.default_rng(5)
    twin = simulator._library.harness_memory
    segments = 0
    for _ in range(200):
        memory = Memory(latency=int(rng.integers(1, 60)), beat_bytes=16)
        count = int(rng.integers(1, 12))
        asked = np.cumsum(rng.integers(0, 80, count))
        requests = list(zip(asked.tolist(), rng.integers(1, 50, count).tolist(), strict=True))
        cycles, beats = np.array(requests, np.int64).T.copy()
        last = np.zeros(count, np.int64)
        arrays = (ctypes.c_void_p(array.ctypes.data) for array in (cycles, beats, last))
        twin(ctypes.c_int64(memory.latency), ctypes.c_int64(count), *arrays)
        assert last.tolist() == memory.last_beats(requests)
        assert last[0] - cycles[0] == memory.cycles(int(beats[0]))
        segments += count
    assert segments > 500


def test_progress_may_end_the_run(simulator, works):
    class Enough(Exception):
        pass

    seen = []

    def progress(jobs, cycles):
        seen.append((jobs, cycles))
        if len(seen) == 3:
            raise Enough

    with pytest.raises(Enough):
        simulator.run(works * 1000, progress=progress)
    assert len(seen) == 3 and seen == sorted(seen) and seen[-1][0] > 0
    check_values(works, simulator.run(works))


def test_an_interrupt_ends_the_run(simulator, works):
    before = simulator.total_cycles
    with pytest.raises(KeyboardInterrupt):
        simulator.run(works * 1000, progress=lambda jobs, cycles: os.kill(os.getpid(), signal.SIGINT))
    assert 0 < simulator.total_cycles - before < sum(BUILD.cycles(work.job) for work in works) * 100
    check_values(works, simulator.run(works))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("wrong, error", [
    ({"stall": 1.0}, "stall must be 0 or more and less than 1, got 1.0"),
    ({"idle": -0.1}, "idle must be 0 or more and less than 1, got -0.1"),
])
def test_impossible_pauses_are_refused(simulator, works, wrong, error):
    with pytest.raises(ValueError, match=error):
        simulator.run(works, **wrong)


@pytest.mark.parametrize("streams, error", [
    ({}, "the image lacks w; it has nothing"),
    ({"w": np.zeros((3, 2), np.uint8)}, r"w must be uint8 \[beats, 3\], got uint8 \[3, 2\]"),
    ({"w": np.zeros((3, 3), np.int8)}, r"w must be uint8 \[beats, 3\], got int8 \[3, 3\]"),
])
def test_images_of_another_shape_are_refused(simulator, works, streams, error):
    with pytest.raises(ValueError, match=error):
        simulator.run([Work(works[0].job, Image(streams, works[0].image.buffers))])


def test_closed_simulator_says_so(design, works):
    simulator = Simulator(BUILD, design=design)
    simulator.close()
    with pytest.raises(ValueError, match="the simulator is closed"):
        simulator.run(works)


def test_vcd_holds_the_latest_run(design, works, tmp_path):
    file = tmp_path / "toy.vcd"
    with Simulator(BUILD, design=design, waves=file) as simulator:
        for some in (works[:3], works[:1]):
            check_values(some, simulator.run(some))
    text = file.read_text()
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert all(f" {port.name} " in text for port in design.ports)
    # One job of one word: its cycles and the gap after it, a clock of 10 ns.
    ends = [int(line[1:]) for line in text.splitlines() if line.startswith("#")]
    assert ends[-1] == 10_000 * (1 + BUILD.cycles(works[0].job) + 4) - 5_000
    assert str(tmp_path) not in text


@pytest.mark.slow
def test_fst_is_written_or_the_missing_header_named(design, works, tmp_path):
    file = tmp_path / "toy.fst"
    try:
        simulator = Simulator(BUILD, design=design, waves=file)
    except MissingTool as error:
        assert "lz4.h or zlib.h is missing, needed to write FST waveforms (VCD needs neither)" in str(error)
    else:
        check_values(works, simulator.run(works))
        assert file.stat().st_size > 1000


def test_missing_fst_headers_are_named(design, tmp_path, monkeypatch):
    monkeypatch.setattr(sim_build, "has_headers", lambda *headers: False)
    with pytest.raises(MissingTool, match="liblz4-dev zlib1g-dev"):
        Simulator(BUILD, design=design, waves=tmp_path / "toy.fst")


def test_other_waveforms_are_refused(design, tmp_path):
    with pytest.raises(InputError, match=r"waves: file must end in .vcd or .fst, got 'toy.ghw'"):
        Simulator(BUILD, design=design, waves=tmp_path / "toy.ghw")


def test_waves_into_nowhere_are_an_error_before_the_run(design, works, tmp_path):
    simulator = Simulator(BUILD, design=design, waves=tmp_path / "absent" / "toy.vcd")
    with pytest.raises(FileNotFoundError):
        simulator.run(works)
