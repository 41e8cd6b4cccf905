"""The kernel's buffers as synthesis sees them: block RAM, and nothing that depends on what a memory does on a collision."""

import json
import re

import pytest
from pyosys import libyosys as ys

from sparseloom.hdl.bus.kernel_spec import KernelSpec
from sparseloom.hdl.bus.loaded_buffer import LoadedBuffer
from sparseloom.hdl.export import export
from sparseloom.sim.toy import Toy

pytestmark = pytest.mark.rtl


@pytest.fixture(scope="module", params=[1, 3], ids=["latency 1", "latency 3"])
def verilog(request, tmp_path_factory):
    """File of a buffer of 512 words of 32 bits."""
    spec = KernelSpec(build=Toy(width=32, max_n=512, read_latency=request.param))
    path = tmp_path_factory.mktemp("memory") / "bank.v"
    path.write_text(export(LoadedBuffer(spec.build.buffers[0], spec.loads[0]), "bank").verilog)
    return path


@pytest.mark.parametrize("flow, block, lutram", [
    ("synth_xilinx -family xcup -run begin:map_ffram", "RAMB36E2", "RAM32|RAM64"),
    ("synth_xilinx -family xc7 -run begin:map_ffram", "RAMB36E1", "RAM32|RAM64"),
    ("synth_ecp5 -run begin:map_ffram", "DP16KD", "TRELLIS_DPR"),
], ids=["xcup", "xc7", "ecp5"])
def test_a_buffer_becomes_block_ram(verilog, tmp_path, flow, block, lutram):
    design = ys.Design()
    for command in (f"read_verilog {verilog}", f"{flow} -top bank", f"tee -q -o {tmp_path / 'stat.json'} stat -json"):
        ys.run_pass(f"tee -q {command}" if not command.startswith("tee") else command, design)
    cells = json.loads((tmp_path / "stat.json").read_text())["design"]["num_cells_by_type"]
    # Both halves: 1024 words of 32 bits.
    bits = {"RAMB36E2": 36 << 10, "RAMB36E1": 36 << 10, "DP16KD": 18 << 10}[block]
    assert cells.get(block) == -(-1024 * 36 // bits), cells
    assert not [name for name in cells if re.search(lutram, name)], cells


def test_reads_are_registered_and_never_forwarded(verilog):
    """One write in one clocked block, one read in another, no path from written to read data beside the memory."""
    text = verilog.read_text()
    assert len(re.findall(r"memory\[.*?\] <= ", text)) == 1 and len(re.findall(r"<= memory\[", text)) == 1
    assert "rw_addr_collision" not in text and not re.search(r"assign .*= memory\[", text)
