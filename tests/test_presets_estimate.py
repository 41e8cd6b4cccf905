"""Presets and what ``estimate`` makes of them: every field with its basis, sums by hand, published figures kept apart."""

import json
from dataclasses import fields

import pytest

from sparseloom import cli
from sparseloom.models.spec.boards import Figure
from sparseloom.models.spec.presets import PRESETS, Preset
from sparseloom.perfmodel.linear import linear_layers, product
from sparseloom.perfmodel.published.llm import published
from sparseloom.perfmodel.published.rows import KINDS
from sparseloom.perfmodel.workloads import LLAMA2_7B

LANGUAGE = {name: preset for name, preset in PRESETS.items() if isinstance(preset, Preset)}
U280, VHK158 = PRESETS["flightllm-u280"], PRESETS["flightllm-vhk158"]


@pytest.fixture
def run(capsys):
    def words(*arguments):
        code = cli.main(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return words


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_field_has_a_basis_and_list_shows_it(run, preset):
    names = {field.name for field in fields(preset)} - {"name", "about"}
    assert set(preset.figures) == names and len(names) >= (18 if preset in LANGUAGE.values() else 12)
    assert {figure.basis for figure in preset.figures.values()} - {"published"} == {"assumed", "ours"}
    assert all(isinstance(figure, Figure) and figure.source for figure in preset.figures.values())
    code, out, _ = run("list", "--json")
    shown = json.loads(out)["presets"][preset.name]["fields"]
    assert code == 0 and shown == {name: vars(figure) for name, figure in preset.figures.items()}
    assert "(published: FlightLLM" in run("list", "-v")[1]


@pytest.mark.parametrize("preset, multipliers, engines", [(U280, 6144, 24), (VHK158, 8192, 32)], ids=["u280", "vhk158"])
def test_a_machine_of_engines(preset, multipliers, engines):
    build = preset.build()
    assert preset.engines == engines and engines * build.chains * 8 == multipliers
    assert (build.window, build.tokens, build.group_dsps, build.max_ratio) == (64, 2, 2, 8)
    assert build.job(k=4096, n=32, nnz=2, group=16, scale_group=128, x_group=128).ratio == 8
    share = preset.upper_blocks.value / LLAMA2_7B.blocks
    assert share * preset.form["bits"] + (1 - share) * int(preset.weight_bits.value) == preset.weight_bits.value


def test_a_matrix_by_hand():
    """4096 x 4096 of 4 bits: 128 tiles of 32 rows for 24 engines; a tile has 128 quads of 4 words and a word for two scales."""
    made = product(U280, k=4096, n=4096)
    assert [(engines, job.n) for engines, job in made.shares] == [(8, 6 * 32), (16, 5 * 32)]
    words = 128 * 4 + 32 // 2
    assert made.stream_bytes == 128 * words * 32 * 4
    assert made.cycles == made.build.cycles(made.build.job(k=4096, n=192, bits=4, scale_group=128, x_group=128)) > 6 * words
    assert made.memory_seconds == made.stream_bytes / 460e9 and made.engine_seconds == made.cycles / 225e6
    assert made.seconds == made.memory_seconds > made.engine_seconds
    crowd = product(U280, k=4096, n=4096, m=64)
    assert crowd.stream_bytes == made.stream_bytes and crowd.seconds == crowd.engine_seconds > 10 * made.seconds


@pytest.mark.parametrize("n, shares", [(1, [(1, 1)]), (33, [(1, 32), (1, 1)]), (24 * 32, [(24, 32)]),
                                       (24 * 32 + 1, [(1, 64), (22, 32), (1, 1)]), (48 * 32 - 1, [(23, 64), (1, 63)])])
def test_rows_are_shared_by_whole_tiles(n, shares):
    made = product(U280, k=64, n=n)
    assert sorted((job.n, engines) for engines, job in made.shares) == sorted((rows, engines) for engines, rows in shares)
    assert sum(engines * job.n for engines, job in made.shares) == n
    assert made.cycles == max(made.build.cycles(job) for _, job in made.shares)


def test_llama_has_its_published_size():
    assert LLAMA2_7B.weights == 32 * (4 * 4096**2 + 3 * 4096 * 11008) + 32000 * 4096 == 6_607_077_376
    rows = linear_layers(VHK158, LLAMA2_7B, 1)
    assert sum(row["number"] * row["n"] * row["k"] for row in rows) == LLAMA2_7B.weights
    # The profile keeps 0.7 of 64 matrices.
    kept = LLAMA2_7B.weights - 64 * 4096**2 * 0.3
    assert sum(row["products"] for row in rows) == pytest.approx(kept, rel=1e-3)
    assert {row["bits"] for row in rows} == {4}


def test_a_prefill_reads_the_weights_once():
    decode, prefill = (linear_layers(U280, LLAMA2_7B, tokens) for tokens in (1, 128))
    assert [row["stream_bytes"] for row in decode] == [row["stream_bytes"] for row in prefill]
    assert [after["products"] / before["products"] for before, after in zip(decode, prefill, strict=True)] == [128] * 14 + [1]
    assert [row["number"] * row["bits"] for row in decode] == [16 * 4] * 7 + [16 * 3] * 7 + [4]
    # Multipliers make two products a cycle: no prefill is faster than that.
    seconds = sum(row["products"] for row in prefill) / (6144 * 2 * 225e6)
    assert seconds < sum(row["seconds"] for row in prefill) < 1.2 * seconds
    assert sum(row["seconds"] for row in decode) == sum(max(row["engine_seconds"], row["memory_seconds"]) for row in decode)


def test_published_rows_say_what_they_are():
    rows = published()
    assert len(rows) >= 11 and {row.kind for row in rows} <= set(KINDS)
    assert all(row.source and row.covers and row.confidence in ("primary", "secondary") for row in rows)
    found = {(row.system, row.device, row.metric, row.value, row.kind) for row in rows}
    assert {
        ("FlightLLM", "U280", "decode_throughput", 57.1, "board re-run"), ("FlightLLM", "U280", "decode_throughput", 55, "board"),
        ("FlightLLM", "VHK158", "decode_latency", 9.282, "simulated"), ("AccLLM", "U280", "decode_throughput", 164, "simulated"),
        ("Torch2RISCV-accelerator", "KV260", "decode_throughput", 27, "board"),
    } <= found
    assert all("3.2" in row.covers for row in rows if row.device == "VHK158")


@pytest.mark.parametrize("preset", LANGUAGE)
def test_a_whole_model_beside_what_was_published(run, preset):
    code, out, _ = run("estimate", "--preset", preset, "--json")
    found = json.loads(out)
    rows = found["workload"]["layers"]["decode"]
    assert code == 0 and found["decode_ms"] == pytest.approx(1e3 * sum(row["seconds"] for row in rows))
    assert found["decode_tokens_per_second"] == 1e3 / found["decode_ms"]
    # A bound: everything that was measured or simulated on the same device, attention and all, is slower.
    device = "U280" if "u280" in preset else "VHK158"
    others = [row for row in found["published"] if (row["system"], row["device"]) == ("FlightLLM", device)]
    slower = [row["value"] for row in others if row["metric"] == "decode_throughput"]
    assert slower and max(slower) < found["decode_tokens_per_second"]
    assert {row["basis"] for row in found["published"]} == {"published"} and set(found["basis"].values()) == {"assumed"}
    assert "attention" in found["covers"] and found["assumed"] == PRESETS[preset].assumed
    text = run("estimate", "sparse_chain", "--preset", preset)[1]
    assert "57.1" in text and "board re-run" in text and "simulated" in text and "no attention" in text


def test_one_matrix_on_a_preset(run):
    shape = "k=4096,n=11008,m=128,nnz=4"
    code, out, _ = run("estimate", "sparse_chain", "--preset", "flightllm-vhk158", "--shape", shape, "--json")
    found = json.loads(out)
    made = product(VHK158, k=4096, n=11008, m=128, nnz=4)
    assert code == 0 and (found["cycles"], found["stream_bytes"]) == (made.cycles, made.stream_bytes)
    assert found["limited_by"] == "engine"
    assert found["microseconds"] == found["engine_microseconds"] > found["memory_microseconds"]
    assert found["basis"]["cycles"] == "exact" and found["basis"]["microseconds"] == "assumed"


@pytest.mark.parametrize("preset", LANGUAGE.values(), ids=LANGUAGE)
def test_the_document_quotes_what_is_computed(root, preset):
    decode, prefill = (linear_layers(preset, LLAMA2_7B, tokens) for tokens in (1, 128))
    memory, engines, crowd = (1e3 * sum(row[name] for row in rows) for rows, name in (
        (decode, "memory_seconds"), (decode, "engine_seconds"), (prefill, "seconds")))
    text = (root / "docs" / "performance.md").read_text()
    row = f"| `{preset.name}` | {memory:.2f} ms by memory, {engines:.2f} ms by the engines | {crowd:.0f} ms by the engines |"
    assert row in text


@pytest.mark.parametrize("words, line", [
    (["--preset", "flightllm"],
     "--preset: must be one of flightllm-u280, flightllm-vhk158, ubimoe-zcu102, ubimoe-u280, edgemoe-zcu102, "
     "m3vit-zcu104, sparseloom-zcu102, sat-vcu1525, sparseloom-vcu1525, got 'flightllm'"),
    (["ternary_engine", "--preset", "flightllm-u280"], "ENGINE: must be sparse_chain with --preset flightllm-u280"),
    (["--preset", "flightllm-u280", "--board", "u280"], "--board: must not come with --preset"),
    (["--preset", "flightllm-u280", "--clock", "300"], "--clock: must not come with --preset"),
    (["--preset", "flightllm-u280", "--set", "chains=4"], "--set: must not come with --preset"),
    (["--preset", "flightllm-u280", "--shape", "k=64,n=0"], "--shape: n must be 1..32000, got 0"),
    (["--preset", "flightllm-u280", "--shape", "k=64"], "--shape: job field n is missing"),
    (["--preset", "flightllm-u280", "--shape", "k=64,n=8,nnz=1"], "--shape: group / nnz must be at most 8"),
    (["--preset", "flightllm-u280", "--shape", "k=64,n=8,q=1"], "--shape: unknown key 'q'"),
    (["--shape", "k=1,n=1"], "Missing argument 'ENGINE'."),
])
def test_bad_input_is_one_line(run, words, line):
    code, out, err = run("estimate", *words)
    assert (code, out) == (2, "")
    assert line in err and err.startswith("error: ") and err.count("\n") == 1
