"""The weight update engine: what is refused, golden against a loop, both rules by hand, beats, closed forms."""

import math
import struct

import numpy as np
import pytest

from sparseloom.models.formats.bf16 import from_bf16
from sparseloom.models.formats.engines import collect, pack
from sparseloom.models.golden.engines import draw_operands, results
from sparseloom.models.golden.nm_update import count_not_finite, update
from sparseloom.models.spec.engine import Status
from sparseloom.models.spec.nm_update import NmUpdate
from sparseloom.models.spec.nm_update_job import factors
from sparseloom.sim.conformance import check_build, draw_builds
from sparseloom.sim.runner import Simulator, Work

BUILD = NmUpdate(lanes=3, max_n=100)


@pytest.mark.parametrize("values, error, message", [
    ({"lanes": 0}, ValueError, "lanes must be 1..16, got 0"),
    ({"lanes": 17}, ValueError, "lanes must be 1..16, got 17"),
    ({"lanes": 4.0}, TypeError, "lanes must be an integer, got 4.0"),
    ({"max_n": 0}, ValueError, "max_n must be 1..4294967294, got 0"),
    ({"max_n": (1 << 32) - 1}, ValueError, "max_n must be 1..4294967294, got 4294967295"),
    ({"lion": 1}, TypeError, "lion must be true or false, got 1"),
    ({"pruned": None}, TypeError, "pruned must be true or false, got None"),
])
def test_impossible_builds(values, error, message):
    with pytest.raises(error) as caught:
        NmUpdate(**values)
    assert type(caught.value) is error and str(caught.value) == message


@pytest.mark.parametrize("shape, error, message", [
    ({}, ValueError, "job field n is missing"),
    ({"n": 0}, ValueError, "n must be 1..100, got 0"),
    ({"n": 101}, ValueError, "n must be 1..100, got 101"),
    ({"n": True}, TypeError, "n must be an integer, got True"),
    ({"n": 1, "tag": 256}, ValueError, "tag must be 0..255, got 256"),
    ({"n": 1, "last": 1}, TypeError, "last must be true or false, got 1"),
    ({"n": 1, "rule": "adam"}, ValueError, "rule must be one of sgd, lion, got 'adam'"),
    ({"n": 1, "lr": "fast"}, TypeError, "lr must be a number, got 'fast'"),
    ({"n": 1, "lr": False}, TypeError, "lr must be a number, got False"),
    ({"n": 1, "lr": math.nan}, ValueError, "lr must be finite as float32, got nan"),
    ({"n": 1, "weight_decay": 3.5e38}, ValueError, "weight_decay must be finite as float32, got 3.5e+38"),
    ({"n": 1, "beta1": 0.5}, ValueError, "beta1 must be 0 for sgd, got 0.5"),
    ({"n": 1, "beta2": 0.5}, ValueError, "beta2 must be 0 for sgd, got 0.5"),
    ({"n": 1, "rule": "lion", "momentum": 0.5}, ValueError, "momentum must be 0 for lion, got 0.5"),
])
def test_illegal_jobs(shape, error, message):
    with pytest.raises(error) as caught:
        BUILD.job(**shape)
    assert type(caught.value) is error and str(caught.value) == message


def test_builds_without_a_part_refuse_what_needs_it():
    plain = NmUpdate(lion=False, pruned=False)
    with pytest.raises(ValueError, match="rule must be one of sgd, got 'lion'"):
        plain.job(n=1, rule="lion")
    with pytest.raises(ValueError, match="pruned_decay must be 0 in a build without pruned, got 0.5"):
        plain.job(n=1, pruned_decay=0.5)
    with pytest.raises(ValueError, match="stream must be w, g, mom or y, got 'x'"):
        plain.beats("x", plain.job(n=1))
    assert (plain.multipliers, plain.adders) == (3, 3) and (NmUpdate().multipliers, NmUpdate().adders) == (7, 5)


def test_records_hold_every_legal_value():
    rng = np.random.default_rng(1)
    for build in (BUILD, NmUpdate(lanes=16, max_n=(1 << 32) - 2), NmUpdate(lion=False), NmUpdate(pruned=False)):
        for job in [build.largest_job(), *(build.draw_job(rng) for _ in range(50))]:
            values = build.job_values(job)
            assert build.job_record.decode(build.job_record.encode(values)) == values
        for values in build.illegal_values():
            build.job_record.encode(build.job_values(build.job(n=1)) | values)
        assert all(stream.record.bits % 8 == 0 for stream in build.inputs)


