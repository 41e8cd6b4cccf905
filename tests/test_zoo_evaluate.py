"""Scores against the definitions, one prediction at a time; passages are cut from texts that are what they were."""

import math

import numpy as np
import pytest

from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo import passages
from sparseloom.models.zoo.evaluate import Flip, Score, evaluate
from sparseloom.models.zoo.passages import PASSAGES, Passage

VOCABULARY = 11


def probabilities(row):
    total = sum(math.exp(v) for v in row)
    return [math.exp(v) / total for v in row]


def case(seed, length):
    draw = np.random.default_rng(seed)
    reference = draw.normal(size=(length, VOCABULARY)).astype(np.float32) * 2
    return draw.integers(0, VOCABULARY, length).tolist(), reference, reference + draw.normal(size=reference.shape) * 0.5


def test_scores_are_their_definitions():
    windows = [case(seed, length) for seed, length in enumerate((150, 65, 2))]  # longer and shorter than a piece of rows
    score, nll, kl, flips = Score(), [], [], []
    for number, (ids, reference, logits) in enumerate(windows):
        score.add(ids, logits, reference)
        for position in range(len(ids) - 1):
            p, q = probabilities(reference[position].tolist()), probabilities(logits[position].tolist())
            nll.append(-math.log(q[ids[position + 1]]))
            kl.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
            a, b = p.index(max(p)), q.index(max(q))
            if a != b:
                margin = float(reference[position, a]) - float(reference[position, b])
                flips.append(Flip(window=number, position=position, expected=a, found=b, margin=margin, target=ids[position + 1]))
    assert (score.predictions, score.windows) == (len(nll), 3) and len(nll) == 149 + 64 + 1
    assert score.perplexity == pytest.approx(math.exp(sum(nll) / len(nll)), rel=1e-9)
    assert score.kl == pytest.approx(sum(kl) / len(kl), rel=1e-9)
    assert score.flips == flips and len(flips) > 20 and all(flip.margin > 0 for flip in flips)
    assert score.top1 == 1 - len(flips) / len(nll)


def test_a_uniform_model_has_the_vocabulary_as_its_perplexity():
    score = evaluate(lambda ids: np.zeros((len(ids), VOCABULARY), np.float32), [[1, 2, 3], [4, 5]])
    assert score.perplexity == pytest.approx(VOCABULARY) and score.predictions == 3 and score.flips == []


def test_huge_logits_stay_finite():
    score = Score()
    score.add([0, 1, 1], np.array([[0, 1e4], [0, 1e4], [0, 0]], np.float32), np.array([[0, 9e3], [1e4, 0], [0, 0]], np.float32))
    assert score.perplexity == 1 and score.kl == 5000 and [flip.margin for flip in score.flips] == [1e4]


def test_evaluate_runs_both_on_every_window():
    windows = {tuple(ids): (reference, logits) for ids, reference, logits in (case(seed, 20) for seed in range(3))}
    score, expected = Score(), None
    for ids, (reference, logits) in windows.items():
        score.add(ids, logits, reference)
    expected = evaluate(lambda ids: windows[ids][1], windows, lambda ids: windows[ids][0])
    assert expected == score and expected.kl > 0


def test_windows_are_disjoint_and_in_order(monkeypatch):
    passage = Passage(text="gpl-3.txt", first=3, tokens=20, window=8)
    windows = passage.windows(str.encode)  # a byte, a token
    text = (passages.FOLDER / "gpl-3.txt").read_bytes()
    assert [len(ids) for ids in windows] == [8, 8, 4] and bytes(sum(windows, [])) == text[3:23]
    with pytest.raises(InputError, match="gpl-3.txt: tokens must be 23 at least, got 22"):
        passage.windows(lambda text: range(22))


def test_the_named_passages():
    assert {name: (p.first, p.tokens, p.window) for name, p in PASSAGES.items()} == {
        "gpl-3-512": (0, 512, 512), "gpl-3-2048": (0, 2048, 512)}
    assert "Everyone is permitted to copy and distribute verbatim copies" in (passages.FOLDER / "gpl-3.txt").read_text()


def test_a_changed_text_is_refused(tmp_path, monkeypatch):
    (tmp_path / "gpl-3.txt").write_bytes((passages.FOLDER / "gpl-3.txt").read_bytes() + b"\n")
    monkeypatch.setattr(passages, "FOLDER", tmp_path)
    with pytest.raises(InputError, match="gpl-3.txt: sha256 must be"):
        PASSAGES["gpl-3-512"].windows(str.encode)
