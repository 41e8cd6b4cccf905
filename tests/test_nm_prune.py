"""The N:M pruner: what is refused, golden against slow loops, ties, NaN, masks, streams, cycles by hand, gates at corners."""

import re

import numpy as np
import pytest

from sparseloom.models.formats import nm_prune_stream
from sparseloom.models.formats.bf16 import from_bf16
from sparseloom.models.formats.engines import Image, collect, decode_beats, pack
from sparseloom.models.formats.nm_train_stream import pack_b_tiles
from sparseloom.models.golden.nm_prune import draw_operands, keep_mask, prune, results
from sparseloom.models.spec.engine import Status
from sparseloom.models.spec.nm_pattern import PATTERNS
from sparseloom.models.spec.nm_prune import QUEUE_DEPTH, VALUES, NmPrune
from sparseloom.models.spec.nm_train import NmTrain
from sparseloom.sim.conformance import draw_builds

BUILD = NmPrune(lanes=2, slots=5, max_n=23, max_k=40)
NAN, INF = np.float32(np.nan), np.float32(np.inf)


@pytest.mark.parametrize("values, error, message", [
    ({"lanes": 3}, ValueError, "lanes must be one of 2, 4, 8, 16, 32, 64, got 3"),
    ({"lanes": 8.0}, TypeError, "lanes must be an integer, got 8.0"),
    ({"values": 32}, ValueError, "values must be one of 1, 2, 4, 8, 16, got 32"),
    ({"slots": 3}, ValueError, "slots must be 4..16, got 3"),
    ({"slots": 17}, ValueError, "slots must be 4..16, got 17"),
    ({"max_n": 0}, ValueError, "max_n must be 1..131070, got 0"),
    ({"max_k": 1 << 15}, ValueError, "max_k must be 1..32767, got 32768"),
])
def test_impossible_builds(values, error, message):
    with pytest.raises(error) as caught:
        NmPrune(**values)
    assert type(caught.value) is error and str(caught.value) == message


@pytest.mark.parametrize("shape, error, message", [
    ({"n": 1}, ValueError, "job field k is missing"),
    ({"n": 1, "k": 1, "m": 1}, ValueError, "unknown job field 'm'; fields are first, group, k, last, n, nnz, tag"),
    ({"n": 24, "k": 1}, ValueError, "n must be 1..23, got 24"),
    ({"n": 1, "k": 0}, ValueError, "k must be 1..40, got 0"),
    ({"n": 1, "k": True}, TypeError, "k must be an integer, got True"),
    ({"n": 1, "k": 1, "tag": 256}, ValueError, "tag must be 0..255, got 256"),
    ({"n": 1, "k": 1, "last": 1}, TypeError, "last must be true or false, got 1"),
    ({"n": 1, "k": 1, "nnz": 3, "group": 8}, ValueError,
     "nnz:group must be one of 1:1, 2:4, 1:4, 4:8, 2:8, 2:16, got 3:8"),
    ({"n": 1, "k": 1, "nnz": 2.0}, TypeError, "nnz must be an integer, got 2.0"),
])
def test_illegal_jobs(shape, error, message):
    with pytest.raises(error) as caught:
        BUILD.job(**shape)
    assert type(caught.value) is error and str(caught.value) == message


def test_records_hold_every_legal_value():
    rng = np.random.default_rng(1)
    for build in BUILD, NmPrune(lanes=2, slots=4, max_n=(1 << 17) - 2, max_k=(1 << 15) - 1), NmPrune(lanes=64, slots=16):
        for job in [build.largest_job(), *(build.draw_job(rng) for _ in range(50))]:
            values = build.job_values(job)
            assert build.job_record.decode(build.job_record.encode(values)) == values
            assert (values["tiles"] - 1) * build.tile_columns + values["rest"] == job.n and values["last_slots"] <= build.slots
        usual = build.job_values(build.job(n=1, k=1))
        for values in build.illegal_values():
            build.job_record.encode(usual | values)
        assert build.beats("y", build.largest_job()) <= 1 << 32
    with pytest.raises(ValueError, match="stream must be w or y, got 'x'"):
        BUILD.beats("x", BUILD.job(n=1, k=1))


