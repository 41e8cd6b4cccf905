"""Closed-form cycles of the ternary engine; proved equal to the RTL by the conformance suite.

Cycle 0 is the one in which an idle engine accepts the job. Every number below is the index of a cycle in which something
happens if nothing refuses; the job's cycles are the index of the cycle in which ``done`` is accepted.
"""

__all__ = ["FIRST_STEP", "TABLE_FILL", "TABLE_READY", "cycles", "cycles_back_to_back"]

FIRST_STEP = 3
"""Tree: first beat accepted. Table: first read of activations accepted."""
TABLE_FILL = 18
"""Cycles from one fill of a look-up table to the next: 16 entries, 2 to change over; reads of activations hide behind them."""
TABLE_READY = 17
"""Cycles from a fill's first entry to the first beat that may look it up."""
_LOAD_TO_FILL = 2
_STATISTICS = 6
_QUEUED = 1


def cycles(build, job):
    """Cycles from the job's acceptance to that of its completion."""
    end = (_tree_end if build.datapath == "tree" else _table_end)(build, job)
    if not build.statistics:
        return end + 1
    lanes_levels = (build.result_lanes - 1).bit_length()
    wait = max(1, _STATISTICS + lanes_levels - build.result_latency)
    return end + wait + (job.m if job.last else 1)


def cycles_back_to_back(build, job):
    """Cycles from the previous completion to this one's, the job waiting in the queue: it saves the way through it."""
    return cycles(build, job) - _QUEUED


def _tree_end(build, job):
    """The cycle in which the last result beat is accepted.

    Sums leave the accumulators in bursts of m every k_blocks * m cycles and take up to rows / result_lanes beats each. The last
    beat comes when the slower of the two allows: the latest, over all sums, of its arrival plus the beats still to deliver
    then. Both are linear between the corners, so the corners decide.
    """
    blocks, groups = build.k_blocks(job), build.groups(job)
    full = build.rows // build.result_lanes
    short = -(-(job.n - (groups - 1) * build.rows) // build.result_lanes)
    arrive = FIRST_STEP + build.datapath_latency + 1 + build.result_latency
    end = 0
    for group in {0, max(0, groups - 2), groups - 1}:
        for token in {0, job.m - 1}:
            if group == groups - 1:
                left = (job.m - token) * short
            else:
                left = ((groups - 1 - group) * job.m - token) * full + job.m * short
            end = max(end, arrive + (group + 1) * blocks * job.m - job.m + token + left - 1)
    return end


def _table_end(build, job):
    """As :func:`_tree_end`. A block of k takes as long as its row groups or as the next fill, whichever is longer."""
    blocks, groups = build.k_blocks(job) * job.m, build.groups(job)
    first = FIRST_STEP + build.read_latency + _LOAD_TO_FILL + TABLE_READY
    last = first + (blocks - 1) * max(groups, TABLE_FILL) + groups - 1
    return last + build.datapath_latency + 1 + build.result_latency
