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


def verilog(read_latency):
    """A buffer of 512 words of 32 bits."""
    spec = KernelSpec(build=Toy(width=32, max_n=512, read_latency=read_latency))
    return export(LoadedBuffer(spec.build.buffers[0], spec.loads[0]), "bank").verilog


@pytest.mark.parametrize("flow, read_latency, block, lutram", [
    ("synth_xilinx -family xcup -run begin:map_ffram", 2, "RAMB36E2", "RAM32|RAM64"),
    ("synth_xilinx -family xc7 -run begin:map_ffram", 3, "RAMB36E1", "RAM32|RAM64"),
    ("synth_ecp5 -run begin:map_ffram", 1, "DP16KD", "TRELLIS_DPR"),
], ids=["xcup", "xc7", "ecp5"])
def test_a_buffer_becomes_block_ram(tmp_path, flow, read_latency, block, lutram):
    design = ys.Design()
    (tmp_path / "bank.v").write_text(verilog(read_latency))
    for command in (f"read_verilog {tmp_path / 'bank.v'}", f"{flow} -top bank", f"tee -q -o {tmp_path / 'stat.json'} stat -json"):
        ys.run_pass(f"tee -q {command}" if not command.startswith("tee") else command, design)
    cells = json.loads((tmp_path / "stat.json").read_text())["design"]["num_cells_by_type"]
    # Both halves: 1024 words of 32 bits.
    bits = {"RAMB36E2": 36 << 10, "RAMB36E1": 36 << 10, "DP16KD": 18 << 10}[block]
    assert cells.get(block) == -(-1024 * 36 // bits), cells
    assert not [name for name in cells if re.search(lutram, name)], cells


@pytest.mark.parametrize("read_latency", [1, 2])
def test_reads_are_registered_and_never_forwarded(read_latency):
    """One write in one clocked block, one read in another, no path from written to read data beside the memory."""
    text = verilog(read_latency)
    assert len(re.findall(r"memory\[.*?\] <= ", text)) == 1 and len(re.findall(r"<= memory\[", text)) == 1
    assert "rw_addr_collision" not in text and not re.search(r"assign .*= memory\[", text)
