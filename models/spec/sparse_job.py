"""Jobs of the sparse chain engine: shapes, weight format, sparsity; and what follows from them."""

from dataclasses import dataclass

from .engine import Job

__all__ = [
    "CHANNEL", "CODEBOOK_BITS", "CODE_PEAK", "GROUPS", "HEADERS", "LANE_STEPS", "MANTISSA_BITS", "MAX_LOG_GROUP", "MAX_SEGMENT",
    "POSITIONS", "SEGMENT", "ZERO_BITS", "SparseJob", "Span",
]

HEADERS = ("scale", "affine", "zero", "levels")
"""What stands before a group of weights: ``scale`` int16; ``affine`` scale and offset int16; ``zero`` scale int16 and the code of
zero uint8; ``levels`` the inner of two-level scales (DGQ) uint8 and the code of zero uint8."""
HEADER_BITS = {"scale": 16, "affine": 32, "zero": 24, "levels": 16}
GROUPS = (1, 4, 8, 16)
CHANNEL = 15
"""In a job's record: one group of scales a row."""
SEGMENT, MAX_SEGMENT = 32, 128
"""Columns of the smallest and the largest segment: the span of k summed as integers before it is scaled."""
CODEBOOK_BITS, MANTISSA_BITS = 4, 16
ZERO_BITS = 4
"""Most bits of codes whose zero a header says: wider ones may lie more than 128 from it."""
MAX_LOG_GROUP = 10
"""log2 of the largest scale group or block / 32."""
CODE_PEAK = 128
"""Largest magnitude of a weight's integer and of an activation code."""
POSITIONS = 8
"""Multipliers of a chain; products of a step."""
LANE_STEPS = 4
"""Steps of a chain whose bits of one plane share a word of its lane: a *quad*."""


@dataclass(frozen=True)
class Span:
    """A stretch of k of one tile with one sparsity: ``steps`` of eight products a chain from column ``start``, ``ratio`` =
    group / nnz."""

    start: int
    steps: int
    ratio: int


@dataclass(frozen=True, kw_only=True)
class SparseJob(Job):
    """y[m, n] = round_half_even(sum over g of (q[m, n, g] * scale[n, g] + s[m, g] * offset[n, g]) * x_scale[m, g] / 2**shift) as
    int32, clamped; q = sum over k in g of (code[n, k] - zero[n, g]) * x[m, k], s = sum over k in g of x[m, k].

    Sums are over the columns that are kept. ``bits`` of a code; zero is 2**(bits - 1) unless the header has it. ``nnz`` of each
    ``group`` consecutive columns are kept (N:M); equal: dense. ``scale_group`` columns share a ``header`` (see HEADERS), 0: a
    whole row. ``x_group`` columns share an activation scale, 0: a whole token. ``codebook``: codes of 4 bits name one of 16 int8
    values instead. ``block`` > 0: of each tile of rows only some blocks of so many columns are kept: ``blocks`` lists them, for
    each tile ((block, nnz), ...) in ascending order; None: every second one, with ``nnz``.
    """

    k: int
    n: int
    m: int = 1
    bits: int = 4
    nnz: int = 1
    group: int = 1
    scale_group: int = 32
    header: str = "scale"
    codebook: bool = False
    x_group: int = 32
    shift: int = 0
    block: int = 0
    blocks: tuple | None = None

    @property
    def ratio(self):
        return self.group // self.nnz

    @property
    def scale_groups(self):
        """Headers of a row."""
        return -(-self.k // self.scale_group) if self.scale_group else 1

    @property
    def x_groups(self):
        """Activation scales of a token."""
        return -(-self.k // self.x_group) if self.x_group else 1

    @property
    def sparse(self):
        """Whether words of indices may ride in the stream."""
        return self.group > 1 and (self.nnz < self.group or self.block > 0)

    @property
    def columns(self):
        """k, rounded up to whole blocks where there are some."""
        return self.block_count * self.block if self.block else self.k

    @property
    def index_bits(self):
        """Bits of a kept weight's index in spans that are not dense."""
        return self.group.bit_length() - 1

    @property
    def k_steps(self):
        return -(-self.k // (POSITIONS * self.ratio))

    @property
    def segment(self):
        """Columns summed before they are scaled."""
        return min(MAX_SEGMENT, *(size for size in (self.scale_group, self.x_group, self.block, MAX_SEGMENT) if size))

    @property
    def header_groups(self):
        """Groups whose headers share a word of 32 bits."""
        return 2 if HEADER_BITS[self.header] == 16 else 1

    @property
    def block_count(self):
        return -(-self.k // self.block)

    def spans(self, tile):
        """The spans of a tile of rows, in order."""
        if not self.block:
            return [Span(0, self.k_steps, self.ratio)]
        return [Span(index * self.block, self.block * nnz // (POSITIONS * self.group), self.group // nnz)
                for index, nnz in self.blocks[tile]]

    def _columns(self, span):
        """Columns of the matrix that a span covers."""
        return min(self.k - span.start, span.steps * POSITIONS * span.ratio)

    def _tile_sums(self, chains, value):
        """Sum of ``value(span)`` over all rows and spans."""
        if not self.block:
            return self.n * value(self.spans(0)[0])
        rows = (min(chains, self.n - tile * chains) for tile in range(len(self.blocks)))
        return sum(count * sum(value(span) for span in self.spans(tile)) for tile, count in enumerate(rows))

    def kept(self, chains):
        """Products of one token."""
        return self._tile_sums(chains, lambda span: self._columns(span) // span.ratio)

    def useful_bits(self, chains):
        """Bits of weights, indices and headers in the stream, padding left out."""
        def bits(span):
            columns = self._columns(span)
            index = self.index_bits if span.ratio > 1 else 0
            groups = -(-columns // self.scale_group) if self.scale_group else 0
            return columns // span.ratio * (self.bits + index) + groups * HEADER_BITS[self.header]

        return self._tile_sums(chains, bits) + (0 if self.scale_group else self.n * HEADER_BITS[self.header])
