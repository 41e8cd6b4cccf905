"""Jobs of the MoE linear engine: shapes, experts and who goes where, numbers; and what follows from them."""

from dataclasses import dataclass

from .engine import Job
from .record import Field, Record

__all__ = [
    "BIAS_BITS", "EXPERT_WORD", "HEADER_BYTES", "PAIR_WORD", "SCALE_BITS", "SCORE_FRACTION", "MoeLinearJob", "default_routes",
]

SCALE_BITS, BIAS_BITS = 16, 32
HEADER_BYTES = (SCALE_BITS + BIAS_BITS) // 8
"""Bytes before the weights of a tile, for each of its rows: scale and bias."""
SCORE_FRACTION = 15

PAIR_WORD = Record((
    Field("token", 16), Field("score", 16, doc="1.0 = 2**15"), Field("first", 1, doc="the token's first expert"),
    Field("last", 1, doc="the token's last expert"),
))
"""A word of the queue: a token that goes to an expert."""
EXPERT_WORD = Record((Field("expert", 8), Field("count", 16, doc="its words in the queue"), Field("last", 1, doc="of the list")))
"""A word of the list of experts that have tokens."""

_GOLDEN = 40503  # 2**16 divided by the golden ratio


def default_routes(m, experts, top_k):
    """Tokens of each expert, a tuple of ascending tuples: every token goes to ``top_k`` different experts, unevenly.

    Choice i of all (token by token) falls on expert floor(experts * u**2), u = (i + 1) * 40503 mod 2**16 / 2**16, or on the next
    that the token has not: the first expert of 16 is chosen about eight times as often as the last.
    """
    routes = [[] for _ in range(experts)]
    for token in range(m):
        for choice in range(top_k):
            u = (token * top_k + choice + 1) * _GOLDEN & 0xFFFF
            expert = experts * u * u >> 32
            while routes[expert] and routes[expert][-1] == token:
                expert = (expert + 1) % experts
            routes[expert].append(token)
    return tuple(map(tuple, routes))


@dataclass(frozen=True, kw_only=True)
class MoeLinearJob(Job):
    """z = round_half_even((sum over k of w[e, n, k] * x[row, k]) * w_scale[e, n] * x_scale[row] / 2**shift) + bias[e, n], as
    int32, clamped; then, if ``gelu``, gelu(z) with 16 fraction bits.

    Dense (``experts`` = 1): row is a token of ``m``, y[token] = z. With experts a token goes to at most ``top_k`` of them:
    ``routes`` lists the tokens of each expert, None: :func:`default_routes`. All these pairs, expert by expert in the order of
    ``routes``, are the queue. ``gather``: row is the pair's token, else the pair's place in the queue; None: ``not use_score``.
    Without ``use_score`` y[place] = z. With it z = round_half_even(z * score[place] / 2**15), and y[token] is the sum over its
    experts, ascending, clamped to int32 after each; tokens without an expert have no result. ``narrow``: y becomes
    round_half_even(y * out_multiplier / 2**out_shift), clamped to -127..127.
    """

    m: int
    k: int
    n: int
    experts: int = 1
    top_k: int = 1
    gelu: bool = False
    use_score: bool = False
    gather: bool | None = None
    routes: tuple | None = None
    shift: int = 0
    narrow: bool = False
    out_multiplier: int = 1
    out_shift: int = 0

    @property
    def queued(self):
        """Whether there is a queue."""
        return self.experts > 1

    @property
    def counts(self):
        """Pairs of each expert that has some, in ascending order."""
        return tuple(len(tokens) for tokens in self.routes if tokens) if self.queued else (self.m,)

    @property
    def used(self):
        """The experts that have tokens, ascending."""
        return [expert for expert, tokens in enumerate(self.routes) if tokens] if self.queued else [0]

    @property
    def pairs(self):
        """Tokens that go to an expert, counted for each; all tokens of a dense job."""
        return sum(self.counts)

    def queue(self):
        """(token, first, last) of each place of the queue."""
        order = [token for tokens in self.routes for token in tokens] if self.queued else list(range(self.m))
        last = {token: place for place, token in enumerate(order)}
        seen, places = set(), []
        for place, token in enumerate(order):
            places.append((token, token not in seen, last[token] == place))
            seen.add(token)
        return places

    @property
    def x_rows(self):
        """Rows of x: tokens, or places of the queue."""
        return self.pairs if self.queued and not self.gather else self.m

    @property
    def y_rows(self):
        """Rows of the result."""
        return self.pairs if self.queued and not self.use_score else self.m

    @property
    def emitted(self):
        """Rows that the engine delivers: all, but for tokens without an expert."""
        return len({token for tokens in self.routes for token in tokens}) if self.use_score else self.y_rows
