"""Text, tokenizer and baseline of the language models."""

import hashlib
import math
import subprocess
import sys

import numpy as np
import pytest

from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo import MODELS, load, text
from sparseloom.models.zoo.ngram import Bigram
from sparseloom.models.zoo.ship import DISCOUNTS, baseline
from sparseloom.models.zoo.tokenizer import START, load_tokenizer, streams, train_tokenizer

RAW = "\n1. In the beginning [was] light. 2. And  there\nwas none\u2019s. 3.( Now one, 1 of us.) 10. Amen."


def test_cleaning():
    assert text.clean(RAW) == "In the beginning was light.\nAnd there was none's.\n(Now one, 1 of us.)\nAmen.\n"


def test_splits_are_whole_verses_in_order():
    whole = "".join(f"verse {number} of the book\n" for number in range(1000))
    splits = text.split(whole)
    assert splits.train + splits.validation + splits.test == whole
    assert all(part.endswith("\n") and part.startswith("verse") for part in (splits.train, splits.validation, splits.test))
    assert [round(len(part) / len(whole), 2) for part in (splits.train, splits.validation, splits.test)] == [0.9, 0.05, 0.05]


def test_the_member_is_checked_and_never_run(monkeypatch):
    source = b"raise SystemExit('executed')\nA = 'short'\nB = 'the longest ' 'of the strings'\n"
    with pytest.raises(InputError, match="sha256 must be"):
        text.extract(source)
    monkeypatch.setattr(text, "MEMBER_SHA256", hashlib.sha256(source).hexdigest())
    assert text.extract(source) == "the longest of the strings"


def test_the_tokenizer_has_its_size_and_loses_nothing(tmp_path):
    tokenizer = train_tokenizer(MODELS["kjv-matmulfree"].heldout, 300)
    assert tokenizer.get_vocab_size() == 300
    tokenizer.save(str(tmp_path / "t.json"))
    again = load_tokenizer(tmp_path / "t.json")
    odd = "Thus\n saith  \u00c6neas, \u2603 \t"
    assert again.decode(again.encode(odd).ids) == odd


def test_streams_begin_with_the_start_token():
    tokenizer = load_tokenizer(MODELS["kjv-matmulfree"].path.with_suffix(".tokenizer.json"))
    data = streams(tokenizer, text.Splits(train="And God said,\n", validation="Amen.\n", test="Selah.\n"))
    assert list(data) == ["train", "validation", "test"]
    assert {name: tokenizer.decode(ids.tolist()) for name, ids in data.items()} == {
        "train": START + "And God said,\n", "validation": START + "Amen.\n", "test": START + "Selah.\n"}


def slow_bigram(stream, vocabulary, discount, context, word):
    """The formula of the class, by counting."""
    pairs = list(zip(stream[:-1], stream[1:], strict=True))
    predecessors = [len({v for v, w in pairs if w == token}) + 0.1 for token in range(vocabulary)]
    share = predecessors[word] / sum(predecessors)
    total = sum(v == context for v, _ in pairs)
    if total == 0:
        return share
    followers = len({w for v, w in pairs if v == context})
    return max(pairs.count((context, word)) - discount, 0) / total + discount * followers / total * share


def test_the_bigram_is_its_formula_and_sums_to_one():
    stream = np.random.default_rng(0).integers(0, 6, 60) ** 2 % 7
    model, seen = Bigram(stream, 8, 0.7), 0
    for context in range(8):
        got = model.probability(np.full(8, context), np.arange(8))
        expected = [slow_bigram(stream.tolist(), 8, 0.7, context, word) for word in range(8)]
        np.testing.assert_allclose(got, expected, rtol=1e-12)
        assert sum(expected) == pytest.approx(1)
        seen += int(np.isin(context, stream))
    assert 2 < seen < 8
    other = np.array([0, 7, 1, 1])
    nll = -sum(math.log(slow_bigram(stream.tolist(), 8, 0.7, v, w)) for v, w in zip(other[:-1], other[1:], strict=True))
    assert model.nll(other) == pytest.approx(nll)


def test_the_baseline_takes_the_discount_of_the_validation_split():
    splits = text.split(MODELS["kjv-matmulfree"].heldout)
    data = streams(train_tokenizer(splits.train, 280), splits)
    got = baseline(data, splits, 280)
    every = {discount: Bigram(data["train"], 280, discount).nll(data["validation"]) for discount in DISCOUNTS}
    assert every[got["discount"]] == min(every.values()) < max(every.values())
    assert got["test"]["perplexity"] == pytest.approx(math.exp(
        Bigram(data["train"], 280, got["discount"]).nll(data["test"]) / (len(data["test"]) - 1)))


@pytest.mark.slow
def test_everything_recorded_comes_out_of_the_downloaded_text(tmp_path):
    subprocess.run([sys.executable, "-m", "sparseloom.models.zoo.text", tmp_path / "kjv.txt"], check=True)
    whole = (tmp_path / "kjv.txt").read_text(encoding="utf-8")
    zoo = MODELS["kjv-matmulfree"]
    results = zoo.results()
    assert hashlib.sha256(whole.encode()).hexdigest() == results["recipe"]["text"]["sha256_of_cleaned_text"]
    splits = text.split(whole)
    assert splits.test.startswith(zoo.heldout)
    tokenizer = train_tokenizer(splits.train)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert (tmp_path / "tokenizer.json").read_bytes() == zoo.path.with_suffix(".tokenizer.json").read_bytes()
    data = streams(tokenizer, splits)
    for part in ("validation", "test"):
        assert baseline(data, splits, 4096)[part] == pytest.approx(results["scores"]["bigram"][part])
    recorded = results["scores"]["ternary"]["test"]
    assert load("kjv-matmulfree").perplexity(data["test"]) == pytest.approx(recorded["perplexity"], rel=1e-3)
