"""Bus models for cocotb: a source and a sink of a valid/ready stream, a buffer with a fixed read latency, and what watches them.

Every model is one coroutine that acts at each rising edge: it reads the handshake of the cycle that ends there and sets its own
signals for the next one. A source never looks at ready before it offers, nor takes an offer back.
"""

from collections import deque

from cocotb.triggers import RisingEdge

__all__ = ["BufferModel", "Clocked", "ProtocolWatcher", "StreamSink", "StreamSource"]


def _pins(dut, name, *parts):
    return (getattr(dut, f"{name}_{part}") for part in parts)


class Clocked:
    """Counts cycles; the time base of the models."""

    def __init__(self, clock):
        self.edge = RisingEdge(clock)
        self.cycle = 0

    async def run(self):
        while True:
            await self.edge
            self.cycle += 1


class StreamSource:
    """Offers the items of ``queue`` (ints) in order; with nothing on offer it goes on so with probability ``idle`` per cycle.

    ``taken``: items transferred; ``on_taken(item, cycle)`` is called for each.
    """

    def __init__(self, dut, name, time, rng, idle=0.0, on_taken=None):
        self._payload, self._valid, self._ready = _pins(dut, name, "payload", "valid", "ready")
        self._time, self._rng, self._idle, self._on_taken = time, rng, idle, on_taken
        self.queue, self.taken = deque(), 0
        self._valid.value = 0

    async def run(self):
        offering = False
        while True:
            if not offering and self.queue and not (self._idle and self._rng.random() < self._idle):
                offering = True
                self._payload.value = self.queue[0]
                self._valid.value = 1
            await self._time.edge
            if offering and self._ready.value == 1:
                offering = False
                self._valid.value = 0
                self.taken += 1
                item = self.queue.popleft()
                if self._on_taken:
                    self._on_taken(item, self._time.cycle)


class StreamSink:
    """Collects ``items`` (ints); refuses with probability ``stall`` per cycle. ``on_item(item, cycle)`` is called for each."""

    def __init__(self, dut, name, time, rng, stall=0.0, on_item=None):
        self._payload, self._valid, self._ready = _pins(dut, name, "payload", "valid", "ready")
        self._time, self._rng, self._stall, self._on_item = time, rng, stall, on_item
        self.items = []
        self._ready.value = 0

    async def run(self):
        while True:
            ready = not (self._stall and self._rng.random() < self._stall)
            self._ready.value = int(ready)
            await self._time.edge
            if ready and self._valid.value == 1:
                self.items.append(self._payload.value.to_unsigned())
                if self._on_item:
                    self._on_item(self.items[-1], self._time.cycle)


class BufferModel:
    """Serves reads of ``words`` (ints, replaced by whoever loads it) exactly ``latency`` cycles after they were accepted.

    In every other cycle, and beyond the loaded words, the data are noise. Refuses requests with probability ``stall`` per cycle.
    """

    def __init__(self, dut, name, time, rng, width, latency, stall=0.0):
        self._addr, self._valid, self._ready, self._data = _pins(dut, name, "addr", "valid", "ready", "data")
        self._time, self._rng, self._stall, self._width = time, rng, stall, width
        self._due = deque([None] * (latency - 1))
        self.words = []
        self._ready.value = 0

    async def run(self):
        while True:
            ready = not (self._stall and self._rng.random() < self._stall)
            self._ready.value = int(ready)
            await self._time.edge
            address = self._addr.value.to_unsigned() if ready and self._valid.value == 1 else None
            # The word is read when the request is accepted; only its delivery waits.
            self._due.append(self.words[address] if address is not None and address < len(self.words) else None)
            word = self._due.popleft()
            self._data.value = self._rng.getrandbits(self._width) if word is None else word


class ProtocolWatcher:
    """Notes in ``faults`` every cycle in which a stream that was refused fell silent or changed its payload."""

    def __init__(self, dut, name, time, payload="payload"):
        self._payload, self._valid, self._ready = _pins(dut, name, payload, "valid", "ready")
        self._time, self._name = time, name
        self.faults = []

    async def run(self):
        refused = None
        while True:
            await self._time.edge
            valid = self._valid.value == 1
            payload = self._payload.value.to_unsigned() if valid and (refused is not None or self._ready.value != 1) else None
            if refused is not None and not valid:
                self.faults.append(f"{self._name}: valid fell while it was refused (cycle {self._time.cycle})")
            elif refused is not None and payload != refused:
                self.faults.append(f"{self._name}: the payload changed while it was refused (cycle {self._time.cycle})")
            refused = payload if valid and self._ready.value != 1 else None
