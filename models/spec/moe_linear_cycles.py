"""Cycles of the MoE linear engine, exact; proved equal to the RTL by the conformance suite.

Three processes run side by side. The *loader* takes a beat of weights a cycle while the ring has room for its step, or the ring
of headers for its tile. The *queue* delivers a pair a cycle, group after group of tokens. The *issue* does a step a cycle: the
first group of a tile waits for each step's weights, every group for its tokens, and the last step of a group for the results of
the group before. A step of a tile's last group frees its place of the ring. Everything behind the issue takes a fixed time.
"""

from .functions import GELU_LATENCY

__all__ = ["GROUPS", "HEADERS", "RESULTS", "SCORE_GAP", "back_latency", "cycles", "cycles_back_to_back", "front_latency"]

HEADERS = 64
"""Tiles whose headers are on chip."""
GROUPS = 16
"""Groups of tokens that are fetched ahead."""
RESULTS = 128
"""Places for results under way and waiting: more than ever are."""
SCORE_GAP = 5
"""Cycles from the last result of an expert to the first of the next: the sum of a token must be written before it is read."""
_CASCADE = 12
_LIST = 3
"""The cycle in which a dense job's one expert is known."""
_QUEUED = 1


def front_latency(build):
    """Cycles from the issue of a step to its sum of products: buffer, register, cascade, adder tree."""
    return build.read_latency + 1 + _CASCADE + (build.lanes // 8 - 1).bit_length()


def back_latency(build):
    """Cycles from the choice of a sum to its result: two products, shift, bias, and the build's GELU, scores, narrow."""
    return 13 + (GELU_LATENCY if build.gelu else 0) + (5 if build.scores else 0) + (7 if build.narrow else 0)


class _Loader:
    """Beats of weights: when each tile's header and each step's weights have come."""

    def __init__(self, build, steps):
        self.build, self.steps = build, steps
        self.beat = 0
        self.releases, self.drains = [], []
        """By step: the cycle in which its place was free again; by tile: the same for its header."""
        self.tiles = 0

    def tile(self, known):
        """Cycles of the last beat of each step of the next tile, one at a time (releases come meanwhile)."""
        build = self.build
        at = max(self.beat + 1, known)
        if self.tiles >= HEADERS:
            at = max(at, self.drains[self.tiles - HEADERS] + 1)
        self.beat = at + build.header_beats - 1
        first = self.tiles * self.steps
        self.tiles += 1
        for step in range(first, first + self.steps):
            at = self.beat + 1
            if step >= build.ring_words:
                at = max(at, self.releases[step - build.ring_words] + 1)
            self.beat = at + build.word_beats - 1
            yield self.beat


class _Queue:
    """Pairs: when each group of tokens has come."""

    def __init__(self, build):
        self.build, self.asked, self.pops = build, 0, []
        self.groups = 0

    def group(self, count, known):
        """The cycle in which the next group of ``count`` tokens is offered."""
        at = max(self.asked + 1, known)
        if self.groups >= GROUPS:
            at = max(at, self.pops[self.groups - GROUPS] + 1)
        self.asked = at + count - 1
        self.groups += 1
        return self.asked + self.build.read_latency + 4


def cycles(build, job):
    """Cycles from the job's acceptance to that of its completion."""
    steps, tiles, latency = build.steps(job), build.tiles(job), front_latency(build)
    loader, queue = _Loader(build, steps), _Queue(build)
    free = build.read_latency + 7
    """Cycles from a step to the last read of its weights."""
    issued, spaced, have = 0, 0, 0
    for number, count in enumerate(job.counts):
        known = _LIST + 1 + (0 if not job.queued else (number + 1) * (build.read_latency + 2))
        sizes = [min(build.tokens, count - at) for at in range(0, count, build.tokens)]
        for tile in range(tiles):
            chunks = -(-min(build.rows, job.n - tile * build.rows) // build.out_lanes)
            weights = loader.tile(known)
            for index, size in enumerate(sizes):
                # A group is taken from the queue when the one before ends.
                have = max(issued, queue.group(size, known))
                queue.pops.append(have)
                first, closing = index == 0, index == len(sizes) - 1
                issued = have
                for step in range(steps):
                    issued += 1
                    if first:
                        issued = max(issued, next(weights) + 2)
                    if step == steps - 1:
                        issued = max(issued, spaced)
                    if closing:
                        loader.releases.append(issued + free)
                beats = size * chunks
                spaced = issued + beats
                if closing:
                    loader.drains.append(issued + latency + beats)
            known = 0
        if job.use_score:
            spaced += SCORE_GAP - 1
    return loader.drains[-1] + back_latency(build) + 2


def cycles_back_to_back(build, job):
    """Cycles from the previous completion to this one's, the job waiting in the queue: it saves the way through it."""
    return cycles(build, job) - _QUEUED
