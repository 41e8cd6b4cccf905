"""``sparseloom compress``: a whole run on a tiny model, what it reports and writes, what it refuses; the texts that ship."""

import json

import numpy as np
import pytest

from sparseloom import cli
from sparseloom.models.compress.apply import apply
from sparseloom.models.compress.pipeline import matrices
from sparseloom.models.compress.texts import DEFAULT_TEXTS, read_texts, shared_run, windows_of
from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo.llama import LlamaLM
from sparseloom.models.zoo.passages import FOLDER, PASSAGES


@pytest.fixture(scope="module")
def ready(tiny_llama, tmp_path_factory):
    """``(GGUF file, calibration text, folder)``."""
    folder = tmp_path_factory.mktemp("compress")
    text = folder / "text.txt"
    text.write_text("And it came to pass in those days that there went out a decree.\n" * 60, encoding="utf-8")
    return tiny_llama, text, folder


def command(ready, output, *more):
    model, text, folder = ready
    return cli.main(["compress", str(model), "-o", str(folder / output), "--calibration", str(text), "--windows", "12", *more])


def test_a_run_reports_what_it_wrote(ready, capsys):
    assert command(ready, "a.safetensors", "--json") == 0
    result, progress = capsys.readouterr()
    result = json.loads(result)
    model = LlamaLM.load(ready[0])
    after, stored = apply(model, ready[2] / "a.safetensors")
    assert set(stored) == set(matrices(model)) == {row["name"] for row in result["layers"]}
    assert result["matrices"] == 14 and result["kept"] == 0.5
    assert result["weights"] == sum(weight.n * weight.k for weight in stored.values())
    assert result["bits_per_weight"] == 0.5 * (4 + 3) + 16 / 32
    assert result["file_bytes"] == (ready[2] / "a.safetensors").stat().st_size
    assert all((weight.nnz, weight.group, weight.bits, weight.scale_group) == (4, 8, 4, 32) for weight in stored.values())
    assert set(result["basis"]) == {key for key, value in result.items() if isinstance(value, (int, float))}
    # The scores are those of the file, by another way: plain probabilities.
    ids = [ids[at : at + 64] for ids in PASSAGES["gpl-3-512"].windows(model.encode) for at in range(0, len(ids), 64)]
    ids = [window for window in ids if len(window) > 1]
    for one, key in ((model, "perplexity_before"), (after, "perplexity")):
        logs = []
        for window in ids:
            z = one.forward(window).astype(np.float64)
            p = np.exp(z - z.max(axis=1, keepdims=True))
            logs += list(np.log((p / p.sum(axis=1, keepdims=True))[np.arange(len(window) - 1), window[1:]]))
        assert result[key] == pytest.approx(np.exp(-np.mean(logs)), rel=1e-6)
        assert result["predictions"] == len(logs)
    assert not (ready[2] / "a.safetensors.blocks").exists()


def test_a_budget_is_met(ready, capsys):
    assert command(ready, "b.safetensors", "--budget", "5.5", "--passage", "none", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert 4.5 < result["bits_per_weight"] <= 5.5 and "perplexity" not in result
    assert len({row["scheme"] for row in result["layers"]}) > 1


@pytest.mark.parametrize(("more", "words"), [
    (("--nnz", "3"), "nnz must be a power of two"),
    (("--nnz", "16"), "nnz must be 1..8"),
    (("--group", "6"), "group must be a power of two"),
    (("--bits", "5"), "bits must be one of 2, 3, 4, 8"),
    (("--bits", "16"), "the container holds codes"),
    (("--scale-group", "20"), "scale_group must be a multiple of group"),
    (("--budget", "1.0"), "budget must be at least"),
    (("--passage", "kjv"), "--passage"),
    (("--windows", "5000"), "have 5000 windows"),
    (("--windows", "0"), "windows"),
    (("--calibration", "absent.txt"), "absent.txt: text must be readable UTF-8"),
    (("--calibration", str(FOLDER / "gpl-3.txt")), "share no 8 words in a row with the passage gpl-3-512"),
    (("-o", "absent/c.safetensors"), "folder must exist"),
])
def test_a_bad_argument_is_one_line_and_leaves_nothing(ready, capsys, more, words):
    before = sorted(ready[2].iterdir())
    assert command(ready, "c.safetensors", *more) == 2
    out, line = capsys.readouterr()
    assert line.startswith("error: ") and line.count("\n") == 1 and words in line and not out
    assert sorted(ready[2].iterdir()) == before


def test_the_texts_that_ship_share_nothing_with_any_passage():
    """Eight words in a row; and the check itself finds what is there."""
    texts = read_texts(DEFAULT_TEXTS)
    assert len(texts) == 4 + 96
    # All passages are of this file's first 2048 tokens, which SmolLM2's tokenizer makes of 9,000 characters.
    longest = (FOLDER / "gpl-3.txt").read_text(encoding="utf-8")[:12_000]
    assert shared_run(texts, longest) is None
    assert all(one.text == "gpl-3.txt" and one.first + one.tokens <= 2048 for one in PASSAGES.values())
    assert shared_run([*texts, "x " + longest[5000:5200]], longest) is not None


def test_a_shared_run_is_found_whatever_its_case_and_marks():
    assert shared_run(["One, two THREE\nfour five six seven eight nine"], "zero one two three four five six seven eight") == (
        "one two three four five six seven eight")
    assert shared_run(["one two three four five six seven"], "one two three four five six seven") is None


def test_windows_are_disjoint_drawn_by_seed_and_counted():
    def encode(text):
        return [ord(letter) for letter in text]

    documents = ["abcdefgh", "ijklmnopqrstuvwxyz"]
    found = windows_of(documents, encode, 5, 3, window=4)
    assert ["".join(map(chr, ids)) for ids in windows_of(documents, encode, 6, 0, window=4)] == [
        "abcd", "efgh", "ijkl", "mnop", "qrst", "uvwx"]
    assert len({tuple(ids) for ids in found}) == 5
    assert all(np.array_equal(a, b) for a, b in zip(found, windows_of(documents, encode, 5, 3, window=4), strict=True))
    assert len({tuple(map(tuple, windows_of(documents, encode, 2, seed, window=4))) for seed in range(6)}) > 1
    with pytest.raises(InputError, match="have 7 windows of 4 tokens, got 6"):
        windows_of(documents, encode, 7, 0, window=4)


def test_a_container_of_another_model_is_refused(ready, tmp_path):
    from sparseloom.models.graph import GroupedWeight
    from sparseloom.models.importers.nm_file import save_nm

    weight = GroupedWeight(codes=np.zeros((4, 8), np.uint8), bits=4, scale=np.ones((4, 1), np.float32), scale_group=8)
    save_nm(tmp_path / "x.safetensors", {"blk.0.attn_q.weight": weight})
    with pytest.raises(InputError, match="be a matrix of the model, of shape"):
        apply(LlamaLM.load(ready[0]), tmp_path / "x.safetensors")
