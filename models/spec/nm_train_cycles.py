"""Cycles of the N:M training array, exact; proved equal to the RTL by the conformance suite.

The array works in periods: all rows begin one a cycle apart, and each does the steps of a chunk of A with its weights. Meanwhile
the values of the next chunk move into the PEs, and the beats of those after it arrive. So a period lasts as long as its steps,
the values or the beats, whichever takes longest. Results leave a row of a tile and slot a cycle, while the next tile is at work.
"""


from .nm_train_job import WORD

__all__ = ["cycles", "cycles_back_to_back", "ws_periods"]

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
_LONG = 1 << 20
"""Cycles beyond which the past cannot be felt: a period or the results of a tile take far fewer."""
_LONG_AGO = -_LONG


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
        self.pulses = [_LONG_AGO, _LONG_AGO]
        self.busy = 0
        self.drained = [_LONG_AGO, _LONG_AGO]
        """When the last two tiles' results had all started their way out."""

    def pulse(self, takes, steps, values, wait=0):
        """The next pulse, not before ``wait``; ``takes`` words and has so many ``steps``; ``values`` of the words move."""
        at = max(self.busy, wait)
        if takes:
            begin = max(self.arrived, self.pulses[0] + RELEASE - 1) + 1
            self.arrived = begin + self.beats - 1
            at = max(at, self.arrived + ARRIVAL)
        self.pulses = [self.pulses[1], at]
        self.busy = at + max(steps, values if takes else 0, 1)

    def drain(self, steps, beats):
        """A tile ends with the last of the latest pulse's ``steps``; its ``beats`` of results follow."""
        begin = max(self.drained[1] + 1, self.pulses[1] + steps + DRAIN_AFTER)
        self.drained = [self.drained[1], begin + beats - 1]

    def repeat(self, count, step):
        """``step()`` ``count`` times; once the state comes again, the rest is a multiple."""
        seen = None
        while count > 0:
            before = self.pulses[1]
            step()
            count -= 1
            key = self._key()
            if key == seen:
                self._move(count * (self.pulses[1] - before))
                return
            seen = key

    def _key(self):
        """The state relative to the last pulse; what is long ago makes no difference, nor results that left before it."""
        last = self.pulses[1]
        return (*(max(time - last, -_LONG) for time in (self.pulses[0], self.arrived, self.busy)),
                *(max(time - last, 0) for time in self.drained))

    def _move(self, cycles):
        self.pulses = [time + cycles for time in self.pulses]
        self.drained = [time + cycles for time in self.drained]
        self.arrived += cycles
        self.busy += cycles


def cycles(build, job):
    """Cycles from the job's acceptance to that of its completion."""
    end = _output_stationary(build, job) if job.dataflow == "os" else _weight_stationary(build, job)
    return end + build.rows + build.cols + TAIL


def _output_stationary(build, job):
    """The cycle in which the last result starts its way out."""
    chunk = WORD // job.group * job.nnz
    chunks = -(-job.k // WORD)
    rest = build.groups(job) * job.nnz - (chunks - 1) * chunk
    times = _Times(build.a_beats(job))

    def tile(slots, valid, rows, last=False):
        wait = times.drained[0] + DRAINED
        if chunks > 1:
            times.pulse(True, chunk * slots, WORD, wait)
            times.repeat(chunks - 2, lambda: times.pulse(True, chunk * slots, WORD))
            wait = 0
        times.pulse(not last, rest * slots, WORD, wait)
        times.drain(rest * slots, rows * valid)

    times.pulse(True, 0, WORD)
    full, some = divmod(job.m, build.rows)
    kinds = [(slots, valid, rows, count) for slots, valid in build.column_tiles(job)
             for rows, count in ((build.rows, full), (some, 1)) if rows and count]
    for slots, valid, rows, count in kinds[:-1]:
        times.repeat(count, lambda kind=(slots, valid, rows): tile(*kind))
    slots, valid, rows, count = kinds[-1]
    times.repeat(count - 1, lambda: tile(slots, valid, rows))
    tile(slots, valid, rows, last=True)
    return times.drained[1]


def _weight_stationary(build, job):
    """The cycle in which the last result starts its way out."""
    columns = build.column_tiles(job)
    lengths = ws_periods(build, job)
    each = len(lengths) // len(columns)
    times = _Times(build.a_beats(job))
    times.pulse(True, 0, job.group)
    for tile, (slots, _) in enumerate(columns):
        steps = job.nnz * slots
        count = sum(lengths[tile * each : (tile + 1) * each])
        takes = count
        if tile == len(columns) - 1:
            # The lower rows finish; the last two periods need no words.
            count += build.rows
            takes = count - 2
        if tile == 0:
            # Weights of the first tile come row by row, as fast as rows begin.
            for row in range(build.rows):
                times.pulse(row < takes, steps, job.group, FIRST_LOAD - 1 + (row + 1) * steps + LOADED)
            count, takes = count - build.rows, takes - build.rows
        takes = max(0, takes)
        times.repeat(takes, lambda steps=steps: times.pulse(True, steps, job.group))
        for _ in range(count - takes):
            times.pulse(False, steps, job.group)
    return times.pulses[1] + WS_RETIRE + columns[-1][1] - 1


def cycles_back_to_back(build, job):
    """Cycles from the previous completion to this one's, the job waiting in the queue: it saves the way through it."""
    return cycles(build, job) - _QUEUED