# Golden ---------------------------------------------------------------------------------------------------------------
def slow(row, nnz, group):
    """(bits of bfloat16, indices) of each group, in loops over integers."""
    found = []
    for start in range(0, len(row), group):
        codes = [int(np.float32(value).view(np.uint32)) for value in row[start : start + group]]
        codes += [0] * (group - len(codes))
        kept = []
        for _ in range(nnz):
            best = None
            for at, code in enumerate(codes):
                if at not in kept and (best is None or code & 0x7FFFFFFF > codes[best] & 0x7FFFFFFF):
                    best = at
            kept.append(best)
        kept.sort()
        found.append(([half(codes[at]) for at in kept], kept))
    return found


def half(code):
    """Bits of the bfloat16 nearest to a float32 of bits ``code``, the even one of two."""
    if code & 0x7FFFFFFF > 0x7F800000:
        return 0x7FC0
    low, high = code & 0xFFFF, code >> 16
    return high + (low > 0x8000 or (low == 0x8000 and high % 2))


def test_golden_is_the_definition():
    rng, seen = np.random.default_rng(2), set()
    for build in draw_builds(NmPrune, 6, seed=3):
        for job in [build.largest_job(), *(build.draw_job(rng) for _ in range(25))]:
            w = draw_operands(build, job, rng)["w"]
            assert not np.isnan(w).any()
            if rng.integers(3) == 0:
                w[rng.random(w.shape) < 0.2] = NAN
            values, index = prune(w, job.nnz, job.group)
            mask = keep_mask(index, job.n, job.k, job.group)
            for column, row in enumerate(w):
                want = slow(row, job.nnz, job.group)
                assert values.view(np.uint16)[column].tolist() == [bits for bits, _ in want]
                assert index[column].tolist() == [places for _, places in want]
                kept = [at * job.group + place for at, (_, places) in enumerate(want) for place in places]
                assert np.flatnonzero(mask[column]).tolist() == [at for at in kept if at < job.k]
            seen.add((job.nnz, job.group))
    assert seen == set(PATTERNS)


@pytest.mark.parametrize("row, nnz, group, index", [
    ([1, 1, 1, 1], 2, 4, [0, 1]), ([0, -0.0, 0, -0.0], 2, 4, [0, 1]), ([-0.0, 0, 1e-45, 0], 1, 4, [2]),
    ([1, -2, 2, -2], 2, 4, [1, 2]), ([1, INF, NAN, -INF], 2, 4, [1, 2]), ([NAN, INF, 0, 0], 1, 4, [0]),
    ([3, 0, 0, 0, 0, 0, 0, 3], 2, 8, [0, 7]), ([0] * 15 + [-1e-40], 2, 16, [0, 15]), ([5], 2, 4, [0, 1]),
])
def test_the_largest_magnitudes_and_of_equal_ones_the_lowest_index(row, nnz, group, index):
    assert prune(np.array([row], np.float32), nnz, group)[1][0, 0].tolist() == index


@pytest.mark.parametrize("nnz, group", PATTERNS)
def test_the_largest_in_every_position(nnz, group):
    for place in range(group):
        w = np.full((1, group), 0.5, np.float32)
        w[0, place] = -2
        values, index = prune(w, nnz, group)
        at = index[0, 0].tolist().index(place)
        assert from_bf16(values)[0, 0, at] == -2 and (np.delete(from_bf16(values)[0, 0], at) == 0.5).all()


def test_each_whole_group_keeps_nnz_and_dense_keeps_all():
    rng = np.random.default_rng(4)
    w = rng.normal(size=(7, 64)).astype(np.float32)
    for nnz, group in PATTERNS:
        mask = keep_mask(prune(w, nnz, group)[1], 7, 64, group)
        assert (mask.reshape(7, -1, group).sum(axis=2) == nnz).all()


