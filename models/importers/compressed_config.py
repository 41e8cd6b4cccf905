"""What the config of a compressed-tensors checkpoint says of its weights."""

from dataclasses import dataclass

from ..spec.errors import InputError
from .quant_config import CONFIG_KEY, take

__all__ = ["METHOD", "PACKED", "PLAIN", "Scheme", "read_schemes"]

METHOD = "compressed-tensors"
PACKED, PLAIN = "pack-quantized", "int-quantized"
FORMATS = {PACKED: PACKED, PLAIN: PLAIN, "naive-quantized": PLAIN}
BITS = (2, 3, 4, 8)
STRATEGIES = ("group", "channel", "tensor")
MAX_GROUP = 1 << 31


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """``bits`` a weight, a scale for each ``group`` columns ("group"), each row ("channel") or the whole ("tensor")."""

    bits: int
    strategy: str
    group: int | None
    symmetric: bool
    form: str

    def group_of(self, k):
        return self.group if self.strategy == "group" else k

    def scale_shapes(self, n, k):
        """The shapes that ``weight_scale`` may have."""
        if self.strategy == "tensor":
            return [(), (1,), (1, 1)]
        return [(n, k // self.group_of(k))] + ([(n,)] if self.strategy == "channel" else [])


def read_schemes(config, at):
    """``(schemes, others)`` of a config found ``at``: the distinct Schemes of integer weights, and the names of other formats.

    InputError for an unsound config, and for bits outside 2, 3, 4 and 8.
    """
    groups = take(config, "config_groups", dict, "be an object", at, {})
    common = take(config, "format", str, "be a format's name", at, "dense")
    schemes, others = {}, set()
    for name, group in groups.items():
        field = f"config_groups.{name}"
        if not isinstance(group, dict):
            raise InputError(at, f"{CONFIG_KEY}.{field}", "be an object", group)
        weights = take(group, "weights", dict, "be an object", f"{at}: {field}", None)
        form = take(group, "format", str, "be a format's name", f"{at}: {field}", common)
        if weights is None:
            continue
        if form not in FORMATS or weights.get("type", "int") != "int":
            others.add(form)
            continue
        schemes[read_scheme(weights, FORMATS[form], f"{at}: {field}.weights")] = None
    return tuple(schemes), others


def read_scheme(weights, form, at):
    bits = take(weights, "num_bits", int, "be 2, 3, 4 or 8", at, 8)
    if bits not in BITS:
        raise InputError(at, "num_bits", "be 2, 3, 4 or 8", bits)
    group = take(weights, "group_size", int, "be a number of columns", at, None)
    implied = "tensor" if group is None else "channel" if group == -1 else "group"
    strategy = take(weights, "strategy", str, f"be one of {', '.join(STRATEGIES)}", at, implied)
    if strategy not in STRATEGIES:
        raise InputError(at, "strategy", f"be one of {', '.join(STRATEGIES)}", strategy)
    if strategy == "group" and (group is None or not 0 < group <= MAX_GROUP):
        raise InputError(at, "group_size", "be a number of columns", group)
    symmetric = take(weights, "symmetric", bool, "be true or false", at, True)
    return Scheme(bits=bits, strategy=strategy, group=group if strategy == "group" else None, symmetric=symmetric, form=form)
