"""Which of the two scale conventions a Hugging Face BitNet checkpoint uses: its quantisation config says, never its tensors."""

from pathlib import Path

from ..spec.errors import InputError
from .files import map_file, parse_json

__all__ = ["find_config", "scale_convention"]

CONFIG_FILE = "config.json"
CONFIG_KEY = "quantization_config"
CONVENTION = {"bitlinear": "divide", "autobitlinear": "multiply"}
MAX_CONFIG_BYTES = 1 << 20


def find_config(folder, metadata, where):
    """``(config or None, where it was found)``.

    It is looked for under ``quantization_config`` in the file's own ``metadata``, as JSON text, and else in the config.json of
    ``folder``. InputError if what is there is unsound.
    """
    if CONFIG_KEY in metadata:
        return parse_json(metadata[CONFIG_KEY], where, f"metadata {CONFIG_KEY}"), where
    path = Path(folder) / CONFIG_FILE
    if not path.exists():
        return None, where
    data = map_file(path)
    if len(data) > MAX_CONFIG_BYTES:
        raise InputError(path, "file", f"be at most {MAX_CONFIG_BYTES} bytes", len(data))
    config = parse_json(data, path, "file").get(CONFIG_KEY)
    if config is not None and not isinstance(config, dict):
        raise InputError(path, CONFIG_KEY, "be a JSON object", config)
    return config, path


def scale_convention(config, where):
    """``divide`` or ``multiply`` from a quantisation config, with the defaults of transformers' BitNetQuantConfig.

    InputError (at ``where``) if there is none, if it is of another method, or if it quantises float weights at run time.
    """
    rule = "be known: pass scale_convention='divide' (packed BitLinear) or 'multiply' (AutoBitLinear)"
    if config is None:
        raise InputError(where, "scale convention of packed weights", rule, f"no {CONFIG_KEY}")
    method = config.get("quant_method")
    linear_class = config.get("linear_class", "bitlinear")
    mode = config.get("quantization_mode", "offline")
    if method != "bitnet":
        raise InputError(where, f"{CONFIG_KEY}.quant_method", "be 'bitnet' for packed ternary weights", method)
    if linear_class not in ("bitlinear", "autobitlinear"):
        raise InputError(where, f"{CONFIG_KEY}.linear_class", "be 'bitlinear' or 'autobitlinear'", linear_class)
    if mode != "offline":
        raise InputError(where, "scale convention of packed weights", rule, f"{CONFIG_KEY}.quantization_mode {mode!r}")
    return CONVENTION[linear_class]
