"""The file of a training: safetensors with the whole state and the description of what made it; written all or nothing."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from ...models.spec.errors import InputError
from .network import Network
from .trainer import Recipe, State

__all__ = ["load_checkpoint", "read_about", "save_checkpoint"]

FORMAT = 1
_KEY = "sparseloom_training"
_LOSSES, _HELD = "losses", "held"
_PARTS = ("weights", "momentum")


def save_checkpoint(path, trainer, state):
    """Write ``state`` under a temporary name, flush it to the disk, then move it to ``path``.

    InputError if it cannot be written (no folder, no permission, a full disk) or holds a NaN or an infinity; what was at ``path``
    before is untouched then.
    """
    from safetensors.numpy import save

    path = Path(path)
    tensors = {f"{part}.{name}": w for part in _PARTS for name, w in getattr(state, part).items()}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise InputError(path, name, "be finite to be saved", "NaN or infinity")
    tensors |= {_LOSSES: np.array(state.losses, np.float64), _HELD: np.array(state.held, np.int64).reshape(-1, 2)}
    about = {"format": FORMAT, "step": state.step, **trainer.describe()}
    about["checksum"] = _checksum(about, tensors)
    part = path.with_name(path.name + ".part")
    try:
        try:
            with open(part, "wb") as file:
                file.write(save(tensors, {_KEY: json.dumps(about, sort_keys=True)}))
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(path, "checkpoint", "be writable", error.strerror or str(error)) from None


def read_about(path):
    """(:class:`Network`, :class:`Recipe`) of the training in a file; InputError if the file is damaged or holds none."""
    about, _ = _read(path)
    try:
        network, recipe = Network.of(about["network"], path), Recipe(**about["recipe"])
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(path, "metadata", "describe a training", f"{type(error).__name__}: {error}") from None
    return network, recipe


def load_checkpoint(path, trainer):
    """The :class:`State` in a file, to go on with ``trainer``.

    InputError if the file is damaged, holds NaN or infinities, or belongs to another network, recipe or data.
    """
    about, tensors = _read(path)
    wanted = trainer.describe()
    if about.get("network_digest") != wanted["network_digest"]:
        raise InputError(path, "network", f"be {trainer.network.name} ({wanted['network_digest'][:12]})",
                         f"{_name(about)} ({str(about.get('network_digest'))[:12]})")
    recipe = about.get("recipe") if isinstance(about.get("recipe"), dict) else {}
    for name, value in wanted["recipe"].items():
        if recipe.get(name) != value:
            raise InputError(path, name, f"be {value}, as the training to go on with has it", recipe.get(name))
    if about.get("data_digest") != wanted["data_digest"]:
        raise InputError(path, "data", f"be {trainer.data.source} ({wanted['data_digest'][:12]})",
                         str(about.get("data_digest"))[:12])
    shapes = {f"{part}.{name}": layer.shape for name, layer in trainer.network.weighted.items() for part in _PARTS}
    for name, shape in shapes.items():
        tensor = tensors.get(name)
        if tensor is None or tensor.dtype != np.float32 or tensor.shape != shape:
            raise InputError(path, name, f"be float32 {list(shape)}", tensor if tensor is None else
                             f"{tensor.dtype} {list(tensor.shape)}")
        if not np.isfinite(tensor).all():
            raise InputError(path, name, "be finite", "NaN or infinity")
    step, losses, held = about.get("step"), tensors.get(_LOSSES), tensors.get(_HELD)
    if losses is None or losses.dtype != np.float64 or losses.shape != (step,):
        raise InputError(path, _LOSSES, f"be float64 of {step} steps", losses if losses is None else list(losses.shape))
    if held is None or held.dtype != np.int64 or held.ndim != 2 or held.shape[1] != 2:
        raise InputError(path, _HELD, "be int64 [evaluations, 2]", held if held is None else list(held.shape))
    found = {part: {name: tensors[f"{part}.{name}"] for name in trainer.network.weighted} for part in _PARTS}
    return State(**found, step=step, losses=tuple(losses.tolist()), held=tuple(map(tuple, held.tolist())))


def _name(about):
    network = about.get("network")
    return network.get("name") if isinstance(network, dict) else None


def _read(path):
    """(what the metadata tells, tensors) of a file whose checksum holds."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise InputError(path, "file", "be a readable checkpoint", str(error)) from None
    if text is None:
        raise InputError(path, "metadata", f"hold {_KEY}", None)
    try:
        about = json.loads(text)
        claimed = about.pop("checksum")
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise InputError(path, "metadata", "describe a training", f"{type(error).__name__}: {error}") from None
    if about.get("format") != FORMAT:
        raise InputError(path, "format", f"be {FORMAT}", about.get("format"))
    if claimed != (found := _checksum(about, tensors)):
        raise InputError(path, "checksum", f"be {found} (the file is damaged)", claimed)
    return about, tensors


def _checksum(about, tensors):
    """SHA-256 over the description and the tensors, in hexadecimal."""
    whole = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        whole.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        whole.update(np.ascontiguousarray(tensor).tobytes())
    return whole.hexdigest()
