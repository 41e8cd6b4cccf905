"""The verbs estimate and check: figures without building anything, and one clear line for what cannot be."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from sparseloom import cli
from sparseloom.models.spec.boards import BOARDS, Board, Figure
from sparseloom.models.spec.engines import ENGINES
from sparseloom.models.spec.ternary import TernaryEngine

ESTIMATE = ["estimate", "ternary_engine"]
SHAPE = ["--shape", "k=100,n=30,m=2"]


def run(capsys, *words):
    """``(exit code, JSON object or text of stdout, stderr)`` of a command line."""
    code = cli.main(list(words))
    out, err = capsys.readouterr()
    return code, json.loads(out) if "--json" in words and out else out, err


@pytest.mark.parametrize("datapath", ["tree", "table"])
def test_estimate_tells_the_closed_form(capsys, datapath):
    code, found, _ = run(capsys, *ESTIMATE, "--set", "rows=4", "--set", f"lanes=10,datapath={datapath}", *SHAPE, "--json")
    build = TernaryEngine(rows=4, lanes=10, datapath=datapath)
    job = build.job(k=100, n=30, m=2)
    assert code == 0
    assert found["cycles"] == build.cycles(job) and found["cycles_back_to_back"] == build.cycles_back_to_back(job)
    assert found["beats"] == {"w": build.beats("w", job), "y": build.beats("y", job)}
    assert found["stream_bytes"] == build.beats("w", job) * 8
    assert found["useful_fraction"] == max(found["stream_fraction"], found["compute_fraction"])
    assert {name: found["build"][name] for name in vars(build)} == vars(build) and len(found["build"]["digest"]) == 16
    assert set(found["basis"].values()) == {"exact"}


def test_maxima_grow_unless_they_are_set(capsys):
    shape = ["--shape", "k=0x1400,n=20000,m=9"]
    _, found, _ = run(capsys, *ESTIMATE, *shape, "--json")
    assert [found["build"][name] for name in ("max_k", "max_n", "max_m")] == [5120, 20000, 9]
    _, found, _ = run(capsys, *ESTIMATE, "--shape", "k=1,n=1", "--json")
    assert found["build"]["max_k"] == TernaryEngine().max_k
    code, _, err = run(capsys, *ESTIMATE, "--set", "max_k=5119", *shape)
    assert code == 2 and "k must be 1..5119, got 5120" in err


@pytest.mark.parametrize("board, clock, limit", [("kv260", None, "engine"), ("kv260", 2000, "memory"), ("u280", 2000, "engine")])
def test_a_board_gives_a_time_that_is_marked(capsys, board, clock, limit):
    words = ["--clock", str(clock)] if clock else []
    _, found, _ = run(capsys, *ESTIMATE, "--shape", "k=1000,n=1000", "--board", board, *words, "--json")
    hertz, bandwidth = clock * 1e6 if clock else BOARDS[board].clock.value, BOARDS[board].bandwidth.value
    assert found["microseconds"] == pytest.approx(1e6 * max(found["cycles"] / hertz, found["stream_bytes"] / bandwidth))
    assert found["limited_by"] == limit and found["basis"]["microseconds"] == "assumed"
    assert found["board"]["clock"]["basis"] == "assumed" and found["board"]["bandwidth"]["basis"] == "published"


def test_figures_of_boards_are_checked():
    for values, message in [((1, "guessed", ""), "basis must be"), ((0, "ours", ""), "value must be positive")]:
        with pytest.raises(ValueError, match=message):
            Figure(*values)
    board = Board(name="b", part="p", bandwidth=Figure(100, "ours", ""), clock=Figure(10, "ours", ""))
    assert (board.seconds(20, 100), board.seconds(20, 300)) == (2, 3)


@pytest.mark.parametrize("suffix, start", [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_plots(capsys, tmp_path, suffix, start):
    for words in ([*ESTIMATE, *SHAPE], ["check", "kjv-matmulfree"]):
        path = tmp_path / f"{words[0]}.{suffix}"
        assert run(capsys, *words, "--plot", str(path))[0] == 0
        assert path.read_bytes().startswith(start)
    assert len(list(tmp_path.iterdir())) == 2


NO_ENGINE = f"ENGINE: must be one of {', '.join(ENGINES)}, got 'warp'"


@pytest.mark.parametrize("words, line", [
    (["estimate", "warp", *SHAPE], NO_ENGINE),
    (ESTIMATE, "Missing option '--shape'."),
    ([*ESTIMATE, "--shape", ""], "--shape: must be KEY=VALUE, got ''"),
    ([*ESTIMATE, "--shape", "k=1"], "--shape: job field n is missing"),
    ([*ESTIMATE, "--shape", "k=1,n=x"], "--shape: n must be an integer, got 'x'"),
    ([*ESTIMATE, "--shape", "k=0,n=1"], "--shape: k must be 1..4096, got 0"),
    ([*ESTIMATE, "--shape", "k=1,n=1,q=2"], "--shape: unknown key 'q'"),
    ([*ESTIMATE, "--shape", "k=99999999,n=1"], "--shape: max_k must be 1..65536, got 99999999"),
    ([*ESTIMATE, "--shape", "k=1,n=1,requantise=true"], "--shape: requantise must be false: this build has no requantiser"),
    ([*ESTIMATE, "--set", "rows=0", *SHAPE], "--set: rows must be 1..128, got 0"),
    ([*ESTIMATE, "--set", "lanes=7", *SHAPE], "--set: lanes must be a multiple of 5, got 7"),
    ([*ESTIMATE, "--set", "colour=red", *SHAPE], "--set: unknown key 'colour'"),
    ([*ESTIMATE, "--set", "rows=4,rows=4", *SHAPE], "--set: rows is given twice"),
    ([*ESTIMATE, *SHAPE, "--board", "pynq"], "--board: must be one of kv260, u280, zcu102, vcu1525, got 'pynq'"),
    ([*ESTIMATE, *SHAPE, "--clock", "100"], "--clock: must come with --board"),
    ([*ESTIMATE, *SHAPE, "--plot", "plot.txt"], "--plot: must end in .png or .svg or .pdf, got 'plot.txt'"),
    ([*ESTIMATE, *SHAPE, "--plot", "nowhere/plot.png"], "--plot: must lie in a folder that exists, got 'nowhere/plot.png'"),
    (["check", "nowhere.gguf"], "nowhere.gguf: file must be readable"),
    (["check", "."], "folder must hold one model file"),
    (["check", "kjv-matmulfree", "--engine", "warp"], NO_ENGINE),
    (["check", "kjv-matmulfree", "--set", "rows=0"], "--set: rows must be 1..128, got 0"),
    (["check", "kjv-matmulfree", "--i2-s", "arm"], "--i2-s: must be one of x86, got 'arm'"),
    (["check", "kjv-matmulfree", "--scale-convention", "add"], "--scale-convention: must be one of divide, multiply, got 'add'"),
])
def test_bad_input_is_one_line(capsys, tmp_path, monkeypatch, words, line):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert line in err and err.startswith("error: ") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_check_of_a_model_that_maps(capsys):
    code, found, _ = run(capsys, "check", "kjv-matmulfree", "--set", "max_k=500,max_n=1000", "--board", "kv260", "--json")
    build = TernaryEngine(max_k=500, max_n=1000)
    assert code == 0 and found["unsupported_layers"] == 0
    taken = [row for row in found["layers"] if row["runs_on"] == "engine"]
    assert found["engine_layers"] == len(taken) == 37 and found["engine_weights"] == 6_160_384
    cycles = 0
    for row in taken:
        n, k = row["shape"]
        tiles = [(min(992, n - i), min(500, k - j)) for i in range(0, n, 992) for j in range(0, k, 500)]
        jobs = [build.job(n=tall, k=wide) for tall, wide in tiles]
        assert row["cycles"] == sum(map(build.cycles, jobs)) and row["jobs"] == len(jobs)
        assert row["beats"]["w"] == sum(build.beats("w", job) for job in jobs)
        cycles += row["cycles"]
    assert found["cycles_per_token"] == cycles
    assert found["stream_bytes_per_token"] == 64 * sum(row["beats"]["w"] for row in taken) == 64 * found["beats_per_token"]["w"]
    assert found["tokens_per_second"] == pytest.approx(250e6 / cycles) and found["basis"]["tokens_per_second"] == "assumed"


def test_check_of_a_model_that_does_not(capsys, tmp_path):
    tensors = {f"blk.{number}.w.weight": np.zeros((4, 8), np.float16) for number in range(3)}
    save_file(tensors | {"norm.weight": np.zeros(4, np.float32)}, tmp_path / "half.safetensors")
    code, found, err = run(capsys, "check", str(tmp_path / "half.safetensors"), "--json")
    assert code == 1 and (found["unsupported_layers"], found["host_layers"], found["engine_layers"]) == (3, 1, 0)
    assert [row["reason"] for row in found["layers"] if row["op"] == "linear"] == ["float weights: compress first"] * 3
    assert err == f"error: 3 of 3 matrix products have no engine: {found['hint']}\n" and "TQ2_0" in found["hint"]
    code, out, _ = run(capsys, "check", str(tmp_path / "half.safetensors"))
    assert code == 1 and "blk.*.w.weight" in out and "nothing: float" in out
