"""The formats keep up with a disk: the benchmark's own floor, 200 MB/s of unpacked weights on one core."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_every_format_is_above_the_floor(root):
    run = subprocess.run([sys.executable, root / "benchmarks" / "formats.py", "--json"], capture_output=True, text=True)
    result = json.loads(run.stdout)
    assert run.returncode == 0, result
    assert {row["format"] for row in result["formats"]} == {"TQ1_0", "TQ2_0", "I2_S", "HF BitNet"}
    assert min(min(row["pack_mb_s"], row["unpack_mb_s"]) for row in result["formats"]) > result["floor_mb_s"] == 200
