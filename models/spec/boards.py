"""Boards, as far as a performance answer needs them: how fast weights can come from memory, and the clock that is assumed."""

from dataclasses import dataclass

__all__ = ["BOARDS", "Board", "Figure"]


@dataclass(frozen=True)
class Figure:
    """A number, or a word, with its ``basis`` (``published``, ``assumed`` or ``ours``) and where it comes from."""

    value: float | str
    basis: str
    source: str

    def __post_init__(self):
        if self.basis not in ("published", "assumed", "ours"):
            raise ValueError(f"basis must be published, assumed or ours, got {self.basis!r}")
        if not (self.value if isinstance(self.value, str) else self.value > 0):
            raise ValueError(f"value must be positive or a word, got {self.value!r}")


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board: its FPGA, the peak bandwidth of the memory that would hold weights (bytes/s) and an engine clock (Hz)."""

    name: str
    part: str
    bandwidth: Figure
    clock: Figure

    def seconds(self, cycles, stream_bytes):
        """Least time of work: of ``cycles`` with streams that never refuse or of ``stream_bytes`` from memory, the longer."""
        return max(cycles / self.clock.value, stream_bytes / self.bandwidth.value)


BOARDS = {board.name: board for board in (
    Board(name="kv260", part="xck26-sfvc784-2LV-c",
          bandwidth=Figure(19.2e9, "published", "64-bit DDR4-2400, Kria K26 data sheet; the peak, not what a design sustains"),
          clock=Figure(250e6, "assumed", "not from a place and route of ours")),
    Board(name="u280", part="xcu280-fsvh2892-2L-e",
          bandwidth=Figure(460e9, "published", "HBM2, Alveo U280 data sheet; the peak, not what a design sustains"),
          clock=Figure(300e6, "assumed", "not from a place and route of ours")),
    Board(name="zcu102", part="xczu9eg-ffvb1156-2-e",
          bandwidth=Figure(19.2e9, "assumed", "64-bit DDR4-2400 of the processor side; the peak, not what a design sustains"),
          clock=Figure(300e6, "assumed", "what Edge-MoE and UbiMoE reach on this part; not from a place and route of ours")),
    Board(name="vcu1525", part="xcvu9p-fsgd2104-2L-e",
          bandwidth=Figure(76.8e9, "published", "four 64-bit DDR4-2400, VCU1525 guide; the peak, not what a design sustains"),
          clock=Figure(200e6, "assumed", "not from a place and route of ours")),
)}
