"""Every product of two scaled networks on the gates of the training array, dense and sparse: values, cycles, speed-up."""

import importlib.util

import pytest

pytestmark = pytest.mark.rtl


@pytest.fixture(scope="module")
def benchmark(root):
    spec = importlib.util.spec_from_file_location("bench_nm_train", root / "benchmarks" / "nm_train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_scaled_steps_on_gates(benchmark, root):
    rows = benchmark.gates()
    assert [(row["table"], row["nnz"]) for row in rows] == [
        (table.name, nnz) for table in benchmark.SCALED for nnz in (1, 2)]
    assert all(row["values"] > 10_000 and row["wrong"] == row["off"] == 0 for row in rows) and not benchmark.fails("gates", rows)
    for dense, sparse in zip(rows[::2], rows[1::2], strict=True):
        assert dense["cycles"] / sparse["cycles"] == sparse["speedup"] > 1
        assert sparse["speedup"] >= benchmark.FLOOR * sparse["speedup_bound"]
        assert min(dense["of_bound"], sparse["of_bound"]) >= benchmark.FLOOR
        cells = f"{dense['cycles']:,} | {sparse['cycles']:,} | {sparse['speedup']:.2f}x of {sparse['speedup_bound']:.2f}x"
        assert f"| {dense['table']} | {cells} |" in (root / "docs" / "performance.md").read_text()
    broken = [rows[0] | {"off": 1}], [rows[0] | {"wrong": 1}], [rows[0] | {"values": 0}]
    assert all(benchmark.fails("gates", row) for row in broken)
