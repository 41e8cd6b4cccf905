"""Cycles of the N:M training array, exact; proved equal to the RTL by the conformance suite.

The array works in periods: all rows begin one a cycle apart, and each does the steps of a chunk of A with its weights. Meanwhile
the values of the next chunk move into the PEs, and the beats of those after it arrive. So a period lasts as long as its steps,
the values or the beats, whichever takes longest. Results leave a row of a tile and slot a cycle, while the next tile is at work.
"""


__all__ = ["cycles", "cycles_back_to_back", "ws_periods"]

WORD = 16
FIRST_BEAT = 4
"""The cycle in which a beat of A is taken first; a job is accepted in cycle 0."""
FIRST_LOAD = 3
"""The same for weights that stay."""
ARRIVAL = 1
"""Cycles from the last beat of a period's words to its pulse."""
RELEASE = 1
"""Cycles from a pulse to the first beat that may take the place of the words that it used."""
LOADED = 1
"""Cycles from the last beat of a row's weights to its pulse."""
DRAIN_AFTER = 7
"""Cycles from the last step of a tile to its first result's way out."""
DRAINED = 1
"""Cycles from the last result's way out to the pulse that may use its place again."""
WS_RETIRE = 5
"""Cycles from a step of a period to the way out of the sum that it replaces."""
TAIL = 4
"""Cycles from the last result's way out to the completion, the ways down and across not counted."""
_QUEUED = 1


def ws_periods(build, job):
    """Periods of each tile of a weight-stationary job, in order: as many as rows, or until sums have come back; before a tile
    with other slots until the array is empty; the last just its rows."""
    blocks, columns = build.ws_blocks(job), build.column_tiles(job)
    lengths = []
    for tile, (slots, _) in enumerate(columns):
        for number, block in enumerate(blocks):
            for k_tile in range(build.k_tiles(job)):
                at_end = k_tile == build.k_tiles(job) - 1 and number == len(blocks) - 1
                if at_end and tile == len(columns) - 1:
                    lengths.append(block)
                elif at_end and columns[tile + 1][0] != slots:
                    lengths.append(block + build.gap)
                else:
                    lengths.append(max(block, build.gap))
    return lengths


class _Times:
    """Pulses and the beats of A that they wait for. Pulse p takes the words of period p; in it those of p - 1 are computed."""

    def __init__(self, beats):
        self.beats = beats
        self.arrived = FIRST_BEAT - 1
        self.pulses = (None, None)
        self.busy = 0

    def pulse(self, takes, steps, values, wait=0):
        """The next pulse, not before ``wait``; ``takes`` words and has so many ``steps``; ``values`` of the words move."""
        before, last = self.pulses
        at = max(self.busy, wait)
        if takes:
            begin = self.arrived + 1
            if before is not None:
                begin = max(begin, before + RELEASE)
            self.arrived = begin + self.beats - 1
            at = max(at, self.arrived + ARRIVAL)
        self.pulses = last, at
        self.busy = at + max(steps, values if takes else 0, 1)
        return at

    def key(self):
        """The state, relative to the last pulse."""
        before, last = self.pulses
        return last - (before if before is not None else last - 10**9), self.arrived - last, self.busy - last

    def move(self, cycles):
        """The same state so many cycles later."""
        before, last = self.pulses
        self.pulses = before + cycles, last + cycles
        self.arrived += cycles
        self.busy += cycles


def _repeat(times, count, step):
    """``step()`` ``count`` times; once the state comes again the rest is a multiple."""
    seen = None
    while count:
        before = times.pulses[1]
        step()
        count -= 1
        key = times.key()
        if key == seen and times.pulses[0] is not None:
            times.move(count * (times.pulses[1] - before))
            return
        seen = key


def cycles(build, job):
    """Cycles from the job's acceptance to that of its completion."""
    end = _output_stationary(build, job) if job.dataflow == "os" else _weight_stationary(build, job)
    return end + build.rows + build.cols + TAIL


def _output_stationary(build, job):
    """The cycle in which the last result starts its way out."""
    chunk_steps = WORD // job.group * job.nnz
    chunks = -(-job.k // WORD)
    last_steps = build.groups(job) * job.nnz - (chunks - 1) * chunk_steps
    full_rows, rest = divmod(job.m, build.rows)
    times = _Times(build.a_beats(job))
    times.pulse(True, 0, WORD)
    drains = [0, 0]
    """When the last two tiles' results had all started their way out."""
    columns = build.column_tiles(job)
    kinds = []
    for slots, valid in columns:
        kinds += [(slots, valid, build.rows, full_rows)] * bool(full_rows) + [(slots, valid, rest, 1)] * bool(rest)
    for number, (slots, valid, rows, count) in enumerate(kinds):
        final = number == len(kinds) - 1
        seen = None
        while count:
            start = times.pulses[1]
            alone = final and count == 1
            wait = drains[0] + DRAINED if drains[0] else 0
            if chunks == 1:
                times.pulse(not alone, last_steps * slots, WORD, wait)
            else:
                times.pulse(True, chunk_steps * slots, WORD, wait)
                _repeat(times, chunks - 2, lambda slots=slots: times.pulse(True, chunk_steps * slots, WORD))
                times.pulse(not alone, last_steps * slots, WORD)
            ended = times.pulses[1] + last_steps * slots
            drains = [drains[1], max(drains[1] + 1, ended + DRAIN_AFTER) + rows * valid - 1]
            count -= 1
            key = times.key(), drains[0] - times.pulses[1], drains[1] - times.pulses[1]
            if key == seen and count > 1:
                period = times.pulses[1] - start
                times.move((count - 1) * period)
                drains = [drain + (count - 1) * period for drain in drains]
                count = 1
            seen = key
    return drains[1]


def _weight_stationary(build, job):
    """The cycle in which the last result starts its way out."""
    columns, blocks = build.column_tiles(job), build.ws_blocks(job)
    lengths = ws_periods(build, job)
    each = len(blocks) * build.k_tiles(job)
    times = _Times(build.a_beats(job))
    times.pulse(True, 0, job.group)
    for tile, (slots, _) in enumerate(columns):
        steps = job.nnz * slots
        count = sum(lengths[tile * each : (tile + 1) * each])
        takes = count
        if tile == len(columns) - 1:
            count += build.rows
            takes = count - 2
        if tile == 0:
            # Weights of the first tile come row by row, as fast as rows begin.
            for row in range(build.rows):
                loaded = FIRST_LOAD - 1 + (row + 1) * steps
                times.pulse(row < takes, steps, job.group, loaded + LOADED)
            count, takes = count - build.rows, takes - build.rows
        _repeat(times, max(0, takes), lambda steps=steps: times.pulse(True, steps, job.group))
        for _ in range(count - max(0, takes)):
            times.pulse(False, steps, job.group)
    return times.pulses[1] + WS_RETIRE + columns[-1][1] - 1


def cycles_back_to_back(build, job):
    """Cycles from the previous completion to this one's, the job waiting in the queue: it saves the way through it."""
    return cycles(build, job) - _QUEUED
