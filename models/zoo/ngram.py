"""The baseline every language model here is compared with: an interpolated Kneser-Ney bigram over the same tokens."""

import numpy as np

__all__ = ["Bigram"]


class Bigram:
    """P(w | v) = max(c(vw) - D, 0) / c(v) + D * T(v) / c(v) * Pc(w), with T(v) the number of distinct followers of v and
    Pc(w) proportional to the number of distinct predecessors of w plus ``K`` (so that no token has probability 0).

    ``stream`` is a 1-D integer array whose first token is context only; ``discount`` is D in (0, 1).
    """

    K = 0.1

    def __init__(self, stream, vocabulary, discount):
        pairs, counts = np.unique(np.asarray(stream[:-1], np.int64) * vocabulary + stream[1:], return_counts=True)
        self.vocabulary, self.discount, self.pairs, self.counts = vocabulary, discount, pairs, counts
        self.total = np.bincount(pairs // vocabulary, weights=counts, minlength=vocabulary)
        self.followers = np.bincount(pairs // vocabulary, minlength=vocabulary)
        predecessors = np.bincount(pairs % vocabulary, minlength=vocabulary) + self.K
        self.continuation = predecessors / predecessors.sum()

    def probability(self, context, word):
        """P(word | context), element by element, float64."""
        pair = np.asarray(context, np.int64) * self.vocabulary + word
        at = np.minimum(np.searchsorted(self.pairs, pair), len(self.pairs) - 1)
        count = np.where(self.pairs[at] == pair, self.counts[at], 0)
        total = self.total[context]
        known = np.maximum(total, 1)
        kept, weight = np.maximum(count - self.discount, 0) / known, self.discount * self.followers[context] / known
        return np.where(total > 0, kept + weight * self.continuation[word], self.continuation[word])

    def nll(self, stream):
        """Sum of -ln P over the stream after its first token."""
        return float(-np.log(self.probability(stream[:-1], stream[1:])).sum())
