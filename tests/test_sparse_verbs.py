"""``simulate`` and ``estimate`` of the sparse chain, as somebody types them."""

import json

import pytest

from sparseloom import cli

pytestmark = pytest.mark.rtl

SIMULATE = ["simulate", "sparse_chain", "--set", "chains=2,codebook=true", "--set", "max_k=128,max_n=6,max_m=4"]
SHAPE = ["--shape", "k=100,n=5,m=3,nnz=4,group=8,bits=4,scale_group=32,shift=24"]


def run(capsys, *words):
    """``(exit code, JSON object, stderr)`` of a command line."""
    code = cli.main([*words, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


def test_simulate_agrees_with_estimate(capsys):
    code, found, _ = run(capsys, *SIMULATE, *SHAPE, "--seed", "3")
    _, told, _ = run(capsys, "estimate", *SIMULATE[1:], *SHAPE)
    assert code == 0 and found["bit_exact"] is True and found["compared"] == 5 * 3 + 1
    assert found["cycles"] == found["predicted_cycles"] == told["cycles"] > told["cycles_back_to_back"]
    for name in ("useful_fraction", "stream_fraction", "compute_fraction", "build", "job"):
        assert found[name] == told[name]
    assert found["stalls"] == {"i": 0, "x": 0, "o": 0} and told["stream_bytes"] == told["beats"]["w"] * 8
    assert found["basis"]["cycles"] == "rtl" and found["basis"]["predicted_cycles"] == told["basis"]["cycles"] == "exact"
    assert found["job"]["nnz"] == 4 and found["job"]["header"] == "scale" and found["build"]["chains"] == 2


def test_keys_are_those_of_the_ternary_engine(capsys):
    for words in (["estimate"], ["simulate"]):
        _, found, _ = run(capsys, *words, *SIMULATE[1:], *SHAPE)
        _, other, _ = run(capsys, *words, "ternary_engine", "--set", "rows=4,lanes=10,max_k=60,max_n=22,max_m=3",
                          "--shape", "k=55,n=21,m=3")
        assert found.keys() == other.keys() and found["basis"].keys() == other["basis"].keys()


@pytest.mark.parametrize("shape", [
    "k=100,n=5,m=3,bits=4,header=affine,shift=24", "k=100,n=5,codebook=true,shift=24", "k=100,n=5,codebook=False,header=zero",
    "k=128,n=6,m=2,block=64,nnz=4,group=4,scale_group=64", "k=128,n=6,block=32,header=levels", "k=1,n=1",
    "k=120,n=3,m=4,bits=8,scale_group=0,x_group=0,shift=40",
])
def test_every_format_can_be_asked_for(capsys, shape):
    code, found, err = run(capsys, *SIMULATE, "--shape", shape, "--seed", "5")
    assert (code, err) == (0, "") and found["bit_exact"] and found["cycles"] == found["predicted_cycles"]
    asked = dict(pair.split("=") for pair in shape.split(","))
    assert all(str(found["job"][name]).lower() == text.lower() for name, text in asked.items())


def test_a_block_is_every_second_block(capsys):
    _, found, _ = run(capsys, *SIMULATE, "--shape", "k=128,n=3,block=32")
    assert found["job"]["blocks"] == [[[0, 1], [2, 1]]] * 2


def test_under_stalls_late_and_exact(capsys):
    code, found, _ = run(capsys, *SIMULATE, *SHAPE, "--stall", "0.3", "--idle", "0.3")
    assert code == 0 and found["bit_exact"] and found["cycles"] > found["predicted_cycles"] and sum(found["stalls"].values()) > 0


def test_maxima_grow_with_the_shape(capsys):
    code, found, _ = run(capsys, "estimate", "sparse_chain", "--shape", "k=8192,n=100000,m=100")
    assert code == 0 and [found["build"][name] for name in ("max_k", "max_n", "max_m")] == [8192, 100000, 100]


@pytest.mark.parametrize("verb", ["simulate", "estimate"])
@pytest.mark.parametrize("settings, shape, line", [
    ("chains=2", "k=64,n=4,nnz=3,group=4", "--shape: nnz must be one of 1, 2, 4, got 3"),
    ("chains=2", "k=64,n=4,nnz=1,group=2", "--shape: group must be one of 1, 4, 8, 16, got 2"),
    ("chains=2", "k=64,n=4,nnz=1,group=8", "--shape: group / nnz must be at most 4 (window / 8), got 8/1"),
    ("chains=2", "k=64,n=4,scale_group=48", "--shape: scale_group must be a power of two from 32, or 0, got 48"),
    ("chains=2", "k=64,n=4,header=gptq", "--shape: header must be one of scale, affine, zero, levels, got 'gptq'"),
    ("chains=2", "k=64,n=4,header=affine,nnz=2,group=4", "--shape: header must not be affine with N:M weights"),
    ("chains=2", "k=64,n=4,codebook=yes", "--shape: codebook must be true or false, got 'yes'"),
    ("chains=2", "k=64,n=4,codebook=true", "--shape: codebook must come with a build that has one"),
    ("chains=2", "k=64,n=4,block=64,blocks=0", "--shape: unknown key 'blocks', legal keys are"),
    ("chains=2", "k=64,n=4,bits=four", "--shape: bits must be an integer, got 'four'"),
    ("chains=2", "n=4", "--shape: job field k is missing"),
    ("chains=2,max_k=32", "k=64,n=4", "--shape: k must be 1..32, got 64"),
    ("window=12", "k=64,n=4", "--set: window must be one of 8, 16, 32, 64, 128, got 12"),
    ("target=asic", "k=64,n=4", "--set: target must be one of portable, dsp48e2, ecp5, got 'asic'"),
    ("rows=4", "k=64,n=4", "--set: unknown key 'rows', legal keys are chains, window, tokens"),
])
def test_bad_input_is_one_line(capsys, verb, settings, shape, line):
    code, found, err = run(capsys, verb, "sparse_chain", "--set", settings, "--shape", shape)
    assert (code, found) == (2, None) and line in err and err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize("shape", ["k=100,n=30,m=2,nnz=2,group=4,header=zero", "k=100,n=30,block=64"])
def test_estimate_draws_every_size_that_is_legal(capsys, tmp_path, shape):
    """Header zero has at most 4 bits, blocks follow the shape: the curves leave out what is no job."""
    path = tmp_path / "sizes.svg"
    settings = ["--set", "chains=4,max_k=128,max_n=64"]
    code, _, err = run(capsys, "estimate", "sparse_chain", *settings, "--shape", shape, "--plot", str(path))
    assert (code, err) == (0, "") and path.read_text().count("<svg") == 1
