"""A generated kernel as a stranger gets it: the bench it ships with must pass; cocotbext-axi drives the same build further."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cocotb_tools.runner import get_results, get_runner

from sparseloom.fpga.package import deliverable, write_tree
from sparseloom.hdl.bus.kernel_spec import KernelSpec
from sparseloom.models.spec.sparse_chain import SparseChain
from sparseloom.models.spec.ternary import TernaryEngine
from sparseloom.sim.twins import twins

pytestmark = pytest.mark.rtl

# The ternary kernel's activations come on a bus that is narrower than a word; the sparse one's multipliers are vendor cells.
KERNELS = {
    "ternary": KernelSpec(build=TernaryEngine(rows=4, lanes=10, max_k=64, max_n=32, max_m=3, requantise=True, statistics=True),
                          bus_bytes={"act": 4}),
    "sparse": KernelSpec(build=SparseChain(chains=2, window=16, max_bits=4, codebook=True, group_dsps=4, max_k=200, max_n=20,
                                           max_m=3, target="dsp48e2")),
}
NAME = "small_kernel"


def run_bench(folder):
    """Run the folder's own bench as its README says, with nothing of this process but the Python."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    run = subprocess.run([sys.executable, "sim/run.py"], cwd=folder, env=environment, capture_output=True, text=True)
    return run.returncode, run.stdout + run.stderr


@pytest.fixture(scope="module", params=KERNELS)
def kernel(request, tmp_path_factory):
    """The folder of a small kernel, and what its bench said."""
    folder = tmp_path_factory.mktemp("kernel") / "out"
    write_tree(deliverable(KERNELS[request.param], NAME, twins=twins), folder)
    return folder, *run_bench(folder)


def test_the_emitted_bench_passes(kernel):
    _, code, log = kernel
    assert code == 0, log[-4000:]
    assert "4 tests, 0 failed" in log


def test_the_same_gates_under_more_tests(kernel, monkeypatch, tmp_path):
    """cocotb_kernel.py on the model that the bench has built."""
    folder, _, log = kernel
    assert (folder / "sim" / "sim_build").is_dir(), log[-4000:]
    monkeypatch.syspath_prepend(folder / "sim")
    monkeypatch.syspath_prepend(Path(__file__).parent)
    tests, failed = get_results(get_runner("verilator").test(
        test_module="cocotb_kernel", hdl_toplevel=NAME, hdl_toplevel_lang="verilog", build_dir=folder / "sim" / "sim_build",
        test_dir=tmp_path, seed=1, extra_env={"PYTHONWARNINGS": "ignore::DeprecationWarning"}, log_file=tmp_path / "log"))
    assert (tests, failed) == (6, 0), (tmp_path / "log").read_text()[-6000:]


def test_a_wrong_vector_fails_the_bench(kernel):
    """The bench compares what it says: one bit of one expected result turned, the model already built."""
    folder, _, _ = kernel
    file = next(path for path in sorted((folder / "vectors").glob("*_y.hex")))
    text = file.read_text()
    file.write_text(text[:-2] + ("1" if text[-2] != "1" else "0") + "\n")
    try:
        code, log = run_bench(folder)
    finally:
        file.write_text(text)
    assert code == 1 and f"{file.name}: first difference at byte" in log


@pytest.mark.slow
@pytest.mark.parametrize("build, bus", [
    (TernaryEngine(rows=4, lanes=20), {"y": 4, "w": 4, "act": 2}),
    (TernaryEngine(rows=16, lanes=20, max_k=1024, max_n=1024, statistics=True), {}),
    (TernaryEngine(rows=16, lanes=20, max_k=1024, max_n=1024, datapath="table", requantise=True), {"y": 16}),
    (SparseChain(chains=1, max_k=512, max_n=64, max_m=8, max_bits=4), {"act": 4}),
    (SparseChain(chains=4, window=128, tokens=1, max_k=1024, max_n=256, max_m=8, target="ecp5"), {}),
    (SparseChain(max_k=1024, max_n=1024, max_m=8), {}),
], ids=["narrow", "wide", "table", "chain", "token", "chains"])
def test_the_emitted_bench_of_larger_kernels(build, bus, tmp_path):
    write_tree(deliverable(KernelSpec(build=build, bus_bytes=bus), NAME, twins=twins), tmp_path / "out")
    code, log = run_bench(tmp_path / "out")
    assert code == 0 and "4 tests, 0 failed" in log, log[-4000:]
