"""What built-in networks learn: handwritten digits, as bfloat16 maps and labels."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...models.cache import cached
from ...models.formats.bf16 import to_bf16
from ...models.spec.errors import InputError
from ...models.zoo import digits
from ...models.zoo.registry import MODELS

__all__ = ["DATA", "Data", "load_data"]

DATA = ("shipped", "mnist-5k")
_SHIPPED, _SHIPPED_HELD = "mnist-moe-vit", 20
"""The held-out images of a model that ships are 100 a class; here the last 20 of each are held out."""
_SCALE = 128
"""Pixels of 0 to 255 become 0 to almost 2, exactly."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Training and held-out images bfloat16 [images, height, width, channels] with their labels, int64; where they come from."""

    source: str
    images: np.ndarray
    labels: np.ndarray
    held_images: np.ndarray
    held_labels: np.ndarray

    @property
    def digest(self):
        """SHA-256 of the training images and labels, in hexadecimal."""
        whole = hashlib.sha256(np.ascontiguousarray(self.images).view(np.uint16).tobytes())
        whole.update(self.labels.astype("<i8").tobytes())
        return whole.hexdigest()

    def checked(self, network):
        """This, if it fits a network; InputError for another shape, a label that is no class, or an image that is not finite."""
        for name, images, labels in (("training images", self.images, self.labels),
                                     ("held-out images", self.held_images, self.held_labels)):
            if images.shape[1:] != network.input:
                raise InputError(self.source, name, f"be {list(network.input)} as {network.name} takes them",
                                 list(images.shape[1:]))
            if len(images) != len(labels) or not len(labels) or labels.min() < 0 or labels.max() >= network.classes:
                raise InputError(self.source, f"labels of {name}", f"be 0..{network.classes - 1}, one an image", len(labels))
            if not np.isfinite(images).all():
                raise InputError(self.source, name, "be finite", "NaN or infinity")
        return self


def load_data(name):
    """The :class:`Data` of a name of :data:`DATA` or of a file.

    ``shipped``: 1,000 digits that come with the package, 800 for training. ``mnist-5k``: 5,000 digits, 4,000 for training,
    downloaded once (1.1 MB). A file: a ``.csv.gz`` or ``.npz`` of the same 5,000; or an ``.npz`` of ``images`` (floats or uint8
    [n, height, width(, channels)]), ``labels``, ``held_images``, ``held_labels``. InputError for anything else.
    """
    if name == "shipped":
        images, labels = MODELS[_SHIPPED].heldout_images()
        place = np.zeros(len(labels), np.int64)
        for digit in range(10):
            place[labels == digit] = np.arange((labels == digit).sum())
        held = place >= place.max() + 1 - _SHIPPED_HELD
        return _data(name, images[~held], labels[~held], images[held], labels[held])
    if name == "mnist-5k":
        path = cached("data", digits.MEMBER_SHA256, lambda folder: (folder / "digits.csv.gz").write_bytes(digits.fetch()))
        (images, labels), (held, held_labels) = digits.load(path / "digits.csv.gz")
        return _data(name, images, labels, held, held_labels)
    path = Path(name)
    if path.suffix == ".npz":
        try:
            with np.load(path) as file:
                if "images" in file:
                    return _data(str(path), *(file[key] for key in ("images", "labels", "held_images", "held_labels")))
        except (OSError, ValueError, KeyError) as error:
            raise InputError(path, "file", "hold images, labels, held_images, held_labels", str(error)) from None
    if path.suffix not in (".npz", ".gz"):
        raise InputError("data", "name", f"be one of {', '.join(DATA)}, or a .csv.gz or .npz file", name)
    (images, labels), (held, held_labels) = digits.load(path)
    return _data(str(path), images, labels, held, held_labels)


def _data(source, images, labels, held_images, held_labels):
    maps = [_maps(source, part) for part in (images, held_images)]
    labels = [_labels(source, part) for part in (labels, held_labels)]
    return Data(source=source, images=maps[0], labels=labels[0], held_images=maps[1], held_labels=labels[1])


def _maps(source, images):
    if images.dtype == np.uint8:
        images = images.astype(np.float32) / _SCALE
    if images.dtype.kind != "f" or images.ndim not in (3, 4):
        raise InputError(source, "images", "be uint8 or floats [images, height, width(, channels)]",
                         f"{images.dtype} {list(images.shape)}")
    with np.errstate(over="ignore"):  # infinities are refused later, by name
        return to_bf16(images.astype(np.float32).reshape(*images.shape[:3], -1))


def _labels(source, labels):
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise InputError(source, "labels", "be integers, one an image", f"{labels.dtype} {list(labels.shape)}")
    return labels.astype(np.int64)
