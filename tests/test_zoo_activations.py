"""The study of activation formats on the real model: its figures hold and its choice is within the limits."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_study(root):
    run = subprocess.run([sys.executable, root / "benchmarks" / "activations.py", "--passage", "gpl-3-512", "--json"],
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    rows = {row["format"]: row for row in result["formats"]}
    assert result["predictions"] == 511 and rows["float32"]["perplexity"] == pytest.approx(18.83, abs=0.005)
    names = ["int8, token", "int8, token; 16 bits at ffn_down", *(f"int8, groups of {group}" for group in (128, 64, 32))]
    for better, worse in zip(names[1:], names[:-1], strict=True):
        assert rows[better]["kl"] < rows[worse]["kl"] and rows[better]["top1"] > rows[worse]["top1"], better
    for group in (128, 64, 32):
        plain, mantissas = rows[f"int8, groups of {group}"], rows[f"int8, groups of {group}, mantissas"]
        assert 0 < mantissas["scale_loss"] < 2e-4 and mantissas["kl"] == pytest.approx(plain["kl"], rel=0.3)
    for name, flips in result["flips"].items():
        assert len(flips) == rows[name]["flips"] == round((1 - rows[name]["top1"]) * 511), name
        assert [flip["margin"] for flip in flips if not flip["margin"] > 0] == []
    for name in (result["chosen"], result["engine"]):
        assert rows[name]["perplexity_ratio"] < 1.02 and rows[name]["top1"] > 0.95
    assert 0 < result["weight_scale_loss"] < 2e-4 and result["basis"] == "measured"