def test_masks_of_both_directions_differ():
    """Forward groups run along inputs, backward ones along outputs: two choices of one matrix."""
    w = np.random.default_rng(5).normal(size=(32, 32)).astype(np.float32)
    forward = keep_mask(prune(w, 2, 8)[1], 32, 32, 8)
    backward = keep_mask(prune(np.ascontiguousarray(w.T), 2, 8)[1], 32, 32, 8).T
    assert forward.sum() == backward.sum() == 256 and (forward != backward).any()


@pytest.mark.parametrize("call, error, message", [
    (lambda: prune(np.zeros((2, 2)), 2, 4), TypeError, r"w must be float32 with 2 axes, got float64 \[2, 2\]"),
    (lambda: prune(np.zeros(2, np.float32), 2, 4), TypeError, r"w must be float32 with 2 axes, got float32 \[2\]"),
    (lambda: prune(np.zeros((2, 2), np.float32), 2, 5), ValueError, "nnz:group must be one of"),
    (lambda: keep_mask(np.zeros((2, 1, 2), np.uint8), 3, 4, 4), ValueError, r"index must be \[3, 1, nnz\], got \[2, 1, 2\]"),
    (lambda: keep_mask(np.full((2, 1, 2), 4, np.uint8), 2, 4, 4), ValueError, r"index must be less than group \(4\), got 4"),
])
def test_golden_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()


# Streams --------------------------------------------------------------------------------------------------------------
def test_weights_as_beats_by_hand():
    build = NmPrune(lanes=2, values=2, slots=4, max_n=20, max_k=20)
    job = build.job(n=9, k=5, nnz=1, group=4)
    w = np.arange(1, 46, dtype=np.float32).reshape(9, 5)
    beats = nm_prune_stream.pack_weights(build, job, w).view("<f4")
    # Tile 0: groups 0, 1 of slots 0..3, two beats each; tile 1: one column, four slots.
    assert len(beats) == build.beats("w", job) == 2 * 2 * (4 + 4)
    assert beats[0].tolist() == [1, 2, 6, 7] and beats[1].tolist() == [3, 4, 8, 9]  # columns 0 and 1
    assert beats[2].tolist() == [11, 12, 16, 17] and beats[8].tolist() == [5, 0, 10, 0] and not beats[9].any()
    assert beats[16].tolist() == [41, 42, 0, 0] and not beats[18:24].any() and beats[24].tolist() == [45, 0, 0, 0]
    with pytest.raises(ValueError, match=r"w must be float32 \[9, 5\], got float32 \[5, 9\]"):
        nm_prune_stream.pack_weights(build, job, np.ascontiguousarray(w.T))


@pytest.mark.parametrize("nnz, group", PATTERNS)
def test_results_are_the_operand_of_the_training_array(nnz, group):
    build, array = NmPrune(lanes=4, slots=5, max_n=60, max_k=40), NmTrain(rows=2, cols=4, slots=5)
    rng = np.random.default_rng(6)
    for n, k in ((1, 1), (20, 16), (37, 33), (60, 40)):
        job = build.job(n=n, k=k, nnz=nnz, group=group)
        w = rng.normal(size=(n, k)).astype(np.float32)
        beats = nm_prune_stream.expand(build, job, results(build, job, {"w": w}))
        want = pack_b_tiles(array, array.job(m=1, n=n, k=k, nnz=nnz, group=group), *prune(w, nnz, group))
        assert np.array_equal(nm_prune_stream.image(build, job, beats), np.concatenate(want))
        assert sorted(beats["place"].tolist()) == list(range(build.beats("y", job)))


@pytest.mark.parametrize("name, at, message", [
    ("place", (0,), "o_y must deliver the groups in order, each beat with its place"),
    ("value", (-1, 1), "o_y holds columns beyond n that are not 0"), ("index", (-1, 1), "o_y holds columns beyond n"),
    ("keep", (0, 0), "o_y's keep must tell the indices of the group so far"), ("keep", (1, 1), "o_y's keep must tell"),
])
def test_results_out_of_place(name, at, message):
    job = BUILD.job(n=21, k=9)
    rng = np.random.default_rng(7)
    beats = nm_prune_stream.expand(BUILD, job, results(BUILD, job, draw_operands(BUILD, job, rng)))
    beats[name][at] += 1
    with pytest.raises(ValueError, match=message):
        nm_prune_stream.collect(BUILD, job, beats)


