"""Finished blocks on disk, so that a run that was stopped goes on where it was: one N:M container a block."""

import hashlib
import json
from contextlib import suppress

import numpy as np
from safetensors import SafetensorError, safe_open

from sparseloom.models.compress.solver import Solution
from sparseloom.models.importers.load import load
from sparseloom.models.importers.nm_file import save_nm
from sparseloom.models.spec.errors import InputError

__all__ = ["BlockStore"]

KEY_DIGITS = 16


class BlockStore:
    """The folder ``folder``; None keeps nothing. A file is named by its block and by ``key``, the digest of all that decides the
    block's result, and holds the digest of its weights. One that is damaged or belongs to another key counts as absent."""

    def __init__(self, folder):
        self.folder = folder

    def path(self, block, key):
        return self.folder / f"block-{block:03d}-{key[:KEY_DIGITS]}.safetensors"

    def put(self, block, key, solutions):
        """Keep solutions by name. ValueError for float weights, which the container does not hold."""
        if self.folder is None:
            return
        if any(solution.stored is None for solution in solutions.values()):
            raise ValueError("solutions must be quantised to be kept on disk")
        notes = {name: {"error": one.error, "swaps": one.swaps, "digest": digest(one.weights)} for name, one in solutions.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        weights = {name: solution.stored for name, solution in solutions.items()}
        save_nm(self.path(block, key), weights, metadata={"key": key, "notes": json.dumps(notes)})

    def get(self, block, key):
        """The solutions by name, or None."""
        if self.folder is None or not self.path(block, key).is_file():
            return None
        try:
            with safe_open(self.path(block, key), "numpy") as file:
                metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return None
            stored = {layer.name: layer.weight.load() for layer in load(self.path(block, key)).layers}
            return {name: restored(stored[name], note) for name, note in json.loads(metadata["notes"]).items()}
        except (SafetensorError, OSError, InputError, KeyError, ValueError):
            return None

    def clear(self):
        """Remove the finished blocks, of all keys."""
        if self.folder is None or not self.folder.is_dir():
            return
        for path in self.folder.glob("block-*.safetensors"):
            path.unlink()
        with suppress(OSError):  # something else lies there
            self.folder.rmdir()


def restored(stored, note):
    """ValueError if the weights are not those that were kept."""
    weights = stored.dequantise()
    if digest(weights) != note["digest"]:
        raise ValueError("digest must be that of the weights")
    mask = np.ones(weights.shape, bool) if stored.mask is None else stored.mask
    return Solution(weights, mask, stored, note["error"], note["swaps"])


def digest(weights):
    return hashlib.sha256(np.ascontiguousarray(weights).tobytes()).hexdigest()
