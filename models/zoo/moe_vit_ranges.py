"""Calibration of a vision transformer: how far each tensor that becomes int8 reaches, found on training images."""

import numpy as np

__all__ = ["RANGED", "calibrate"]

RANGED = ("norm1", "q", "k", "v", "attention", "norm2", "hidden")
"""Tensors of a block that become int8; so does ``norm`` at the end."""
PEAK = 127
KEPT = 20_000  # values of a tensor of a chunk of images that are kept
FRACTIONS = np.linspace(0.2, 1, 41)  # of the largest magnitude


def calibrate(model, images):
    """{tensor: range}, a float for each tensor that becomes int8: codes are round(127 * value / range), clamped to +-127.

    A range is the fraction of the largest magnitude, over all tasks, that loses the least square error, large values clamped.
    ``images`` uint8 [images, side, side].
    """
    kept, peaks = {}, {}

    def observe(name, values):
        if name != "norm" and name.rpartition(".")[2] not in RANGED:
            return
        flat = np.abs(values).ravel()
        if not len(flat):
            return
        peaks[name] = max(peaks.get(name, 0.0), float(flat.max()))
        kept.setdefault(name, []).append(flat[:: -(-len(flat) // KEPT)])

    for task in model.tasks:
        model.forward(images, task, observe)
    return {name: best_range(np.concatenate(kept[name]), peaks[name]) for name in sorted(kept)}


def best_range(magnitudes, peak):
    """The range of least square error among fractions of ``peak``; 1.0 if all values are 0."""
    if peak == 0:
        return 1.0
    ranges = FRACTIONS * peak
    losses = []
    for reach in ranges:
        codes = np.minimum(np.rint(magnitudes * (PEAK / reach)), PEAK)
        losses.append(float(np.square(codes * (reach / PEAK) - magnitudes, dtype=np.float64).mean()))
    return float(ranges[int(np.argmin(losses))])