# Cycles ---------------------------------------------------------------------------------------------------------------
def test_cycles_by_hand():
    """Beat 1 in cycle 3; register, list, place by index, choice, rounding; queue, port, end, completion."""
    job = BUILD.job(n=1, k=8)  # 2:8, four slots of 8 weights, then a second result
    assert BUILD.cycles(job) == 3 + (4 * 8 - 1) + 1 + 1 + 3 + (2 - 1) + 4
    assert BUILD.cycles_back_to_back(job) == BUILD.cycles(job) - 1
    fast = NmPrune(lanes=2, values=16, slots=5, max_n=23, max_k=40)  # four levels of the tree and no list
    assert fast.cycles(job) == 3 + 3 * 2 + 1 + 4 + 3 + (2 - 1) + 4


@pytest.mark.parametrize("values, cycles", [(1, (1, 4, 4, 8, 8, 16)), (2, (1, 2, 2, 4, 4, 8)), (4, (1, 2, 1, 4, 2, 4)),
                                            (8, (1, 2, 1, 4, 2, 2)), (16, (1, 2, 1, 4, 2, 2))])
def test_a_group_takes_its_beats_or_its_results(values, cycles):
    build = NmPrune(lanes=32, values=values, max_n=256)
    for (nnz, group), each in zip(PATTERNS, cycles, strict=True):
        few, many = (build.cycles(build.job(n=256, k=group * groups, nnz=nnz, group=group)) for groups in (3, 103))
        assert many - few == 100 * 8 * each == 100 * 8 * max(-(-group // values), nnz)


def test_the_pages_table_of_cycles(root):
    text = (root / "docs" / "nm_prune.md").read_text()
    head = re.search(r"^\| `values` \|((?: \d+:\d+ \|)+)$", text, re.MULTILINE)[1].split("|")[:-1]
    rows = re.findall(r"^\| ([\d, ]+) \|((?: \d+ \|){6})$", text, re.MULTILINE)
    assert [tuple(map(int, cell.split(":"))) for cell in head] == list(PATTERNS)
    assert [value for row in rows for value in map(int, row[0].split(","))] == list(VALUES)
    for values, cells in rows:
        for one in map(int, values.split(",")):
            build = NmPrune(values=one)
            for (nnz, group), cell in zip(PATTERNS, cells.split("|"), strict=False):
                few, many = (build.cycles(build.job(n=64, k=group * groups, nnz=nnz, group=group)) for groups in (1, 2))
                assert many - few == 8 * int(cell), (one, nnz, group)


def test_32_lanes_take_32_weights_a_cycle():
    """The published pruner: 32 lanes, a weight a cycle each."""
    build = NmPrune(lanes=32, max_n=1024, max_k=4096)
    job = build.job(n=1024, k=4096, nnz=2, group=8)
    assert 0.9999 < 1024 * 4096 / 32 / build.cycles(job) < 1
    assert build.useful_fraction(job, 1024 * 4096 // 32)["useful"] == 1


def test_the_queue_never_holds_weights_back_at_full_rate():
    for values in VALUES:
        for nnz, _ in PATTERNS:
            assert NmPrune(values=values).in_flight(nnz) + 4 <= QUEUE_DEPTH


# Gates ----------------------------------------------------------------------------------------------------------------
def run(build, *cases, **options):
    """The decoded beats and completions of (shape, w), on pysim, compared with golden."""
    from sparseloom.sim.pysim import PySimulator
    from sparseloom.sim.runner import Work

    jobs = [build.job(**shape) for shape, _ in cases]
    works = [Work(job, pack(build, job, {"w": w})) for job, (_, w) in zip(jobs, cases, strict=True)]
    receipts = PySimulator(build).run(works, **options)
    for job, (_, w), receipt in zip(jobs, cases, receipts, strict=True):
        got, want = collect(build, job, receipt.outputs), results(build, job, {"w": w})
        assert all(np.array_equal(got[name], want[name]) for name in got), job
        assert receipt.done["cycles"] == build.cycles(job)
    return [(decode_beats(build.outputs[0].record, receipt.outputs["y"]), receipt.done) for receipt in receipts]


@pytest.mark.rtl
@pytest.mark.parametrize("values", VALUES)
def test_gates_at_the_largest_in_every_position_and_ties(values):
    """A column for each pair of positions: two equal maxima among equal others, of both signs."""
    build = NmPrune(lanes=4, values=values, slots=4, max_n=150, max_k=16)
    pairs = [(a, b) for a in range(16) for b in range(a, 16)]
    w = np.full((len(pairs), 16), 0.25, np.float32)
    for row, (a, b) in zip(w, pairs, strict=True):
        row[a], row[b] = -1, 1
    run(build, *(({"n": len(w), "k": 16, "nnz": nnz, "group": group}, w) for nnz, group in PATTERNS[3:]))
    run(build, *(({"n": 30, "k": 16, "nnz": nnz, "group": group}, w[:30]) for nnz, group in PATTERNS[:3]))


@pytest.mark.rtl
@pytest.mark.parametrize("values", [1, 8, 16])
def test_a_nan_is_kept_and_told(values):
    """Jobs with a NaN end with a status; the next one is as if nothing had been."""
    build = NmPrune(lanes=2, values=values, slots=4, max_n=9, max_k=16)
    w = np.random.default_rng(8).normal(size=(9, 16)).astype(np.float32)
    bad = w.copy()
    bad[8, 15] = np.uint32(0xFF800001).view(np.float32)
    shape = {"n": 9, "k": 16, "nnz": 2, "group": 16}
    (_, first), (beats, told), (_, after) = run(build, (shape, w), (shape, bad), (shape, w))
    assert [done["status"] for done in (first, told, after)] == [Status.OK, Status.OVERFLOW, Status.OK]
    assert (beats["value"] == 0x7FC0).sum() == 1
    infinite = np.where(np.abs(w) > 1, INF, w).astype(np.float32)
    assert run(build, (shape, infinite))[0][1]["status"] == Status.OK


@pytest.mark.rtl
@pytest.mark.parametrize("values", VALUES)
def test_what_lies_beyond_does_not_matter(values):
    """Weights beyond a group and beyond n may be anything, NaN too."""
    from sparseloom.sim.pysim import PySimulator
    from sparseloom.sim.runner import Work

    build, rng = NmPrune(lanes=2, values=values, slots=4, max_n=9, max_k=16), np.random.default_rng(9)
    works, wants = [], []
    for nnz, group in PATTERNS:
        job = build.job(n=3, k=16, nnz=nnz, group=group)
        operands = draw_operands(build, job, rng)
        image = pack(build, job, operands)
        # The same in a matrix of all columns, none of them beyond n: what is 0 there and here is beyond.
        ones = pack(build, job, {"w": np.ones((3, 16), np.float32)}).streams["w"].view("<u4") == 0
        image.streams["w"].view("<u4")[ones] = 0xFFFFFFFF
        works.append(Work(job, image))
        wants.append(results(build, job, operands))
    for work, want, receipt in zip(works, wants, PySimulator(build).run(works), strict=True):
        got = collect(build, work.job, receipt.outputs)
        assert all(np.array_equal(got[name], want[name]) for name in got) and receipt.done["status"] == Status.OK


@pytest.mark.rtl
def test_an_illegal_job_has_no_status_of_the_one_before():
    from sparseloom.sim.pysim import PySimulator
    from sparseloom.sim.runner import Work

    job = BUILD.job(n=1, k=1, nnz=1, group=1)
    image = pack(BUILD, job, {"w": np.array([[NAN]], np.float32)})
    none = Work(job, Image({"w": image.streams["w"][:0]}, {}), values={"pattern": 6}, beats={"y": 0})
    told, refused = (receipt.done["status"] for receipt in PySimulator(BUILD).run([Work(job, image), none]))
    assert (told, refused) == (Status.OVERFLOW, Status.ILLEGAL)
