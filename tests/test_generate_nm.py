"""The engines of N:M training as stand-alone kernels: what is emitted lints, and its own bench passes."""

import json
import subprocess
import sys

import pytest

from sparseloom.fpga.package import deliverable, write_tree
from sparseloom.hdl.bus.kernel_spec import KernelSpec
from sparseloom.hdl.export import Design
from sparseloom.models.spec.nm_load import NmLoad
from sparseloom.models.spec.nm_prune import NmPrune
from sparseloom.models.spec.nm_train import NmTrain
from sparseloom.models.spec.nm_update import NmUpdate
from sparseloom.sim.lint import lint
from sparseloom.sim.twins import twins

pytestmark = pytest.mark.rtl

NAME = "kernel"
BUILDS = {
    "nm_train": NmTrain(rows=2, cols=4, slots=4, ws_rows=8, max_m=6, max_n=24, max_k=40),
    "nm_prune": NmPrune(lanes=2, values=4, slots=4, max_n=18, max_k=40),
    "nm_load": NmLoad(words=1, rows=2, slots=4, map_words=64),
    "nm_update": NmUpdate(lanes=2, max_n=40),
}


@pytest.fixture(scope="module", params=BUILDS)
def folder(request, tmp_path_factory):
    """The folder of a kernel."""
    folder = tmp_path_factory.mktemp("kernel") / "out"
    write_tree(deliverable(KernelSpec(build=BUILDS[request.param]), NAME, twins=twins), folder)
    return folder


def bench(folder):
    run = subprocess.run([sys.executable, "sim/run.py"], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0 and "4 tests, 0 failed" in run.stdout + run.stderr, (run.stdout + run.stderr)[-3000:]


def test_the_kernel_lints_and_describes_itself(folder):
    config = json.loads((folder / "config.json").read_text())
    build = BUILDS[config["engine"]]
    assert len(json.loads((folder / "vectors" / "vectors.json").read_text())) == 6
    names = {channel["name"] for channel in config["channels"]}
    assert names == {part.name for part in (*build.inputs, *build.buffers, *build.outputs)}
    assert lint(Design(NAME, (folder / "rtl" / f"{NAME}.v").read_text(), (), ())) == []
    assert (folder / "regs" / f"{NAME}.h").is_file()


def test_the_arrays_bench_passes(tmp_path):
    """A kernel with two operand streams of unlike width."""
    write_tree(deliverable(KernelSpec(build=BUILDS["nm_train"]), NAME, twins=twins), tmp_path / "out")
    bench(tmp_path / "out")


@pytest.mark.slow
def test_every_bench_passes(folder):
    bench(folder)
