"""The engines of vision transformers as stand-alone kernels: what is emitted lints, and its own bench passes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sparseloom.fpga.package import deliverable, write_tree
from sparseloom.hdl.bus.kernel_spec import KernelSpec
from sparseloom.hdl.export import Design
from sparseloom.models.spec.attention import Attention
from sparseloom.models.spec.moe_gate import MoeGate
from sparseloom.models.spec.moe_linear import MoeLinear
from sparseloom.models.spec.vector import Vector
from sparseloom.sim.lint import lint
from sparseloom.sim.twins import twins

pytestmark = pytest.mark.rtl

NAME = "kernel"
BUILDS = {
    "attention": Attention(p=2, d_lanes=8, score="two_pass", max_queries=8, max_keys=16, max_d=16, max_heads=2),
    "moe_linear": MoeLinear(tokens=2, rows=4, lanes=8, beat_bytes=8, max_m=8, max_k=24, max_n=12, max_experts=4, score_n=12,
                            target="dsp48e2"),
    "moe_gate": MoeGate(max_m=8, max_experts=6),
    "vector": Vector(function="layernorm", lanes=4, max_m=4, max_k=24),
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
    assert config["full_rate"] and len(json.loads((folder / "vectors" / "vectors.json").read_text())) == 6
    names = {channel["name"] for channel in config["channels"]}
    assert names == {part.name for part in (*build.inputs, *build.buffers, *build.outputs)}
    cells = tuple(path.stem for path in sorted((folder / "sim").glob("primitives/*.v")))
    assert cells == (("DSP48E2",) if config["engine"] == "moe_linear" else ())
    assert lint(Design(NAME, (folder / "rtl" / f"{NAME}.v").read_text(), (), cells)) == []
    assert "bytes" in (folder / "README.md").read_text() and (Path(folder) / "regs" / f"{NAME}.h").is_file()


def test_the_gates_bench_passes(tmp_path):
    """A kernel without operand streams."""
    write_tree(deliverable(KernelSpec(build=BUILDS["moe_gate"]), NAME, twins=twins), tmp_path / "out")
    bench(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BUILDS if name != "moe_gate"])
def test_the_emitted_bench_passes(name, tmp_path):
    write_tree(deliverable(KernelSpec(build=BUILDS[name]), NAME, twins=twins), tmp_path / "out")
    bench(tmp_path / "out")
