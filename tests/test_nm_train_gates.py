"""The N:M training array on gates: utilisation, both data flows' bits, special values, memory that is late."""

import numpy as np
import pytest

from sparseloom.models.formats.bf16 import BF16, to_bf16
from sparseloom.models.formats.engines import collect, pack
from sparseloom.models.golden.engines import draw_operands, results
from sparseloom.models.golden.nm_prune import prune
from sparseloom.models.spec.memory import Memory
from sparseloom.models.spec.nm_pattern import PATTERNS
from sparseloom.models.spec.nm_train import NmTrain
from sparseloom.models.spec.nm_train_job import DATAFLOWS
from sparseloom.sim.runner import Simulator, Work

pytestmark = pytest.mark.rtl

BUILD = NmTrain(rows=4, cols=4, slots=8, words=1, ws_rows=256, max_m=1024, max_n=64, max_k=4096)


@pytest.fixture(scope="module")
def gates():
    with Simulator(BUILD) as simulator:
        yield simulator


def run(gates, job, operands, **options):
    receipt, = gates.run([Work(job, pack(BUILD, job, operands))], **options)
    return collect(BUILD, job, receipt.outputs)["y"], receipt


@pytest.mark.parametrize("nnz, group", PATTERNS)
def test_four_aligned_tiles_keep_the_multipliers_busy(gates, nnz, group):
    """Four tiles of the output, 512 steps of k each (weight-stationary: 1,024 rows): 95 % and more, counted on the gates."""
    for shape in ({"m": 16, "n": 32, "k": 512 * group // nnz}, {"m": 1024, "n": 32, "k": 4 * group, "dataflow": "ws"}):
        job = BUILD.job(**shape, nnz=nnz, group=group)
        operands = draw_operands(BUILD, job, np.random.default_rng(group))
        y, receipt = run(gates, job, operands)
        assert np.array_equal(y, results(BUILD, job, operands)["y"]) and receipt.cycles == BUILD.cycles(job)
        macs = int(job.m) * job.n * job.k * nnz // group
        share = macs / (BUILD.rows * BUILD.cols * receipt.cycles)
        assert share >= 0.95, (job, share)


@pytest.mark.parametrize("nnz, group", PATTERNS[1:])
def test_sparse_products_take_their_share_of_the_time(gates, nnz, group):
    cycles = {}
    for pattern in ((1, 1), (nnz, group)):
        job = BUILD.job(m=64, n=64, k=1024, nnz=pattern[0], group=pattern[1])
        _, receipt = run(gates, job, draw_operands(BUILD, job, np.random.default_rng(0)))
        cycles[pattern] = receipt.cycles
    gain = cycles[1, 1] / cycles[nnz, group]
    assert 0.97 * group / nnz < gain <= group / nnz, gain


def test_dense_and_sparse_dataflows_agree_on_pruned_weights(gates):
    """A dense job with the pruned matrix, zeros in their places, gives the bits of the sparse one, in either data flow."""
    rng = np.random.default_rng(7)
    a, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((33, 80), (21, 80)))
    values, index = prune(w, 2, 8)
    b = np.zeros((21, 10, 8), BF16)
    np.put_along_axis(b, index.astype(int), values, axis=2)
    dense = {"a": to_bf16(a), "values": b.reshape(21, 80, 1), "index": np.zeros((21, 80, 1), np.uint8)}
    found = [run(gates, BUILD.job(m=33, n=21, k=80, nnz=nnz, group=group, dataflow=dataflow), operands)[0]
             for nnz, group, operands in ((2, 8, {"a": dense["a"], "values": values, "index": index}), (1, 1, dense))
             for dataflow in DATAFLOWS]
    assert all(np.array_equal(found[0], other) for other in found[1:]) and found[0].any()


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_special_values(gates, dataflow):
    """Infinities, NaN, overflow, underflow, signed zeros: each where it belongs."""
    inf, nan, tiny, huge = np.inf, np.nan, 2.0**-120, 2.0**120
    a = np.array([[inf, 0], [inf, -inf], [nan, 1], [huge, huge], [tiny, tiny], [-0.0, -0.0], [huge, -huge]], np.float32)
    b = np.array([[1, inf, huge, tiny], [1, 0, huge, tiny]], np.float32)
    job = BUILD.job(m=7, n=4, k=2, dataflow=dataflow)
    operands = {"a": to_bf16(a), "values": to_bf16(np.ascontiguousarray(b.T))[:, :, None], "index": np.zeros((4, 2, 1), np.uint8)}
    y, _ = run(gates, job, operands)
    assert np.array_equal(y, results(BUILD, job, operands)["y"])
    bits = {"nan": 0x7FC00000, "inf": 0x7F800000, "tiny": 0}
    assert y[0, 0] == y[0, 1] == bits["inf"] and y[1, 0] == bits["nan"] and (y[2] == bits["nan"]).all()
    assert y[3, 2] == bits["inf"] and y[4, 3] == bits["tiny"] and not y[5, [0, 2, 3]].any() and y[6, 0] == 0


def test_operands_from_a_memory(gates):
    """Both operands from memories with latency: the same results, later, and the wait is counted."""
    job = BUILD.job(m=20, n=40, k=100, nnz=2, group=8)
    operands = draw_operands(BUILD, job, np.random.default_rng(3))
    memory = {stream.name: Memory(latency=40, beat_bytes=stream.record.bytes) for stream in BUILD.inputs}
    y, receipt = run(gates, job, operands, memory=memory)
    assert np.array_equal(y, results(BUILD, job, operands)["y"])
    assert 0 < receipt.cycles - BUILD.cycles(job) <= 2 * 40 and receipt.done["stall_i"] > 0
