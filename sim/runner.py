"""Jobs on simulated gates, from Python: one call runs any number of them in the compiled harness."""

import ctypes
import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..models.formats.engines import Image
from ..models.spec.engine import Job
from ..models.spec.errors import InputError, check_int
from .build import TRACES, library

__all__ = ["Receipt", "SimulationError", "Simulator", "Work"]

QUIET_CYCLES = 20_000
"""An engine that moves nothing for so many cycles is stuck: far beyond the longest silence of any engine."""

_MESSAGE_BYTES = 4096


class SimulationError(RuntimeError):
    """The engine broke the rules of its ports or got stuck; the message has the first violation, ``violations`` their number."""

    def __init__(self, message, violations):
        super().__init__(message if violations == 1 else f"{message}; {violations} violations in all")
        self.violations = violations


@dataclass(frozen=True)
class Work:
    """A job and what it reads. For jobs that the spec would refuse to make, ``values`` overrides fields of the job's record and
    ``beats`` the number of result beats to expect, by stream."""

    job: Job
    image: Image
    values: dict | None = None
    beats: dict | None = None


@dataclass(frozen=True)
class Receipt:
    """What came of a job. ``outputs``: beats by stream, uint8 [beats, record bytes]; ``done``: the decoded completion record;
    ``cycles``: clock edges after the job's acceptance (back to back: the previous job's ``done``) through that of ``done``."""

    outputs: dict
    done: dict
    cycles: int


