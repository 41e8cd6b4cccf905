"""The loader's builds, jobs and closed forms: what is refused; loops and walks against golden; the array's beats."""

import numpy as np
import pytest

from sparseloom.models.formats import nm_train_stream
from sparseloom.models.formats.bf16 import BF16
from sparseloom.models.formats.nm_load_stream import collect, expand, pack, pack_map
from sparseloom.models.golden.nm_load import draw_operands, im2col, results
from sparseloom.models.golden.nm_train import dense
from sparseloom.models.spec.nm_load import CARRIES, NmLoad
from sparseloom.models.spec.nm_load_job import window_of
from sparseloom.models.spec.nm_load_plan import plan
from sparseloom.models.spec.nm_load_window import forward_window
from sparseloom.models.spec.nm_train import NmTrain
from sparseloom.sim.conformance import draw_builds

BUILD = NmLoad(words=2, rows=8, slots=4, map_words=64)
WIDE = NmLoad(words=4, rows=32, slots=8, map_words=1 << 14)


@pytest.mark.parametrize("values, error, message", [
    ({"words": 3}, ValueError, "words must be one of 1, 2, 4, got 3"),
    ({"words": 2.0}, TypeError, "words must be an integer, got 2.0"),
    ({"rows": 1}, ValueError, "rows must be 2..128, got 1"),
    ({"rows": 6, "words": 4}, ValueError, "words must divide rows (6), got 4"),
    ({"slots": 3}, ValueError, "slots must be 4..16, got 3"),
    ({"map_words": 15}, ValueError, "map_words must be 16..1048576, got 15"),
    ({"read_latency": 0}, ValueError, "read_latency must be 1..4, got 0"),
])
def test_impossible_builds(values, error, message):
    with pytest.raises(error) as caught:
        NmLoad(**values)
    assert type(caught.value) is error and str(caught.value) == message


@pytest.mark.parametrize("build, shape, error, message", [
    (BUILD, {"order": "cols"}, ValueError, "order must be one of rows, transposed, columns, got 'cols'"),
    (BUILD, {"kernel": 3}, ValueError, "unknown job field 'kernel'; fields are batch, channels, first, height, last, order, "
     "out_height, out_width, repeats, start_x, start_y, step, stride, tag, taps_x, taps_y, width"),
    (BUILD, {"width": 0}, ValueError, "width must be 1..64, got 0"),
    (BUILD, {"height": 2.5}, TypeError, "height must be an integer, got 2.5"),
    (BUILD, {"repeats": 0}, ValueError, "repeats must be 1..16777215, got 0"),
    (BUILD, {"tag": 256}, ValueError, "tag must be 0..255, got 256"),
    (BUILD, {"first": 1}, TypeError, "first must be true or false, got 1"),
    (BUILD, {"out_width": -1}, ValueError, "out_width must be 0..511, got -1"),
    (BUILD, {"taps_y": 0}, ValueError, "taps_y must be 1..1048576, got 0"),
    (BUILD, {"stride": 0}, ValueError, "stride must be 1..1048576, got 0"),
    (BUILD, {"width": 33, "channels": 17}, ValueError, "the map must fit into map_words (64), got 66 words"),
    (BUILD, {"order": "transposed", "width": 4, "out_width": 3}, ValueError,
     "out_width must be 4 where order is transposed, got 3"),
    (BUILD, {"order": "transposed", "start_y": -1}, ValueError, "start_y must be 0 where order is transposed, got -1"),
    (NmLoad(rows=12), {"order": "transposed"}, ValueError,
     "order must be rows or columns where 16 rows are no whole tiles (12), got 'transposed'"),
    (BUILD, {"start_x": -506}, ValueError, "the window must reach at most 511 along x, got 512"),
    (BUILD, {"taps_x": 508, "step": 0}, ValueError, "the window must reach at most 511 along x, got 513"),
    (BUILD, {"taps_y": 84, "step": -6}, ValueError, "the window must reach at most 511 along y, got 519"),
])
def test_illegal_jobs(build, shape, error, message):
    with pytest.raises(error) as caught:
        build.job(**shape)
    assert type(caught.value) is error and str(caught.value) == message


def test_the_loops_have_limits_of_their_own():
    build = NmLoad(map_words=1 << 20)
    assert build.job(out_width=1 << 20).rows == 1 << 20
    with pytest.raises(ValueError, match="rows of the window must be at most 16777215, got 16777216"):
        build.job(batch=1 << 12, out_height=1 << 6, out_width=1 << 6)
    with pytest.raises(ValueError, match="words of a row must be at most 16777215, got 16777216"):
        build.job(channels=16 << 10, taps_y=1 << 7, taps_x=1 << 7)


def test_a_job_without_a_window_takes_the_map():
    job = BUILD.job(batch=2, height=3, width=4, channels=17)
    assert (job.out_height, job.out_width, job.rows, job.tap_words, job.pixels) == (3, 4, 24, 2, 24)
    assert BUILD.resized(job, stride=2).stride == 2


