"""Latencies of the vector engine's parts, the depths of its queues, and its closed forms.

With N = m * beats operand beats: a part that looks at a whole row before it gives its first element costs the row's beats once
more; everything is one beat a cycle, rows overlap. Only ilayernorm's root is one row at a time.
"""

from .functions import RSQRT_LATENCY, function_latency
from .vector_job import ELEMENTWISE, NORMS

__all__ = [
    "ALIGN_LATENCY", "DIVIDE_BITS", "EXP_STEPS", "MULTIPLY_LATENCY", "RESCALE_LATENCY", "ROUND_SHIFT_LATENCY", "ROWS", "ROW_READ",
    "SHIFT_EXP_LATENCY", "cycles", "cycles_back_to_back", "in_flight", "memory_depths", "product_latency", "root_cycles",
    "sums_latency", "tree_levels",
]

ROUND_SHIFT_LATENCY = 3
MULTIPLY_LATENCY = 2
RESCALE_LATENCY = MULTIPLY_LATENCY + ROUND_SHIFT_LATENCY + 1
ALIGN_LATENCY = ROUND_SHIFT_LATENCY
ROW_READ = 2
"""Cycles from a request to the row memory's words."""
ROWS = 64
"""Rows that may be under way between the operands and the row memory's readers."""
DIVIDE_BITS = 31
"""Stages of a pipelined division of 2**31 - 1, a bit of the quotient each."""
EXP_STEPS = {"shiftmax": 4, "shiftgelu": 5}
"""Bits of the quotient in ShiftExp."""
SHIFT_EXP_LATENCY = {name: 6 + bits for name, bits in EXP_STEPS.items()}
_START = 3
"""A job accepted in cycle 0 has its first operand beat accepted in this cycle."""
_END = 5
"""Cycles from a value's clamping to ``done``: mask, queue, two for the count of clamped values, completion."""
_CHUNK = 16


def tree_levels(lanes):
    return (lanes - 1).bit_length()


def product_latency(width):
    """Of a product with a factor of ``width`` bits, in chunks of 16."""
    return MULTIPLY_LATENCY + tree_levels(-(-width // _CHUNK))


def sums_latency(build):
    """From a row's last beat to its sums."""
    return MULTIPLY_LATENCY + tree_levels(build.lanes) + 1


def _statistic(build):
    """For each pass over a row: cycles from its last beat to what the next pass needs."""
    levels, function = tree_levels(build.lanes), build.function
    if function == "layernorm":
        return [sums_latency(build) + product_latency(build.sum_width) + 2 + RSQRT_LATENCY]
    if function == "rmsnorm":
        return [sums_latency(build) + product_latency(build.count_width) + 2 + RSQRT_LATENCY]
    if function == "shiftmax":
        return [levels + 1, levels + 2 + DIVIDE_BITS]
    if function == "shiftgelu":
        return [levels + 1 + SHIFT_EXP_LATENCY[function]]
    return [1 + sums_latency(build) + 1 + root_cycles(build)] if function == "ilayernorm" else []


def _pipelines(build):
    """For each pass: cycles from its words to what it makes of them; elementwise functions: of the only one."""
    function = build.function
    if function in ELEMENTWISE:
        return [RESCALE_LATENCY + function_latency(function) + (ALIGN_LATENCY if function in ("reciprocal", "rsqrt") else 0)]
    if function in NORMS:
        return [MULTIPLY_LATENCY + 1 + MULTIPLY_LATENCY + ROUND_SHIFT_LATENCY + MULTIPLY_LATENCY + ROUND_SHIFT_LATENCY + 1]
    if function == "shiftmax":
        return [1 + SHIFT_EXP_LATENCY[function], MULTIPLY_LATENCY + 1]
    if function == "shiftgelu":
        return [1 + SHIFT_EXP_LATENCY[function] + 2 + DIVIDE_BITS + MULTIPLY_LATENCY + 1 + MULTIPLY_LATENCY]
    return [1 + MULTIPLY_LATENCY + 1 + 1]


def _reads(build):
    """For each pass: cycles from a request to its words."""
    return [max(ROW_READ, build.read_latency) if build.weighted else ROW_READ] * len(_statistic(build))


def _passes(build):
    """(statistic, read, pipeline) of each pass over rows; none for elementwise functions."""
    return list(zip(_statistic(build), _reads(build), _pipelines(build), strict=True)) if _statistic(build) else []


def root_cycles(build):
    """Of one row in ilayernorm's unit: mean, sum of squares, ten steps of the root, factor."""
    return 12 * (build.divide_width + 2) + 7


def memory_depths(build):
    """Words of each pass's row memory: a power of two that holds a row and all that arrives until the row's words leave."""
    depths, way = [], 2
    for statistic, read, pipeline in _passes(build):
        if build.function == "ilayernorm":
            # The root is busy longer than a row takes to arrive: two rows wait while a third leaves.
            need = 3 * build.max_beats + way + sums_latency(build) + 8
        else:
            need = build.max_beats + way + statistic + 4
        depths.append(1 << (need - 1).bit_length())
        way = read + pipeline + 2
    return depths


def in_flight(build):
    """Results between their request and their queue's head, and those whose place is not free yet."""
    read = (_reads(build) or [1])[-1]
    return read + _pipelines(build)[-1] + RESCALE_LATENCY + 4


def cycles(build, job):
    """From the job's acceptance by the idle engine to that of ``done``."""
    beats = build.beats_of(job)
    time = _START + job.m * beats - 1
    if build.function in ELEMENTWISE:
        return time + 1 + _pipelines(build)[0] + RESCALE_LATENCY + _END
    if build.function == "ilayernorm":
        # The root begins a row when the row's sums are there and the row before is done.
        time += (job.m - 1) * max(0, root_cycles(build) + 1 - beats)
    for way, (statistic, read, pipeline) in enumerate(_passes(build)):
        # Operands have a register first; the queue of rows is one more.
        time += (1 if way == 0 else 0) + statistic + 1 + beats - 1 + read + pipeline
    return time + RESCALE_LATENCY + _END


def cycles_back_to_back(build, job):
    """From the previous job's ``done`` to this one's: the queue saves a cycle."""
    return cycles(build, job) - 1