def test_hyperparameters_are_rounded_to_float32():
    job = BUILD.job(n=1, rule="lion", lr=0.1, beta1=0.9, beta2=0.99)
    assert job.lr == float(np.float32(0.1)) != 0.1
    bits = {name: np.uint32(value).view(np.float32) for name, value in factors(job).items()}
    assert bits["old"] == np.float32(0.9) and bits["fresh"] == np.float32(1) - np.float32(0.9)
    assert bits["old_2"] == np.float32(0.99) and bits["fresh_2"] == np.float32(1) - np.float32(0.99)
    assert factors(BUILD.job(n=1, momentum=0.5))["fresh"] == 0x3F800000
    assert BUILD.job(n=1, lr=np.float32(0.5)).lr == BUILD.job(n=1, lr=np.float64(0.5)).lr == 0.5
    assert BUILD.job(n=1, lr=1).lr == 1.0


# Golden ---------------------------------------------------------------------------------------------------------------
def single(x):
    """A Python float rounded to float32: sums and products of float32 have room in float64, so that this is their rounding."""
    try:
        return struct.unpack("<f", struct.pack("<f", x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)


def add(a, b):
    return single(a + b)


def multiply(a, b):
    return single(a * b)


def slow(rule, w, g, mom, keep, lr, momentum, beta1, beta2, weight_decay, pruned_decay):
    """One weight, from the text of the rules."""
    if rule == "sgd":
        g = add(g, multiply(weight_decay, w))
        if not keep:
            g = add(g, multiply(pruned_decay, w))
        mom = add(multiply(momentum, mom), g)
        return add(w, -multiply(lr, mom)), mom
    if not keep:
        g = add(g, multiply(pruned_decay, w))
    c = add(multiply(beta1, mom), multiply(single(1 - beta1), g))
    sign = c if math.isnan(c) else float((c > 0) - (c < 0))
    new = add(w, -multiply(lr, add(sign, multiply(weight_decay, w))))
    return new, add(multiply(beta2, mom), multiply(single(1 - beta2), g))


def pattern(x):
    return 0x7FC00000 if math.isnan(x) else struct.unpack("<I", struct.pack("<f", x))[0]


def test_golden_is_the_definition():
    rng, seen = np.random.default_rng(2), set()
    for build in draw_builds(NmUpdate, 8, seed=3):
        for job in [build.largest_job(), *(build.draw_job(rng) for _ in range(15))]:
            operands = draw_operands(build, job, rng)
            got = results(build, job, operands)
            keep = operands.get("keep", np.ones(job.n, bool)).tolist()
            rows = zip(*(operands[name].tolist() for name in ("w", "g", "mom")), keep, strict=True)
            want = [slow(job.rule, *row, job.lr, job.momentum, job.beta1, job.beta2, job.weight_decay, job.pruned_decay)
                    for row in rows]
            assert got["weight"].tolist() == [pattern(new) for new, _ in want], job
            assert got["momentum"].tolist() == [pattern(moved) for _, moved in want], job
            assert got["saturated"] == sum(not math.isfinite(new) for new, _ in want)
            seen |= {job.rule, "kept" if all(keep) else "pruned", "finite" if not got["saturated"] else "not finite"}
    assert seen == {"sgd", "lion", "kept", "pruned", "finite", "not finite"}


def vector(*values):
    return np.array(values, np.float32)


def test_sgd_by_hand():
    keep = np.array([True, False])
    new, moved, copy = update(vector(2, 2), vector(1, 1), vector(4, 4), rule="sgd", lr=0.5, momentum=0.25, weight_decay=0.125,
                              pruned_decay=0.5, keep=keep)
    # g1 = 1 + 0.25, and 1 more where pruned; mom' = 1 + g1; w' = 2 - mom' / 2.
    assert moved.tolist() == [2.25, 3.25] and new.tolist() == [0.875, 0.375] and from_bf16(copy).tolist() == [0.875, 0.375]


def test_lion_by_hand():
    new, moved, _ = update(vector(2, 2, 2), vector(1, -9, 0), vector(4, 4, 0), rule="lion", lr=0.5, beta1=0.5, beta2=0.75,
                           weight_decay=0.25)
    # c = 2.5, -2.5, 0; u = sign + 0.5; mom' = 3 * mom / 4 + g / 4.
    assert new.tolist() == [1.25, 2.25, 1.75] and moved.tolist() == [3.25, 0.75, 0.0]
    pulled, _, _ = update(vector(2, 2, 2), vector(1, -9, 0), vector(4, 4, 0), rule="lion", lr=0.5, beta1=0.5, beta2=0.75,
                          weight_decay=0.25, pruned_decay=8, keep=np.array([True, False, False]))
    # Of the second and third g + 16 is positive.
    assert pulled.tolist() == [1.25, 1.25, 1.25]


def test_each_operation_rounds():
    """2**-24 of a weight of 1 is lost from the product that is added to it, and not from a fused one."""
    w, g, mom = vector(1), vector(1 + 2**-23), vector(0)
    new, moved, copy = update(w, g, mom, rule="sgd", lr=1 - 2**-24, momentum=0.0)
    assert moved.tolist() == [1 + 2**-23] and new.tolist() == [0.0]
    assert (1 - (1 - 2**-24) * (1 + 2**-23)) != 0 and from_bf16(copy).tolist() == [0.0]


@pytest.mark.parametrize("change, error, message", [
    ({"rule": "adam"}, ValueError, "rule must be one of sgd, lion, got 'adam'"),
    ({"g": vector(1)}, ValueError, r"g must have the shape of w \[2\], got \[1\]"),
    ({"mom": vector(1)}, ValueError, r"mom must have the shape of w \[2\], got \[1\]"),
    ({"keep": np.ones(2, np.int8)}, TypeError, "keep must be bool, got int8"),
    ({"keep": np.ones(3, bool)}, ValueError, r"keep must have the shape of w \[2\], got \[3\]"),
    ({"w": np.ones(2)}, TypeError, "must be float32, got float64"),
])
def test_golden_refuses(change, error, message):
    with pytest.raises(error, match=message):
        update(**{"w": vector(1, 2), "g": vector(1, 2), "mom": vector(1, 2), "rule": "sgd", "lr": 1.0} | change)


def test_what_is_not_finite_is_counted():
    assert count_not_finite(vector(0, np.inf, -np.inf, np.nan, 3.4e38)) == 3


# Formats --------------------------------------------------------------------------------------------------------------
def test_beats_are_lanes_with_a_bit_each():
    job = BUILD.job(n=4)
    operands = {name: vector(1, 2, 3, 4) * scale for name, scale in (("w", 1), ("g", 2), ("mom", 4))}
    image = pack(BUILD, job, operands | {"keep": np.array([True, False, True, True])})
    w = image.streams["w"]
    assert w.shape == (2, 13) and w[:, 12].tolist() == [0b101, 0b1] and not w[1, 4:12].any() and image.buffers == {}
    assert image.streams["g"].view("<f4").tolist() == [[2, 4, 6], [8, 0, 0]]
    assert image.streams["mom"].view("<f4").tolist() == [[4, 8, 12], [16, 0, 0]]
    with pytest.raises(ValueError, match=r"g must be float32 \[4\], got float32 \[1\]"):
        pack(BUILD, job, operands | {"keep": np.ones(4, bool), "g": vector(1)})
    with pytest.raises(ValueError, match=r"keep must be bool \[4\], got uint8 \[4\]"):
        pack(BUILD, job, operands | {"keep": np.ones(4, np.uint8)})
    wide = NmUpdate(lanes=9)
    keep = np.zeros(10, bool)
    keep[[0, 8, 9]] = True
    zeros = np.zeros(10, np.float32)
    image = pack(wide, wide.job(n=10), {"w": zeros, "g": zeros, "mom": zeros, "keep": keep})
    assert image.streams["w"][:, 36:].tolist() == [[1, 1], [1, 0]]


def beats(*rows):
    record = BUILD.outputs[0].record
    raw = b"".join(record.to_bytes({"index": index, "weight": [w] * 3, "momentum": [5] * 3, "copy": [1] * 3})
                   for index, w in rows)
    return {"y": np.frombuffer(raw, np.uint8).reshape(len(rows), record.bytes)}


def test_results_come_in_order_and_padded_with_0():
    got = collect(BUILD, BUILD.job(n=6), beats((0, 7), (3, 8)))
    assert got["weight"].tolist() == [7] * 3 + [8] * 3 and got["momentum"].tolist() == [5] * 6 and got["copy"].dtype == np.uint16
    with pytest.raises(ValueError, match=r"o_y must deliver weights in order, got indices \[3, 0\]"):
        collect(BUILD, BUILD.job(n=6), beats((3, 7), (0, 8)))
    with pytest.raises(ValueError, match="weight beyond the last weight must be 0"):
        collect(BUILD, BUILD.job(n=5), beats((0, 7), (3, 8)))


# Cycles ---------------------------------------------------------------------------------------------------------------
def test_cycles_by_hand():
    """First operands in cycle 3, a beat a cycle. SGD alone: product 6, sums of 4 for decay and momentum, product 6, sum 4; then
    beat, queue, two for the count, completion. Pruned decay is a sum more, Lion a product and a sum."""
    plain = NmUpdate(lanes=4, lion=False, pruned=False)
    assert plain.cycles(plain.job(n=1)) == 3 + 1 + (6 + 4 + 4 + 6 + 4) + 5 == 33
    assert plain.cycles(plain.job(n=401)) == 33 + 100
    assert NmUpdate(lanes=4, lion=False).cycles(plain.job(n=1)) == 33 + 4
    full = NmUpdate(lanes=4)
    for rule in ("sgd", "lion"):
        assert full.cycles(full.job(n=1 << 20, rule=rule)) == (1 << 18) + 32 + 4 + 6 + 4
    assert full.cycles_back_to_back(full.job(n=9)) == full.cycles(full.job(n=9)) - 1
    assert full.useful_fraction(full.job(n=9), 90) == {"stream": 0.025, "compute": 0.025, "useful": 0.025}


# Gates ----------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def simulator():
    with Simulator(NmUpdate(lanes=1, max_n=4)) as gates:
        yield gates


@pytest.mark.rtl
@pytest.mark.parametrize("rule", ["sgd", "lion"])
def test_gates_go_the_way_to_a_target(simulator, rule):
    """Fifty steps, each from what the gates made of the last one; golden walks along, bit for bit."""
    build = simulator.build
    hyper = {"rule": rule, "lr": 0.02, "weight_decay": 1e-3, "pruned_decay": 2e-3}
    hyper |= {"momentum": 0.5} if rule == "sgd" else {"beta1": 0.9, "beta2": 0.99}
    job, target = build.job(n=4, **hyper), vector(0.5, -0.25, 0.125, 0)
    w, mom, keep = vector(1, 1, -1, 0.1), np.zeros(4, np.float32), np.array([True, True, False, False])
    start = np.abs(w - target).sum()
    for _ in range(50):
        g = w - target
        receipt, = simulator.run([Work(job, pack(build, job, {"w": w, "g": g, "mom": mom, "keep": keep}))])
        got, want = collect(build, job, receipt.outputs), update(w, g, mom, keep=keep, **hyper)
        w, mom = got["weight"].view(np.float32), got["momentum"].view(np.float32)
        assert receipt.cycles == build.cycles(job) and receipt.done["saturated"] == 0 and receipt.done["status"] == Status.OK
        assert (w == want[0]).all() and (mom == want[1]).all() and (got["copy"] == want[2].view(np.uint16)).all()
    assert np.abs(w - target).sum() < 0.4 * start


@pytest.mark.rtl
def test_three_thousand_jobs_back_to_back(simulator):
    """Any bits and corners, any hyperparameters, both rules in turn."""
    build = simulator.build
    rng, works, wants = np.random.default_rng(6), [], []
    for _ in range(3000):
        job = build.draw_job(rng)
        operands = draw_operands(build, job, rng)
        works.append(Work(job, pack(build, job, operands)))
        wants.append(results(build, job, operands))
    for work, want, receipt in zip(works, wants, simulator.run(works, back_to_back=True), strict=True):
        got = collect(build, work.job, receipt.outputs) | {"saturated": receipt.done["saturated"]}
        assert all(np.array_equal(got[name], want[name]) for name in want), work.job


@pytest.mark.rtl
@pytest.mark.slow
def test_more_than_eight_lanes_on_compiled_gates():
    """Lane nine's bit lies in the second byte."""
    build = NmUpdate(lanes=9, lion=False, max_n=40)
    assert check_build(build, jobs=12, seed=1, modes=("free", "both")).values > 0
