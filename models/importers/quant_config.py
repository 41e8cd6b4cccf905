"""How a checkpoint says that it is quantised: its quantisation config, found and its fields checked."""

from pathlib import Path

from ..spec.errors import InputError
from .files import map_file, parse_json

__all__ = ["CONFIG_KEY", "find_config", "take"]

CONFIG_FILE = "config.json"
OWN_FILES = {"quantize_config.json": "gptq", "quant_config.json": "awq"}  # the config alone, method implied
CONFIG_KEY = "quantization_config"
MAX_CONFIG_BYTES = 1 << 20
REQUIRED = object()


def find_config(folder, metadata, where):
    """``(config or None, where it was found)``.

    It is looked for under ``quantization_config`` in the file's own ``metadata``, as JSON text; in the config.json of ``folder``;
    and in the files that AutoGPTQ and AutoAWQ write beside it. InputError if what is there is unsound.
    """
    if CONFIG_KEY in metadata:
        return parse_json(metadata[CONFIG_KEY], where, f"metadata {CONFIG_KEY}"), where
    path, config = Path(folder) / CONFIG_FILE, None
    if path.exists():
        config = read_json(path).get(CONFIG_KEY)
        if config is not None and not isinstance(config, dict):
            raise InputError(path, CONFIG_KEY, "be a JSON object", config)
    if config is not None:
        return config, path
    for name, method in OWN_FILES.items():
        own = Path(folder) / name
        if own.exists():
            return {"quant_method": method} | read_json(own), own
    return None, path if path.exists() else where


def read_json(path):
    data = map_file(path)
    if len(data) > MAX_CONFIG_BYTES:
        raise InputError(path, "file", f"be at most {MAX_CONFIG_BYTES} bytes", len(data))
    return parse_json(data, path, "file")


def take(config, names, kind, rule, where, default=REQUIRED):
    """The value of the first of ``names`` (a string, or several that mean the same) that ``config`` has, else ``default``.

    InputError (at ``where``) if it is missing without a default or not of ``kind``; a bool is no int.
    """
    names = (names,) if isinstance(names, str) else names
    for name in names:
        if config.get(name) is not None:
            value = config[name]
            if not isinstance(value, kind) or isinstance(value, bool) and kind is not bool:
                raise InputError(where, f"{CONFIG_KEY}.{name}", rule, value)
            return value
    if default is REQUIRED:
        raise InputError(where, f"{CONFIG_KEY}.{names[0]}", rule, "nothing")
    return default
