"""Weights of a few bits in groups along the input, dense or N:M sparse."""

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from ..spec.errors import check_choice, check_int

__all__ = ["CODEBOOK_ENTRIES", "GroupedForm", "GroupedWeight"]

CODEBOOK_ENTRIES = 16


@dataclass(frozen=True, kw_only=True)
class GroupedForm:
    """What of a :class:`GroupedWeight` can be told without its numbers. ``header``: what a group has, ``scale`` alone, ``affine``
    (an offset too) or ``zero`` (a code of zero too)."""

    bits: int
    scale_group: int
    header: str = "scale"
    nnz: int = 1
    group: int = 1
    codebook: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupedWeight:
    """The matrix w[n, k] = (codes[n, k] - zero[n, g]) * scale[n, g], with g = k // scale_group.

    ``codes`` uint8 ``[n, k]``, below 2**bits (``bits`` 2, 3, 4 or 8). ``scale`` finite float32 ``[n, ceil(k / scale_group)]``;
    ``zero``: the code that means 0, uint8 of the same shape, None for 2**(bits - 1). Or the affine form (Q4_1): ``offset``
    float32 of the same shape, w = codes * scale + offset, without ``zero``. ``codebook`` int8 ``[16]``: w = codebook[code] *
    scale instead, 4 bits alone, without ``zero`` and ``offset``.
    ``mask`` bool ``[n, k]``: where False the weight is exactly 0 whatever its code; ``nnz`` of each ``group`` consecutive
    columns are kept at most. No ``offset`` with a mask.
    ``order`` int32 ``[k]``, None for identity: column j multiplies the input order[j] (activation-ordered GPTQ).

    TypeError or ValueError for anything else. Compared by identity.
    """

    kind: ClassVar[str] = "grouped"

    codes: np.ndarray
    bits: int
    scale: np.ndarray
    scale_group: int
    zero: np.ndarray | None = None
    offset: np.ndarray | None = None
    codebook: np.ndarray | None = None
    mask: np.ndarray | None = None
    nnz: int = 1
    group: int = 1
    order: np.ndarray | None = None
    format: str = "grouped"

    def __post_init__(self):
        check_choice("bits", self.bits, (2, 3, 4, 8))
        check_int("scale_group", self.scale_group, 1, 1 << 31)
        _check_array("codes", self.codes, np.uint8, (None, None))
        if self.codes.size == 0 or int(self.codes.max()) >> self.bits:
            got = self.codes.max() if self.codes.size else "none"
            raise ValueError(f"codes must be below {1 << self.bits} and at least one, got {got}")
        shape = self.n, -(-self.k // self.scale_group)
        _check_array("scale", self.scale, np.float32, shape)
        if self.zero is not None:
            _check_array("zero", self.zero, np.uint8, shape)
            if int(self.zero.max()) > (1 << self.bits):
                raise ValueError(f"zero must be at most {1 << self.bits}, got {int(self.zero.max())}")
        if self.offset is not None:
            _check_array("offset", self.offset, np.float32, shape)
            if self.zero is not None:
                raise ValueError("zero must be absent with an offset")
        for name in ("scale", "offset"):
            value = getattr(self, name)
            if value is not None and not np.isfinite(value).all():
                raise ValueError(f"{name} must be finite, got {value[~np.isfinite(value)][0]}")
        self._check_codebook()
        self._check_mask()
        if self.order is not None:
            _check_array("order", self.order, np.int32, (self.k,))
            if not np.array_equal(np.sort(self.order), np.arange(self.k)):
                raise ValueError("order must be a permutation of the columns")

    def _check_codebook(self):
        if self.codebook is None:
            return
        _check_array("codebook", self.codebook, np.int8, (CODEBOOK_ENTRIES,))
        if self.bits != 4 or self.zero is not None or self.offset is not None:
            raise ValueError("codebook must come with 4 bits and without zero and offset")

    def _check_mask(self):
        if self.mask is None:
            if (self.nnz, self.group) != (1, 1):
                raise ValueError(f"nnz and group must be 1 without a mask, got {self.nnz}:{self.group}")
            return
        _check_array("mask", self.mask, np.bool_, self.codes.shape)
        check_choice("group", self.group, (4, 8, 16))
        check_choice("nnz", self.nnz, [1 << i for i in range(self.group.bit_length())])
        if self.offset is not None:
            raise ValueError("offset must be absent with a mask: a weight that is left out is 0")
        if self.k % self.group:
            raise ValueError(f"k must be a multiple of group ({self.group}) with a mask, got {self.k}")
        most = int(self.mask.reshape(self.n, -1, self.group).sum(axis=2).max())
        if most > self.nnz:
            raise ValueError(f"mask must keep at most {self.nnz} of each {self.group}, got {most}")

    @property
    def n(self):
        return self.codes.shape[0]

    @property
    def k(self):
        return self.codes.shape[1]

    @property
    def nbytes(self):
        return sum(part.nbytes for part in (self.codes, self.scale, self.zero, self.offset, self.mask) if part is not None)

    @property
    def form(self):
        """The :class:`GroupedForm`."""
        header = "affine" if self.offset is not None else "scale" if self.zero is None else "zero"
        return GroupedForm(bits=self.bits, scale_group=self.scale_group, header=header, nnz=self.nnz, group=self.group,
                           codebook=self.codebook is not None)

    def load(self):
        """Itself: it is in memory."""
        return self

    def replaced(self, **parts):
        """The same weight with other parts."""
        return GroupedWeight(**{field.name: getattr(self, field.name) for field in fields(self)} | parts)

    def integers(self):
        """The integer factor of each weight, int16 [n, k]: code - zero or the codebook's entry; 0 where masked."""
        if self.codebook is not None:
            value = self.codebook[self.codes].astype(np.int16)
        else:
            zero = np.int16(1 << (self.bits - 1)) if self.zero is None else self._spread(self.zero).astype(np.int16)
            value = self.codes.astype(np.int16) - (zero if self.offset is None else np.int16(0))
        return value if self.mask is None else np.where(self.mask, value, np.int16(0))

    def dequantise(self):
        """The float32 matrix [n, k], columns in the order of the input (``order`` undone)."""
        value = self.integers().astype(np.float32) * self._spread(self.scale)
        if self.offset is not None:
            value += self._spread(self.offset)
        if self.order is None:
            return value
        back = np.empty_like(value)
        back[:, self.order] = value
        return back

    def _spread(self, per_group):
        return np.repeat(per_group, self.scale_group, axis=1)[:, : self.k]


def _check_array(name, array, dtype, shape):
    """TypeError or ValueError unless ``array`` has the dtype and the shape (None: any size)."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        raise TypeError(f"{name} must be a {np.dtype(dtype)} array, got {getattr(array, 'dtype', type(array).__name__)}")
    if array.ndim != len(shape) or any(want not in (None, have) for want, have in zip(shape, array.shape, strict=True)):
        raise ValueError(f"{name} must have shape {list(shape)}, got {list(array.shape)}")