_ALIVE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class _Run(ctypes.Structure):
    """``struct Run`` of bench.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("jobs", "operands", "buffers", "results")),
        *((name, ctypes.c_void_p) for name in (
            "source_beats", "source_counts", "words", "word_counts", "sink_beats", "sink_counts", "cycles", "latencies")),
        ("stall", ctypes.c_double), ("idle", ctypes.c_double), ("seed", ctypes.c_uint64),
        *((name, ctypes.c_int64) for name in ("back_to_back", "quiet_limit", "reset_after")),
        ("trace", ctypes.c_char_p), ("alive", _ALIVE),
        *((name, ctypes.c_int64) for name in ("total_cycles", "violations", "message_size")),
        ("message", ctypes.c_char_p),
    ]


class Simulator:
    """The gates of one engine build, reset and ready. Building them takes seconds the first time, nothing afterwards.

    ``design`` replaces the exported gates of ``build`` (same ports). ``opt``: ``quick`` compiles fast, ``fast`` runs fast.
    ``waves``: a ``.vcd`` or ``.fst`` file that holds the waveform of the latest run.
    """

    def __init__(self, build, *, design=None, opt="quick", waves=None):
        self.build = build
        self._waves = Path(waves) if waves is not None else None
        trace = self._waves.suffix[1:] if waves is not None else None
        if trace is not None and trace not in TRACES:
            raise InputError("waves", "file", "end in .vcd or .fst", self._waves.name)
        self._library = ctypes.CDLL(str(library(build, design=design, opt=opt, trace=trace)))
        self._library.harness_open.restype = ctypes.c_void_p
        self._gates = ctypes.c_void_p(self._library.harness_open())
        if not self._gates:
            raise SimulationError("the gates do not settle after a reset", 1)
        self.total_cycles = 0
        """Cycles simulated so far, gaps between jobs included."""

    def close(self):
        """Free the simulated gates. Further runs raise ValueError."""
        if self._gates:
            self._library.harness_close(self._gates)
            self._gates = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if getattr(self, "_gates", None):
            self.close()

    def run(self, works, *, stall=0.0, idle=0.0, seed=0, back_to_back=False, max_cycles=None, memory=None, progress=None):
        """Run ``works`` (:class:`Work`) in order and return a :class:`Receipt` for each.

        ``stall``: probability per cycle that a sink refuses (results, completions, buffer requests); ``idle``: that a source with
        nothing on offer goes on offering nothing (jobs, operands). Each port has its own generator from ``seed``.
        One job at a time, the next offered a few cycles after ``done``; with ``back_to_back`` all wait in the queue, and a buffer
        holds a job's words from the first offer of the previous job's ``done`` to that of its own.
        ``memory``: models.spec.memory.Memory by operand stream, asked for the job's beats when it is accepted.
        ``max_cycles``: cycles without any transfer after which the engine counts as stuck.
        ``progress(jobs, cycles)`` is called now and then; what it raises ends the run.
        Raises SimulationError for a stuck engine, a refused payload that changes, an offer that waits for ready, too few or too
        many beats; resets then.
        """
        return self._run(works, stall, idle, seed, back_to_back, max_cycles, memory or {}, progress, reset_after=-1)

    def reset_mid_job(self, work, after, *, stall=0.0, idle=0.0, seed=0):
        """Start ``work``, and reset the engine ``after`` clock edges past its acceptance. Whatever came out is dropped."""
        check_int("after", after, 0, 1 << 40)
        self._run([work], stall, idle, seed, False, None, {}, None, reset_after=after)

    def _run(self, works, stall, idle, seed, back_to_back, max_cycles, memory, progress, reset_after):
        if not self._gates:
            raise ValueError("the simulator is closed")
        for name, value in (("stall", stall), ("idle", idle)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be 0 or more and less than 1, got {value!r}")
        build, works = self.build, list(works)
        sources = [self._source_arrays(work) for work in works]
        words = [[_beats(work.image.buffers, buffer.name, buffer.bytes) for buffer in build.buffers] for work in works]
        records = [build.done_record, *(stream.record for stream in build.outputs)]
        sinks = [[np.zeros((count, record.bytes), np.uint8) for count, record in zip(self._expected(work), records, strict=True)]
                 for work in works]
        cycles = np.zeros(len(works), np.int64)
        latencies = np.array([memory[s.name].latency if s.name in memory else -1 for s in build.inputs], np.int64)
        kept = [_table(arrays) for arrays in (sources, words, sinks)]
        stopped = []

        @_ALIVE
        def alive(jobs, count):
            try:
                if progress:
                    progress(jobs, count)
            except BaseException as error:  # an exception cannot cross the harness: it is raised again behind it
                stopped.append(error)
            return bool(stopped)

        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        part = self._waves.with_name(self._waves.name + ".part") if self._waves else None
        if part:
            part.touch()  # an unwritable folder is an error before the run, not a silent lack of waves after it
        run = _Run(len(works), len(build.inputs), len(build.buffers), len(build.outputs),
                   *(array.ctypes.data for pair in kept for array in pair), cycles.ctypes.data, latencies.ctypes.data,
                   stall, idle, seed, back_to_back, QUIET_CYCLES if max_cycles is None else max_cycles, reset_after,
                   os.fsencode(part) if part else None, alive, 0, 0, _MESSAGE_BYTES, ctypes.cast(message, ctypes.c_char_p))
        with _interrupts_into(stopped):
            self._library.harness_run(self._gates, ctypes.byref(run))
        self.total_cycles += run.total_cycles
        if part:
            os.replace(part, self._waves)
        if stopped:
            raise stopped[0]
        if run.violations:
            raise SimulationError(message.value.decode(), run.violations)
        names = [stream.name for stream in build.outputs]
        return [Receipt(dict(zip(names, results, strict=True)), build.done_record.from_bytes(done[0]), int(count))
                for (done, *results), count in zip(sinks, cycles, strict=True)]

    def _source_arrays(self, work):
        record = self.build.job_record.to_bytes(self.build.job_values(work.job) | (work.values or {}))
        return [np.frombuffer(record, np.uint8).reshape(1, -1),
                *(_beats(work.image.streams, stream.name, stream.record.bytes) for stream in self.build.inputs)]

    def _expected(self, work):
        """Beats of ``done`` and of each result stream."""
        override = work.beats or {}
        return [1, *(override[s.name] if s.name in override else self.build.beats(s.name, work.job) for s in self.build.outputs)]


@contextmanager
def _interrupts_into(stopped):
    """While the harness runs, Ctrl-C must not raise inside its callback, where Python would only print the exception."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: stopped.append(KeyboardInterrupt()))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _beats(arrays, name, size):
    """The named array as contiguous uint8 [any, size]; ValueError for another shape or kind."""
    if name not in arrays:
        raise ValueError(f"the image lacks {name}; it has {', '.join(arrays) or 'nothing'}")
    array = np.asarray(arrays[name])
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != size:
        raise ValueError(f"{name} must be uint8 [beats, {size}], got {array.dtype} {list(array.shape)}")
    return np.ascontiguousarray(array)


def _table(arrays):
    """Addresses and lengths of a list of lists of arrays, as the harness reads them."""
    flat = [array for row in arrays for array in row]
    return np.array([array.ctypes.data for array in flat], np.uintp), np.array([len(array) for array in flat], np.int64)
