"""QONNX's quantisers: uniform codes of 1 to many bits, clamped before they are rounded, and signs."""

from dataclasses import dataclass

import numpy as np

__all__ = ["ROUNDINGS", "Quantiser", "bipolar_codes", "quant_codes"]

HALF = np.float32(0.5)
ROUNDINGS = {
    "ROUND": np.rint, "HALF_EVEN": np.rint, "CEIL": np.ceil, "FLOOR": np.floor, "DOWN": np.trunc, "ROUND_TO_ZERO": np.trunc,
    "UP": lambda x: np.copysign(np.ceil(np.abs(x)), x),
    "HALF_UP": lambda x: np.copysign(np.floor(np.abs(x) + HALF), x),
    "HALF_DOWN": lambda x: np.copysign(np.ceil(np.abs(x) - HALF), x),
}  # fmt: skip
"""Rounding modes by name; ROUND is half to even."""
MAX_BITS = 32


@dataclass(frozen=True, kw_only=True)
class Quantiser:
    """What a QONNX Quant says beside scale and zero point. ValueError for another rounding mode and for no bits, or over 32."""

    bits: float
    signed: bool = True
    narrow: bool = False
    rounding: str = "ROUND"

    def __post_init__(self):
        if self.rounding not in ROUNDINGS:
            raise ValueError(f"rounding_mode must be one of {', '.join(ROUNDINGS)}, got {self.rounding!r}")
        if not 1 <= self.bits <= MAX_BITS or self.bits != int(self.bits):
            raise ValueError(f"bit width must be a whole number of 1..{MAX_BITS}, got {self.bits:g}")

    @property
    def limits(self):
        """(least, largest) code. One signed bit is a sign: -1 or +1."""
        bits, narrow = int(self.bits), int(self.narrow)
        if self.signed:
            return (-1, 1) if bits == 1 else (narrow - (1 << (bits - 1)), (1 << (bits - 1)) - 1)
        return 0, (1 << bits) - 1 - narrow


def quant_codes(x, scale, zero, quantiser):
    """Codes of ``x`` as float32: ``round(clip(x / scale + zero, least, largest))``, each operation in float32.

    ``scale`` and ``zero`` are spread over ``x`` as NumPy does. The value of a code is (code - zero) * scale.
    """
    with np.errstate(all="ignore"):
        x = np.asarray(x, np.float32) / np.asarray(scale, np.float32) + np.asarray(zero, np.float32)
        if quantiser.signed and quantiser.bits == 1:
            return bipolar_codes(x)
        return ROUNDINGS[quantiser.rounding](np.clip(x, *(np.float32(limit) for limit in quantiser.limits)))


def bipolar_codes(x):
    """+1 where ``x`` is 0 or more, else -1, as float32."""
    return np.where(x >= 0, np.float32(1), np.float32(-1))
