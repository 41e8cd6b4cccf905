"""The schedule of the attention engine and its cycles, exact; proved equal to the RTL by the conformance suite.

A *step* takes a beat of keys (and one of values), a *key-time* is the steps of a key. A group of p queries makes a *round*: slot
o takes over its query in the round's key-time o and works o key-times behind slot 0. A round is as long as its longest list of
keys and no shorter than its queries need to come and go; a head's last round drains the slots behind slot 0. What lies behind
the steps takes a fixed time.
"""

from .functions import EXP2_LATENCY, RECIPROCAL_LATENCY, SIGMOID_LATENCY

__all__ = [
    "DIVIDE_LATENCY", "DYADIC_LATENCY", "FIRST_STEP", "LIST_LATENCY", "PHASES", "SHIFT_EXP_LATENCY", "cycles",
    "cycles_back_to_back", "in_flight", "key_range", "key_times", "keys_streamed", "lists", "result_latency", "score_latency",
    "tree_levels", "value_latency", "weight_latency",
]

PHASES = {"online": 1, "sigmoid": 1, "two_pass": 2, "shiftmax": 3}
"""Rounds from a group's keys to its results: scores and values at once; scores, values; scores, exponentials, values."""
FIRST_STEP = 12
"""The cycle of the first step."""
LIST_LATENCY = 4
"""More, and the buffer's latency, with a list of blocks."""
DYADIC_LATENCY = 6
"""Multiply in two halves, add, shift by eights, by the rest, round, clamp."""
DIVIDE_LATENCY = 31
"""Of the integer softmax: 2**31 - 1 by a sum, a cycle a bit."""
SHIFT_EXP_LATENCY = 10
_QUEUED = 1
_BEHIND = 1


def tree_levels(lanes):
    return (lanes - 1).bit_length()


# Cycles from a key's last step ---------------------------------------------------------------------------------------------
def score_latency(build):
    """To its scaled score: buffer, operands, product, tree, sum over chunks, scale."""
    return build.read_latency + 3 + tree_levels(build.d_lanes) + DYADIC_LATENCY


def weight_latency(score):
    """From the score to the weight of the value."""
    return {"online": 5 + EXP2_LATENCY, "two_pass": 4 + EXP2_LATENCY, "sigmoid": 3 + SIGMOID_LATENCY,
            "shiftmax": SHIFT_EXP_LATENCY + DIVIDE_LATENCY + 7}[score]


def value_latency(build):
    """To the weight of its value."""
    return score_latency(build) + weight_latency(build.score)


def result_latency(build):
    """To the first beat of a result that it completes, at the engine's port."""
    tail = 2 + RECIPROCAL_LATENCY if build.score in ("online", "two_pass") else 3
    return value_latency(build) + tail + DYADIC_LATENCY + 1


def in_flight(build):
    """Steps that may have been taken and have not yet left the queues behind them, at most."""
    return result_latency(build) + 2 * build.max_chunks + 2


# Rounds --------------------------------------------------------------------------------------------------------------------
def key_range(build, job, group):
    """(first, behind the last) key that some query of the group sees."""
    base = group * build.p
    if not job.causal:
        return 0, job.keys
    high = max(0, min(job.keys, base + build.p + job.offset))
    low = max(0, base + job.offset - job.window + 1) if job.window else 0
    return min(low, high), high


def lists(build, job):
    """Keys that each group of a head streams, in order: a list of ranges for each group."""
    if job.block:
        return [[range(at * job.block, at * job.block + job.block_keys(at)) for at in chosen] for chosen in job.blocks]
    return [[range(*key_range(build, job, group))] for group in range(build.groups(job))]


def keys_streamed(build, job):
    """Keys that a head streams, over all its groups."""
    if not job.causal and not job.block:
        return build.groups(job) * job.keys
    return sum(len(part) for chosen in lists(build, job) for part in chosen)


def key_times(build, job):
    """Key-times of a head: its rounds, and the drain of the last."""
    groups, phases = build.groups(job), PHASES[build.score]
    least, drain = min(build.p, job.queries), (job.queries - 1) % build.p
    if not job.causal and not job.block:
        return (groups + phases - 1) * max(job.keys, least) + drain
    counts = [sum(map(len, chosen)) for chosen in lists(build, job)]
    behind = [0] * (phases - 1)
    counts = [*behind, *counts, *behind]
    return sum(max(least, *counts[at : at + phases]) for at in range(groups + phases - 1)) + drain


def cycles(build, job):
    """Cycles from the job's acceptance to that of its completion."""
    chunks, begin = build.chunks(job), FIRST_STEP + (LIST_LATENCY + build.read_latency if job.block else 0)
    return begin + job.heads * key_times(build, job) * chunks + chunks + result_latency(build) + _BEHIND


def cycles_back_to_back(build, job):
    """Cycles from the previous completion to this one's, the job waiting in the queue: it saves the way through it."""
    return cycles(build, job) - _QUEUED
