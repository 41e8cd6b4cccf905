"""The file that holds a packed plan: safetensors, one tensor a tile, with JSON metadata and the digest of the build it is for."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..models.spec.engines import ENGINES
from ..models.spec.errors import InputError
from .families import family_of
from .plan import LayerPlan, Plan

__all__ = ["checksum", "load_plan", "save_plan"]

FORMAT = 1
_KEY = "sparseloom_plan"


def save_plan(plan, path):
    """Write a packed plan, all or nothing."""
    from safetensors.numpy import save

    path = Path(path)
    about = {"format": FORMAT, "engine": plan.build.name, "build": asdict(plan.build), "digest": plan.digest,
             "checksum": checksum(plan), "layers": [asdict(layer) for layer in plan.layers.values()]}
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(save(plan.stored, {_KEY: json.dumps(about, sort_keys=True)}))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load_plan(path):
    """The plan in a file. InputError if the file is damaged, holds no plan, or contradicts itself."""
    text, stored = _read(path)
    try:
        about = json.loads(text)
        form, digest, recorded = about["format"], about["digest"], about["checksum"]
        build = ENGINES[about["engine"]](**about["build"])
        layers = [LayerPlan(**layer) for layer in about["layers"]]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(path, "metadata", "describe a plan", f"{type(error).__name__}: {error}") from None
    plan = Plan(build, {layer.name: layer for layer in layers}, stored, str(path))
    claims = {"format": (form, FORMAT), "digest": (digest, plan.digest), "checksum": (recorded, checksum(plan))}
    for name, (found, wanted) in claims.items():
        if found != wanted:
            raise InputError(path, name, f"be {wanted}", found)
    _check_tiles(plan, path)
    return plan


def _read(path):
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
            if text is None:
                raise InputError(path, "metadata", f"hold {_KEY}", sorted(file.metadata() or {}))
            return text, {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise InputError(path, "file", "be safetensors that hold a plan", str(error)) from None


def _check_tiles(plan, path):
    """Hold what is stored against the tiles that follow from the layers: the same names, each of its shape."""
    family = family_of(plan.build)
    count = sum(down * across for down, across in map(plan.grid, plan.layers))
    count += sum(len(family.vectors(layer)) for layer in plan.layers.values())
    if count != len(plan.stored):  # counted before they are listed: a false claim may be for billions
        raise InputError(path, "tensors", f"be {count}, one a tile and vector", len(plan.stored))
    for name, layer in plan.layers.items():
        wanted = {f"{name}/{vector}": claim for vector, claim in family.vectors(layer).items()}
        try:
            wanted |= {tile.name: (np.dtype(np.uint8), family.stored_shape(plan.build, plan.job(name, tile, 1)))
                       for tile in plan.tiles(name)}
        except (TypeError, ValueError) as error:
            raise InputError(path, name, "have legal jobs", error) from None
        for tensor, (dtype, shape) in wanted.items():
            array = plan.stored.get(tensor)
            if array is None or array.dtype != dtype or array.shape != shape:
                found = array if array is None else f"{array.dtype} {list(array.shape)}"
                raise InputError(path, tensor, f"be {dtype} {list(shape)}", found)


def checksum(plan):
    """SHA-256 over the layers and what is stored, in hexadecimal."""
    whole = hashlib.sha256(json.dumps([asdict(layer) for layer in plan.layers.values()], sort_keys=True).encode())
    for name in sorted(plan.stored):
        whole.update(f"{name} {plan.stored[name].nbytes}\n".encode())
        whole.update(np.ascontiguousarray(plan.stored[name]).data)
    return whole.hexdigest()
