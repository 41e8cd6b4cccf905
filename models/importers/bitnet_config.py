"""Which of the two scale conventions a Hugging Face BitNet checkpoint uses: its quantisation config says, never its tensors."""

from ..spec.errors import InputError
from .quant_config import CONFIG_KEY

__all__ = ["scale_convention"]

CONVENTION = {"bitlinear": "divide", "autobitlinear": "multiply"}


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
