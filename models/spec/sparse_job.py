"""Jobs of the sparse chain engine: shapes, weight format, sparsity; and what follows from them."""

from dataclasses import dataclass, fields

from .engine import Job
from .errors import check_choice, check_int

__all__ = ["CHANNEL", "GROUPS", "HEADERS", "LANE_STEPS", "MAX_SEGMENT", "POSITIONS", "SEGMENT", "SparseJob", "Span", "check_job"]

HEADERS = ("scale", "affine", "zero", "levels")
"""What stands before a group of weights: ``scale`` int16; ``affine`` scale and offset int16; ``zero`` scale int16 and the code of
zero uint8; ``levels`` the inner of two-level scales (DGQ) uint8 and the code of zero uint8."""
HEADER_BITS = {"scale": 16, "affine": 32, "zero": 24, "levels": 16}
GROUPS = (1, 4, 8, 16)
CHANNEL = 15
"""In a job's record: one group of scales a row."""
MAX_SCALE_GROUP = 1 << 15
SEGMENT, MAX_SEGMENT = 32, 128
"""Columns of the smallest and the largest segment: the span of k summed as integers before it is scaled."""
CODEBOOK_BITS = 4
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


def check_job(build, shape):
    """The legal job of ``shape`` on ``build``; TypeError or ValueError names field, rule and value."""
    names = {field.name for field in fields(SparseJob)}
    for name in shape:
        if name not in names:
            raise ValueError(f"unknown job field {name!r}; fields are {', '.join(sorted(names))}")
    for name in ("k", "n"):
        if name not in shape:
            raise ValueError(f"job field {name} is missing")
    job = SparseJob(**shape)
    for name, low, high in (("k", 1, build.max_k), ("n", 1, build.max_n), ("m", 1, build.max_m), ("tag", 0, 255),
                            ("bits", 1, build.max_bits), ("shift", 0, build.max_shift)):
        check_int(name, getattr(job, name), low, high)
    _check_sparsity(build, job)
    _check_scales(build, job)
    if not job.block:
        if job.blocks is not None:
            raise ValueError("blocks must be absent without block")
        return job
    return _with_blocks(build, job)


def _check_sparsity(build, job):
    if job.nnz == job.group:
        check_choice("group", job.group, (1, *GROUPS[1:]))
    else:
        check_choice("group", job.group, GROUPS[1:])
    check_choice("nnz", job.nnz, [1 << i for i in range(job.group.bit_length())])
    if job.ratio > build.max_ratio:
        raise ValueError(f"group / nnz must be at most {build.max_ratio} (window / 8), got {job.group}/{job.nnz}")
    if job.ratio * POSITIONS > job.segment:
        raise ValueError(f"group / nnz must be at most {job.segment // POSITIONS} with scales for {job.segment} columns, "
                         f"got {job.group}/{job.nnz}")


def _check_scales(build, job):
    for name in ("scale_group", "x_group", "block"):
        size = check_int(name, getattr(job, name), 0, MAX_SCALE_GROUP)
        if size and (size < SEGMENT or size & (size - 1)):
            raise ValueError(f"{name} must be a power of two from {SEGMENT}, or 0, got {size}")
    check_choice("header", job.header, HEADERS)
    if job.header == "affine" and job.sparse:
        raise ValueError("header must not be affine with N:M weights: what is left out is 0")
    if job.header in ("zero", "levels") and job.bits > 4:
        raise ValueError(f"bits must be at most 4 with header {job.header}, got {job.bits}")
    if not isinstance(job.codebook, bool):
        raise TypeError(f"codebook must be true or false, got {job.codebook!r}")
    if job.codebook and (not build.codebook or job.bits != CODEBOOK_BITS or job.header != "scale"):
        raise ValueError("codebook must come with a build that has one, 4 bits and header scale, "
                         f"got codebook={build.codebook}, {job.bits} bits, header {job.header}")
    if job.block and job.scale_group > job.block:
        raise ValueError(f"scale_group must be at most block ({job.block}) or 0, got {job.scale_group}")


def _with_blocks(build, job):
    """The job with its blocks filled in or checked."""
    if -(-job.columns // build.window) > build.max_words:
        raise ValueError(f"block must divide {build.max_words * build.window} columns, the most of this build, so that {job.k} "
                         f"columns fit, got {job.block}")
    tiles = -(-job.n // build.chains)
    if job.blocks is None:
        chosen = tuple((index, job.nnz) for index in range(0, job.block_count, 2))
        return SparseJob(**{field.name: getattr(job, field.name) for field in fields(SparseJob)} | {"blocks": (chosen,) * tiles})
    if len(job.blocks) != tiles:
        raise ValueError(f"blocks must list {tiles} tiles of {build.chains} rows, got {len(job.blocks)}")
    for tile, chosen in enumerate(job.blocks):
        if not chosen:
            raise ValueError(f"blocks of tile {tile} must hold one block at least")
        before = -1
        for index, nnz in chosen:
            check_int(f"block of tile {tile}", index, 0, job.block_count - 1)
            if index <= before:
                raise ValueError(f"blocks of tile {tile} must ascend, got {index} after {before}")
            before = index
            check_choice("nnz", nnz, [1 << i for i in range(job.group.bit_length())])
            most = min(build.max_ratio, job.segment // POSITIONS)
            if job.group // nnz > most:
                raise ValueError(f"group / nnz must be at most {most} in block {index} of tile {tile}, got {job.group}/{nnz}")
    return job