# Loops and walks -------------------------------------------------------------------------------------------------------
class Walker:
    """A walk as the gates do it: additions and comparisons of the job's fields alone."""

    def __init__(self, build, values, name):
        self.of, self.mask = {key: values[f"{name}_{key}"] for key in (
            "low_step", "low_room", "middle_step", "middle_room", "move_y", "move_x", "move_addr")}, (1 << build.addr_width) - 1
        first = [values[f"{name}_{part}"] for part in ("low", "middle", "y", "x", "addr")]
        self.words = [list(word) for word in (zip(*first, strict=True) if isinstance(first[0], list) else [first])]

    def places(self):
        return [tuple(word[2:]) for word in self.words]

    def move(self):
        for word in self.words:
            carries = []
            for digit, name in enumerate(("low", "middle")):
                carried = word[digit] + (carries[0] if carries else 0)
                carries.append(int(carried >= self.of[f"{name}_room"]))
                word[digit] = carried - self.of[f"{name}_room"] if carries[-1] else carried + self.of[f"{name}_step"]
            for axis, name in enumerate(("y", "x", "addr")):
                word[2 + axis] += self.of[f"move_{name}"][CARRIES.index(tuple(carries))]
            word[4] &= self.mask


def read(build, job, image):
    """The words that the job's fields ask for, beat by beat, uint16 [reads, words, 16]; each address lies in the map."""
    values = build.job_record.decode(build.job_record.encode(build.job_values(job)))
    mask, beats = (1 << build.addr_width) - 1, []
    for _ in range(values["repeats"]):
        inner, left = Walker(build, values, "inner"), values["count"]
        for tile in range(values["tiles"]):
            kept = []
            for turn in range(values["passes"] * values["rounds"]):
                if turn % values["rounds"] == 0:
                    outer = Walker(build, values, "outer")
                (base,) = outer.places()
                for slot in range(values["slots" if tile < values["tiles"] - 1 else "last_slots"]):
                    if turn == 0:
                        kept.append([(place, left > i) for i, place in enumerate(inner.places())])
                        inner.move()
                        left -= build.words
                    beat = np.zeros((build.words, 16), np.uint16)
                    for lane, (place, exists) in enumerate(kept[slot]):
                        y, x, addr = (mine + other for mine, other in zip(place, base, strict=True))
                        if exists and 0 <= y < values["height"] and 0 <= x < values["width"]:
                            beat[lane] = image[addr & mask]
                    beats.append(beat)
                outer.move()
    return np.array(beats)


def turned(build, job, beats):
    """What the transposer makes of reads: blocks turned, of each the rows of its tile."""
    work, rows = plan(build, job), min(build.rows, 16)
    blocks = beats.reshape(work.repeats, work.tiles, -1, 16, 16).transpose(0, 1, 2, 4, 3)
    mine = [blocks[:, tile, :, tile * rows % 16 : tile * rows % 16 + rows] if rows < 16 else blocks[:, tile]
            for tile in range(work.tiles)]
    return np.stack(mine, axis=1).reshape(-1, 16 * build.words)


def test_loops_and_walks_read_what_golden_says():
    compared = {order: 0 for order in ("rows", "transposed", "columns")}
    for number, build in enumerate(draw_builds(NmLoad, 12, seed=4)):
        rng = np.random.default_rng(number)
        for job in (build.largest_job(), *(build.draw_job(rng) for _ in range(12))):
            operands = draw_operands(build, job, rng)
            image = pack(build, job, operands)[1]["map0"].view("<u2")
            beats = read(build, job, image)
            data = turned(build, job, beats) if job.order == "transposed" else beats.reshape(len(beats), -1)
            want = results(build, job, operands)["w"]
            assert (collect(build, job, {"data": data})["w"] == want).all(), (build, job)
            assert (expand(build, job, want) == data).all() and len(data) == build.beats("w", job)
            compared[job.order] += 1
    assert min(compared.values()) > 10


# Beside the array ------------------------------------------------------------------------------------------------------
def test_rows_are_the_arrays_beats_of_a():
    array = NmTrain(rows=8, cols=4, slots=4, words=2)
    x = draw_operands(None, BUILD.job(batch=2, height=4, width=3, channels=20), np.random.default_rng(1))["x"]
    job = BUILD.job(batch=2, height=4, width=3, channels=20, repeats=3, **vars(forward_window(4, 3, 3, 1, 1)))
    padded = np.zeros((2, 4, 3, 32), BF16)
    padded[..., :20] = x
    product = array.job(m=24, n=33, k=9 * 32)
    want = nm_train_stream.pack_a(array, product, im2col(padded, window_of(job)))
    assert (expand(BUILD, job, results(BUILD, job, {"x": x})["w"]) == want.view("<u2")).all()


