"""Scales as integers of a few bits that share an exponent: how engines multiply by real numbers exactly."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Mantissas", "align"]


@dataclass(frozen=True)
class Mantissas:
    """``values`` int32 [r, g] and ``exponent`` int32 [r]: scale[r, g] is about values[r, g] * 2**exponent[r]. ``loss``: the root
    mean square of the error over that of the scales."""

    values: np.ndarray
    exponent: np.ndarray
    loss: float

    def reals(self):
        """float64 [r, g]."""
        return np.ldexp(self.values.astype(np.float64), self.exponent[:, None])


def align(scale, width=16, signed=True):
    """:class:`Mantissas` of ``scale`` (finite floats [r, g]) in ``width`` bits, rounded half to even; the largest magnitude of a
    row decides its exponent. Unsigned: the scales must not be negative. ValueError otherwise."""
    scale = np.asarray(scale, np.float64)
    if scale.ndim != 2 or not np.isfinite(scale).all():
        raise ValueError(f"scale must be a matrix of finite numbers, got shape {list(scale.shape)}")
    if not signed and scale.size and scale.min() < 0:
        raise ValueError(f"scale must not be negative, got {scale.min()}")
    most = (1 << (width - signed)) - 1
    peak = np.abs(scale).max(axis=1, initial=0)
    # peak = fraction * 2**power, 1/2 <= fraction < 1; one more where rounding would pass the largest mantissa.
    power = np.frexp(peak)[1].astype(np.int32)
    exponent = np.where(peak > 0, power - (width - signed), 0).astype(np.int32)
    exponent += (np.rint(np.ldexp(peak, -exponent)) > most).astype(np.int32)
    exact = np.ldexp(scale, -exponent[:, None])
    values = np.rint(exact)
    # In units of the largest exponent, so that no square leaves the range of floats.
    unit = (exponent - exponent[peak > 0].max(initial=-(1 << 15)))[:, None]
    whole = float((np.ldexp(exact, unit) ** 2).sum())
    loss = float(np.sqrt((np.ldexp(values - exact, unit) ** 2).sum() / whole)) if whole else 0.0
    return Mantissas(values.astype(np.int32), exponent, loss)
