"""How well a vision transformer's integers on the golden engines speak for its floats, image by image."""

import hashlib

import numpy as np

from sparseloom.models.zoo.moe_vit_int import FRACTION, IntegerVit
from sparseloom.models.zoo.moe_vit_jobs import Engines, make_builds

__all__ = ["TARGETS", "measure"]

TARGETS = {"digit": lambda labels: labels, "parity": lambda labels: labels % 2}
"""The right class of each task, of the digits' labels."""
BATCH = 50  # images that share jobs


def measure(model, images, labels, task, progress=None):
    """Right answers of the floats and of the integers, and how the two differ, as a dict; counts are of ``images``.

    ``progress(done, images)`` is called now and then.
    """
    wanted, integers = TARGETS[task](labels), IntegerVit(model)
    engines = Engines(make_builds(model.config, BATCH))
    floats, found = model.forward(images, task), []
    for start in range(0, len(images), BATCH):
        found.append(integers.forward(images[start : start + BATCH], task, engines))
        if progress:
            progress(start + len(found[-1]), len(images))
    logits = np.concatenate(found)
    found = logits / 2.0**FRACTION
    float_class, found_class = floats.argmax(axis=1), found.argmax(axis=1)
    return {
        "images": len(images), "float_right": int((float_class == wanted).sum()),
        "integer_right": int((found_class == wanted).sum()), "same_class": int((float_class == found_class).sum()),
        "rms_difference": float(np.sqrt(np.square(found - floats, dtype=np.float64).mean())), "rms_logit": float(floats.std()),
        "saturated": engines.saturated, "sha256_of_logits": hashlib.sha256(logits.astype("<i4").tobytes()).hexdigest(),
    }