@pytest.mark.parametrize("rows", [4, 32])
def test_transposed_maps_are_the_arrays_beats_of_a(rows):
    array, build = NmTrain(rows=rows, cols=4, slots=4, words=2), NmLoad(words=2, rows=rows, slots=4, map_words=64)
    x = draw_operands(None, build.job(height=5, width=5, channels=18), np.random.default_rng(2))["x"]
    job = build.job(order="transposed", height=5, width=5, channels=18, repeats=2)
    product = array.job(m=18, n=32, k=25)
    want = nm_train_stream.pack_a(array, product, np.ascontiguousarray(x.reshape(25, 18).T))
    assert (expand(build, job, results(build, job, {"x": x})["w"]) == want.view("<u2")).all()


def test_columns_are_the_arrays_values_of_b():
    array, build = NmTrain(rows=4, cols=32, slots=5, words=1), NmLoad(words=2, rows=8, slots=5, map_words=64)
    x = draw_operands(None, build.job(height=4, width=4, channels=32), np.random.default_rng(3))["x"]
    job = build.job(order="columns", height=4, width=4, channels=32, repeats=3, **vars(forward_window(4, 4, 3, 2, 1)))
    gathered = im2col(x, window_of(job))
    want = nm_train_stream.pack_b(array, array.job(m=9, n=288, k=4), *dense(gathered)[:2])
    values, index = want[:, :64].view("<u2"), want[:, 64:]
    assert not index.any() and (expand(build, job, results(build, job, {"x": x})["w"]) == values).all()


# Closed forms ----------------------------------------------------------------------------------------------------------
def test_cycles_by_hand():
    """Request 1 in cycle 11; a beat a cycle; the word after the latency, the beat, the completion."""
    matrix = BUILD.job(width=20, channels=40)
    assert BUILD.beats("w", matrix) == 3 * 3 * 4 and BUILD.cycles(matrix) == 11 + 35 + 2 + 3 == 51
    assert BUILD.cycles_back_to_back(matrix) == 50
    columns = BUILD.job(order="columns", width=20, channels=16, taps_x=11, repeats=2)
    assert BUILD.beats("w", columns) == 2 * 20 * (4 + 4)
    # Eight of sixteen rows are wanted: twice the reads, and half a block more to move the last ones out.
    turned = BUILD.job(order="transposed", width=20, channels=40)
    assert BUILD.beats("w", turned) == 5 * 2 * 4 and BUILD.cycles(turned) == 11 + 5 * 2 * 8 - 1 + 4 + 2 + 3
    other = BUILD.job(order="transposed", width=20, channels=16)
    assert BUILD.cycles(other) == 11 + 2 * 2 * 8 - 1 + 8 + 2 + 3
    whole = NmLoad(words=2, rows=16, slots=4, map_words=64)
    assert whole.cycles(whole.job(order="transposed", width=20, channels=16)) == 11 + 2 * 8 - 1 + 8 + 2 + 3
    with pytest.raises(ValueError, match="stream must be w, got 'y'"):
        BUILD.beats("y", matrix)


@pytest.mark.parametrize("shape", [
    {"channels": 64, "taps_y": 3, "taps_x": 3, "start_y": -1, "start_x": -1},
    {"channels": 128, "order": "transposed"},
    {"channels": 128, "order": "columns", "taps_y": 2, "taps_x": 2},
])
def test_no_beat_is_lost_at_size(shape):
    """Where tiles are full, nearly every word is one of the operand."""
    job = WIDE.job(batch=2, height=32, width=32, repeats=2, **shape)
    assert 0.99 < WIDE.useful_fraction(job, WIDE.cycles(job))["useful"] <= 1


# Layout ----------------------------------------------------------------------------------------------------------------
def test_words_of_a_map():
    x = np.arange(2 * 1 * 2 * 17, dtype=np.uint16).view(BF16).reshape(2, 1, 2, 17)
    words = pack_map(x).view("<u2")
    assert words.shape == (8, 16) and words[3].tolist() == [33] + [0] * 15 and words[4].tolist() == list(range(34, 50))


def test_wrong_operands_and_beats():
    job = BUILD.job(width=3, channels=4)
    with pytest.raises(TypeError, match=r"x must be bfloat16 with 4 axes, got float32 \[1, 1, 3, 4\]"):
        pack(BUILD, job, {"x": np.zeros((1, 1, 3, 4), np.float32)})
    with pytest.raises(ValueError, match=r"x must have shape \[1, 1, 3, 4\], got \[1, 3, 1, 4\]"):
        pack(BUILD, job, {"x": np.zeros((1, 3, 1, 4), BF16)})
    with pytest.raises(ValueError, match=r"o_w must have 4 beats of 32 values, got \[3, 32\]"):
        collect(BUILD, job, {"data": np.zeros((3, 32))})
