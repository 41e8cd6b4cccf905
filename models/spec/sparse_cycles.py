"""Beats and cycles of the sparse chain engine, exact; proved equal to the RTL by the conformance suite.

Two processes share a ring of quads: the fetch takes a beat a cycle, the issue a step a cycle. A quad begins to arrive when a
place of the ring is free, a segment begins to issue when its last quad has arrived; everything behind the issue takes a fixed
time. The recurrence over quads and segments repeats itself from tile to tile, so few tiles tell about all.
"""

from collections import deque

from .sparse_job import LANE_STEPS, POSITIONS

__all__ = ["CODEBOOK_WORDS", "QUADS", "cycles", "cycles_back_to_back", "header_words", "pipeline", "words"]

QUADS = 16
"""Places of the ring."""
CODEBOOK_WORDS = 4
FIRST_WORD = 4
"""The cycle in which the first beat is accepted."""
_FETCH_TO_ISSUE = 3
_SPAN_SETUP = 1
_BEHIND = 10
_QUEUED = 1


def pipeline(build):
    """Cycles from the issue of a step to its sum: buffer, multiplexers, cascade, reduction nodes."""
    groups = POSITIONS // build.group_dsps
    return build.read_latency + 3 + build.group_dsps + 4 + (groups - 1).bit_length()


def header_words(job, span, first):
    """Words of headers before each quad of a span; ``first``: it is its tile's first."""
    quads = -(-span.steps // LANE_STEPS)
    if not job.scale_group:
        return [int(first)] + [0] * (quads - 1)
    every = job.scale_group * job.header_groups // (POSITIONS * span.ratio)
    counts = []
    for quad in range(quads):
        low, high = quad * LANE_STEPS, min(span.steps, (quad + 1) * LANE_STEPS)
        counts.append(-(-high // every) - -(-low // every))
    return counts


def _span_words(job, span, first):
    """Words of each quad of a span: headers, planes of indices, planes of codes."""
    planes = job.bits + (job.index_bits if span.ratio > 1 else 0)
    return [count + planes for count in header_words(job, span, first)]


def words(build, job):
    """Beats of the weight stream."""
    start = CODEBOOK_WORDS if job.codebook else 0
    if not job.block:
        return start + build.tiles(job) * sum(_span_words(job, job.spans(0)[0], True))
    return start + sum(1 + sum(_span_words(job, span, not at))
                       for tile in range(build.tiles(job)) for at, span in enumerate(job.spans(tile)))


class _Timeline:
    """Cycles in which the latest word was taken (``fetched``) and the latest step issued (``issued``)."""

    def __init__(self, build, job):
        self.build, self.job = build, job
        self.fetched = FIRST_WORD - 1 + (CODEBOOK_WORDS if job.codebook else 0)
        self.issued = 0
        self.releases = deque([0] * QUADS, QUADS)
        # Passes over the tokens, and those of two tokens. The scaler takes two cycles for these: a pass of one step waits a cycle
        # behind such a one, be it in its own segment or the last (``trailing``) of the segment before.
        self.pairs = build.pairs(job)
        self.doubles = job.m // 2 if build.tokens == 2 else 0
        self.trailing = int(self.doubles == self.pairs)

    def segment_cycles(self, steps):
        """Cycles from a segment's first step through its last."""
        return self.pairs * steps + (self.doubles - self.trailing if steps == 1 else 0)

    def run_span(self, span, first):
        job = self.job
        counts = _span_words(job, span, first)
        if job.block:
            counts[0] += 1
        per_segment = job.segment // (POSITIONS * span.ratio)
        arrived, done = 0, 0
        while done < span.steps:
            steps = min(per_segment, span.steps - done)
            needed = -(-(done + steps) // LANE_STEPS)
            while arrived < needed:
                begin = max(self.fetched + 1, self.releases[0])
                self.fetched = begin + counts[arrived] - 1 + (_SPAN_SETUP if job.block and not arrived else 0)
                # A place is free again when the quad is; until its own release is known, the slot holds it.
                self.releases.append(None)
                arrived += 1
            pause = self.trailing if steps == 1 else 0
            start = max(self.issued + 1 + pause, self.fetched + _FETCH_TO_ISSUE)
            self.issued = start + self.segment_cycles(steps) - 1
            done += steps
            passed = needed if done == span.steps else done // LANE_STEPS
            self._release(arrived - passed)
        return self

    def _release(self, kept):
        """All quads but the latest ``kept`` are free when the latest step has left the pipeline."""
        at = self.issued + pipeline(self.build)
        for index in range(len(self.releases) - kept):
            if self.releases[index] is None:
                self.releases[index] = at

    def state(self):
        """What the future depends on, relative to the latest step."""
        return self.fetched - self.issued, tuple(max(at - self.fetched, 0) for at in self.releases)


def cycles(build, job):
    """Cycles from the job's acceptance to that of its completion."""
    line, tiles = _Timeline(build, job), build.tiles(job)
    tile, before = 0, None
    while tile < tiles:
        for at, span in enumerate(job.spans(tile)):
            line.run_span(span, not at)
        tile += 1
        if not job.block:
            state = line.state()
            if before and before[0] == state:
                line.issued += (line.issued - before[1]) * (tiles - tile)
                break
            before = state, line.issued
    return line.issued + pipeline(build) + _BEHIND + int(build.tokens == 2 and job.m % 2 == 0)


def cycles_back_to_back(build, job):
    """Cycles from the previous completion to this one's, the job waiting in the queue: it saves the way through it."""
    return cycles(build, job) - _QUEUED


