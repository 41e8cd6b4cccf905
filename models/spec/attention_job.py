"""Jobs of the attention engine: shapes, masks, number formats; and what makes one legal."""

from dataclasses import dataclass, replace

from .engine import Job
from .errors import check_choice, check_int

__all__ = [
    "BLOCKS", "MAX_FRACTION", "MAX_MULTIPLIER", "MAX_SHIFT", "MAX_UNIT", "MIN_SHIFT", "SCORE_BITS", "AttentionJob", "check_job",
]

SCORE_BITS = 20
"""Width of a scaled score: log2 units with 10 fraction bits (+-512), natural units with 12 (sigmoid, +-128)."""
MIN_SHIFT, MAX_SHIFT = 17, 63
MAX_FRACTION = 12
"""Most fraction bits of a result: its shift stays above 16."""
MAX_MULTIPLIER = 1 << 31
MAX_UNIT = 1023
"""Largest |x0| of the integer exponential: scores of a scale of 1/1023 and coarser."""
BLOCKS = (16, 32, 64, 128)


@dataclass(frozen=True, kw_only=True)
class AttentionJob(Job):
    """y[h, i] = sum over j of P(t[h, i, j]) * v[h', j] * v_scale[h', j] / 2**16, h' = h // (heads / kv_heads), in units of
    v's codes with ``fraction`` more bits, int32, rounded half to even and clamped.

    t = round_half_even((q[h, i] . k[h', j]) * q_scale[h, i] * k_scale[h', j] / 2**shift), clamped to 20 bits, in log2 units with
    10 fraction bits; P is the softmax of t over the keys j that query i sees. ``causal``: j <= i + keys - queries;
    ``window`` > 0: and j > i + keys - queries - window. ``block`` > 0: of each group of queries only some blocks of so many keys
    are seen: ``blocks`` lists them, for each group (number, ...) in ascending order; None: every second one. A query that sees no
    key gets 0.

    Builds of score ``sigmoid``: t has natural units with 12 fraction bits; P(t) = sigmoid(t + ``bias``). Builds of score
    ``shiftmax``: t = round_half_even((q . k) * ``multiplier`` / 2**shift) in 8 bits; P is I-ViT's Shiftmax of 16 bits with
    x0 = -``unit``; y = round_half_even(sum of P * v * ``out_multiplier`` / 2**``out_shift``) in 8 bits; no other scale matters.
    """

    queries: int
    keys: int
    d: int
    heads: int = 1
    kv_heads: int | None = None
    causal: bool = False
    window: int = 0
    block: int = 0
    blocks: tuple | None = None
    shift: int = 34
    fraction: int = 8
    bias: int = 0
    multiplier: int = 1 << 30
    unit: int = 16
    out_multiplier: int = 1 << 30
    out_shift: int = 44

    @property
    def offset(self):
        """Query i lies at this key + i."""
        return self.keys - self.queries

    @property
    def block_count(self):
        return -(-self.keys // self.block)

    def block_keys(self, index):
        """Keys of a block; the last may be short."""
        return min(self.block, self.keys - index * self.block)


def check_job(build, shape):
    """The legal job of ``shape`` on ``build``; TypeError or ValueError names field, rule and value."""
    job = AttentionJob.of(shape)
    wide = 1 << (SCORE_BITS - 1)
    limits = {"queries": (1, build.max_queries), "keys": (1, build.max_keys), "d": (1, build.max_d), "tag": (0, 255),
              "heads": (1, build.max_heads), "window": (0, build.max_keys), "shift": (MIN_SHIFT, MAX_SHIFT),
              "fraction": (0, MAX_FRACTION), "bias": (-wide, wide - 1), "multiplier": (1, MAX_MULTIPLIER), "unit": (1, MAX_UNIT),
              "out_multiplier": (1, MAX_MULTIPLIER), "out_shift": (MIN_SHIFT, MAX_SHIFT)}
    values = {name: check_int(name, getattr(job, name), *limit) for name, limit in limits.items()}
    for name in ("first", "last", "causal"):
        if not isinstance(getattr(job, name), bool):
            raise TypeError(f"{name} must be true or false, got {getattr(job, name)!r}")
    kv_heads = values["heads"] if job.kv_heads is None else check_int("kv_heads", job.kv_heads, 1, values["heads"])
    if values["heads"] % kv_heads:
        raise ValueError(f"kv_heads must divide heads ({values['heads']}), got {kv_heads}")
    if values["window"] and not job.causal:
        raise ValueError(f"window must be 0 without causal, got {values['window']}")
    return _with_blocks(build, replace(job, **values, kv_heads=kv_heads, block=check_choice("block", job.block, (0, *BLOCKS))))


def _with_blocks(build, job):
    """The job with its blocks filled in or checked."""
    if not job.block:
        if job.blocks is not None:
            raise ValueError("blocks must be absent without block")
        return job
    if not build.block_sparse:
        raise ValueError(f"block must be 0 in a build without block_sparse, got {job.block}")
    if job.causal:
        raise ValueError(f"block must be 0 with causal, got {job.block}")
    groups = build.groups(job)
    if job.blocks is None:
        return replace(job, blocks=(tuple(range(0, job.block_count, 2)),) * groups)
    try:
        blocks = [tuple(chosen) for chosen in job.blocks]
    except TypeError:
        raise TypeError(f"blocks must be groups of block numbers, got {job.blocks!r}") from None
    if len(blocks) != groups:
        raise ValueError(f"blocks must list {groups} groups of {build.p} queries, got {len(blocks)}")
    return replace(job, blocks=tuple(_checked_group(job, group, chosen) for group, chosen in enumerate(blocks)))


def _checked_group(job, group, chosen):
    if not chosen:
        raise ValueError(f"blocks of group {group} must hold one block at least")
    kept = []
    for index in chosen:
        index = check_int(f"block of group {group}", index, 0, job.block_count - 1)
        if kept and index <= kept[-1]:
            raise ValueError(f"blocks of group {group} must ascend, got {index} after {kept[-1]}")
        kept.append(index)
    return tuple(kept)
