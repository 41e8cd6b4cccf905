"""The figures that the training page quotes: cycles computed anew, accuracies as the benchmark stored them."""

import json

import pytest

from sparseloom.host.train.device import Machine
from sparseloom.host.train.network import load_network
from sparseloom.host.train.schedule import schedule

PATTERNS = {"2:8": (2, 8), "2:4": (2, 4), "1:4": (1, 4), "2:16": (2, 16)}


@pytest.fixture(scope="module")
def page(root):
    return (root / "docs" / "training.md").read_text()


@pytest.fixture(scope="module")
def stored(root):
    return json.loads((root / "docs" / "figures" / "nm_training.json").read_text())


def test_every_run_is_a_row_of_the_page(page, stored):
    network, machine = load_network("digits"), Machine.of()
    dense = schedule(network, machine, batch=64, scheme="dense").cycles
    assert len(stored["rows"]) >= 6
    for name, row in stored["rows"].items():
        scheme, _, pattern = name.split(",")[0].partition(" ")
        nnz, group = PATTERNS.get(pattern, (2, 8))
        cycles = schedule(network, machine, batch=64, scheme=scheme, nnz=nnz, group=group).cycles
        assert cycles == row["step_cycles"] and row["images"] == 1000
        shares = [right / 10 for right in row["right"]]
        mean = sum(shares) / len(shares)
        span = f"{min(shares):.1f} to {max(shares):.1f} % ({len(shares)})"
        line = f"| {name} | {mean:.1f} % | {span} | {cycles:,} | {dense / cycles:.2f} |"
        assert line in page, line


def test_bdwp_is_within_a_point_of_dense(page, stored):
    dense, sparse = (stored["rows"][name]["right"] for name in ("dense", "bdwp 2:8"))
    assert len(dense) == len(sparse) >= 3
    lost = (sum(dense) - sum(sparse)) / len(dense) / 10
    # The benchmark takes a difference of means, in float64; here of sums.
    assert stored["points_lost"] == pytest.approx(lost, abs=1e-9) and lost <= 1
    assert f"loses {lost:.1f} points against dense" in page


def test_network_sizes(page):
    assert f"`digits` ({load_network('digits').size // 1000:,},000 weights)" in page
