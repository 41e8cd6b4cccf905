"""How well a compressed model speaks for its original: perplexity, teacher-forced top-1 agreement, KL divergence, every flip."""

from dataclasses import dataclass, field

import numpy as np

__all__ = ["Flip", "Score", "evaluate"]

ROWS = 64  # rows of logits at a time in double precision


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A position where the most probable token is not the reference's.

    ``window`` and ``position``: the row of logits, which predicts position + 1 of the window. ``expected`` and ``found``: the
    choices of the reference and of the model. ``margin`` >= 0: by how much the reference's logit of ``expected`` exceeds its
    own logit of ``found``; a small one says that the reference was undecided. ``target``: the token that the text has.
    """

    window: int
    position: int
    expected: int
    found: int
    margin: float
    target: int


@dataclass(kw_only=True)
class Score:
    """Sums over windows of a text, filled by :meth:`add`. The comparisons with a reference need it given in every window."""

    predictions: int = 0
    windows: int = 0
    nll: float = 0.0
    divergence: float = 0.0
    flips: list[Flip] = field(default_factory=list)

    def add(self, ids, logits, reference=None):
        """Take in one window: ``logits`` and ``reference`` are float [len(ids), vocabulary]; the last row predicts nothing."""
        ids = np.asarray(ids, np.int64)
        for start in range(0, len(ids) - 1, ROWS):
            rows = slice(start, min(start + ROWS, len(ids) - 1))
            targets = ids[rows.start + 1 : rows.stop + 1]
            mine = log_softmax(logits[rows])
            self.nll -= float(mine[np.arange(len(targets)), targets].sum())
            if reference is not None:
                theirs = log_softmax(reference[rows])
                self.divergence += float((np.exp(theirs) * (theirs - mine)).sum())
                self._compare(reference[rows], logits[rows], targets, start)
        self.predictions += len(ids) - 1
        self.windows += 1

    def _compare(self, reference, logits, targets, start):
        expected, found = reference.argmax(axis=-1), logits.argmax(axis=-1)
        for row in np.flatnonzero(expected != found):
            a, b = int(expected[row]), int(found[row])
            margin = float(reference[row, a]) - float(reference[row, b])
            self.flips.append(Flip(window=self.windows, position=start + int(row), expected=a, found=b, margin=margin,
                                   target=int(targets[row])))

    @property
    def perplexity(self):
        """exp of the mean negative log-likelihood of the predicted tokens."""
        return float(np.exp(self.nll / self.predictions))

    @property
    def top1(self):
        """The fraction of positions where model and reference choose the same token, both shown the text up to there."""
        return 1 - len(self.flips) / self.predictions

    @property
    def kl(self):
        """Mean of KL(reference || model) in nats a prediction."""
        return self.divergence / self.predictions


def evaluate(run, windows, reference=None):
    """The :class:`Score` of ``run(ids) -> logits [m, vocabulary]`` over windows of ids, against ``reference``, called alike.

    ``LlamaLM.forward`` is such a function, also with a hook bound to it; ``Passage.windows`` cuts the windows.
    """
    score = Score()
    for ids in windows:
        score.add(ids, run(ids), reference(ids) if reference else None)
    return score


def log_softmax(logits):
    """Logarithms of the probabilities, in double precision."""
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
