"""How a matrix is compressed: kept weights per group, bits, scale groups; and what that costs in bits."""

from dataclasses import dataclass

from sparseloom.models.spec.errors import check_int

__all__ = ["FLOAT_BITS", "Scheme"]

FLOAT_BITS = 16
SCALE_BITS = 16  # a scale as the engine's stream and most file formats hold it


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """``nnz`` of each ``group`` consecutive inputs are kept (nnz = group: dense), in ``bits`` bits with one scale for
    ``scale_group`` inputs; 16 bits: kept weights stay floats, without scales. ``zeros``: each scale has an integer zero point;
    else codes are symmetric, and a scale may be negative, so that the longer side of the codes lies where it serves.
    """

    nnz: int
    group: int
    bits: int
    scale_group: int = 32
    zeros: bool = False

    def __post_init__(self):
        check_int("group", self.group, 4, 16)
        check_int("nnz", self.nnz, 1, self.group)
        for name in ("group", "nnz"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ValueError(f"{name} must be a power of two, got {value}")
        if self.bits not in (2, 3, 4, 8, FLOAT_BITS):
            raise ValueError(f"bits must be one of 2, 3, 4, 8, {FLOAT_BITS}, got {self.bits!r}")
        check_int("scale_group", self.scale_group, self.group, 1 << 16)
        if self.scale_group % self.group:
            raise ValueError(f"scale_group must be a multiple of group ({self.group}), got {self.scale_group}")
        if not isinstance(self.zeros, bool):
            raise TypeError(f"zeros must be True or False, got {self.zeros!r}")

    @property
    def dense(self):
        return self.nnz == self.group

    @property
    def index_bits(self):
        """Bits that say which input a kept weight belongs to."""
        return 0 if self.dense else self.group.bit_length() - 1

    def bits_of(self, n, k):
        """Bits of an n x k matrix: kept values with their indices, scales of 16 bits, zero points; no padding."""
        kept = n * k * self.nnz // self.group
        groups = 0 if self.bits == FLOAT_BITS else n * -(-k // self.scale_group)
        return kept * (self.bits + self.index_bits) + groups * (SCALE_BITS + self.bits * self.zeros)

    def __str__(self):
        return f"{self.nnz}:{self.group} {self.bits} bits" + ("" if self.bits == FLOAT_BITS else f" / {self.scale_group}")
