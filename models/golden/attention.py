"""Attention from its definition: exact scores, one rounding, softmax in exact integers; keys in their natural order."""

import numpy as np

from ..spec.attention_job import SCORE_BITS
from .functions import exp2_neg, reciprocal, sigmoid

try:
    import numba
except ImportError:
    numba = None

__all__ = ["draw_operands", "reference", "results", "round_scaled", "scaled_scores", "shiftmax", "visible"]

INT32 = -(1 << 31), (1 << 31) - 1
EXP_FRACTION = 10
MAX_RAISE = 31
"""An online maximum that rises by more empties the sums instead of shifting them."""
SHIFTMAX_STEPS = 15
FULL = (1 << 31) - 1
EXP_REACH = 24 << EXP_FRACTION
"""Beyond it exp2_neg is 0."""


def visible(build, job):
    """bool [queries, keys]: which keys a query sees."""
    query, key = np.arange(job.queries)[:, None], np.arange(job.keys)[None, :]
    if job.block:
        seen = np.zeros((job.queries, job.keys), bool)
        for group, chosen in enumerate(job.blocks):
            for index in chosen:
                seen[group * build.p : (group + 1) * build.p, index * job.block : (index + 1) * job.block] = True
        return seen
    if not job.causal:
        return np.ones((job.queries, job.keys), bool)
    place = query + job.keys - job.queries
    return (key <= place) & ((key > place - job.window) | (job.window == 0))


def round_scaled(value, factor, shift, low, high):
    """(round_half_even(value * factor / 2**shift) clamped to ``low``..``high``, where it was clamped).

    ``factor`` of up to 32 bits and ``shift`` of 17 or more: the product, of up to 80 bits, is made in two halves.
    """
    lower = value * (factor & 0xFFFF)
    upper = value * (factor >> 16) + (lower >> 16)
    # Twice the upper part, its lowest bit saying whether anything lies below: it rounds as the whole does.
    whole = (upper << 1) | ((lower & 0xFFFF) != 0)
    shift = np.asarray(shift, np.int64) - 15
    quotient = whole >> shift
    rest, half = whole - (quotient << shift), np.int64(1) << (shift - 1)
    rounded = quotient + ((rest > half) | ((rest == half) & ((quotient & 1) == 1)))
    limited = np.clip(rounded, low, high)
    return limited, limited != rounded


def scaled_scores(build, job, operands):
    """(t int64 [heads, queries, keys], where it was clamped), of all pairs."""
    kv = np.arange(job.heads) // (job.heads // job.kv_heads)
    q, k = (operands[name].astype(np.float64) for name in ("q", "k"))
    dot = np.rint(q @ k[kv].transpose(0, 2, 1)).astype(np.int64)  # below 2**53: exact
    if build.score == "shiftmax":
        return round_scaled(dot, job.multiplier, job.shift, -128, 127)
    factor = operands["q_scale"].astype(np.int64)[:, :, None] * operands["k_scale"].astype(np.int64)[kv][:, None, :]
    top = 1 << (SCORE_BITS - 1)
    return round_scaled(dot, factor, job.shift, -top, top - 1)


def results(build, job, operands):
    """``y`` int32 [heads, queries, d] and ``saturated``: clamped scores of pairs that are seen, and clamped results."""
    seen = np.broadcast_to(visible(build, job), (job.heads, job.queries, job.keys))
    t, clamped = scaled_scores(build, job, operands)
    kv = np.arange(job.heads) // (job.heads // job.kv_heads)
    v, v_scale = operands["v"].astype(np.int64)[kv], operands["v_scale"].astype(np.int64)[kv]
    total, factor, shift = _SCORES[build.score](job, t, seen, v, v_scale)
    low, high = (-128, 127) if build.score == "shiftmax" else INT32
    y, over = round_scaled(total, factor, shift, low, high)
    return {"y": y.astype(np.int32), "saturated": int((clamped & seen).sum() + over.sum())}


def _weigh(exponential, v_scale):
    """round_half_even(e * v_scale / 2**16)."""
    product = exponential * v_scale
    quotient, rest = product >> 16, product & 0xFFFF
    return quotient + ((rest > 0x8000) | ((rest == 0x8000) & ((quotient & 1) == 1)))


def _exp2(u):
    """exp2_neg of distances however large."""
    return _exp_table()[np.minimum(u, EXP_REACH)]


_table = []


def _exp_table():
    if not _table:
        _table.append(np.asarray(exp2_neg(np.arange(EXP_REACH + 1)), np.int64))
    return _table[0]


def _divided(job, total, sums):
    """(total, factor, shift) of total / sums with ``fraction`` bits."""
    mantissa, shift = reciprocal(np.maximum(sums, 1))
    mantissa, shift = np.asarray(mantissa, np.int64), np.asarray(shift, np.int64)
    return total, np.where(sums > 0, mantissa, 0)[:, :, None], np.where(sums > 0, shift, 30)[:, :, None] - job.fraction


def _online(job, t, seen, v, v_scale):
    """Key after key: the maximum is kept as an integer power of two; when it rises by n, the sums lose n bits (floor)."""
    total, sums = _online_sums(t, np.ascontiguousarray(seen), v, v_scale, _exp_table())
    return _divided(job, total, sums)


def _online_numpy(t, seen, v, v_scale, table):
    heads, queries, keys = t.shape
    total, sums = np.zeros((heads, queries, v.shape[2]), np.int64), np.zeros((heads, queries), np.int64)
    most, empty = np.zeros((heads, queries), np.int64), np.ones((heads, queries), bool)
    for j in range(keys):
        now, ceiling = seen[:, :, j], -(-t[:, :, j] >> EXP_FRACTION)
        rises = now & (empty | (ceiling > most))
        raised = np.where(rises & ~empty, ceiling - most, 0)
        most, empty = np.where(rises, ceiling, most), empty & ~now
        kept, shift = raised <= MAX_RAISE, np.minimum(raised, MAX_RAISE)
        e = np.where(now, table[np.minimum((most << EXP_FRACTION) - np.minimum(t[:, :, j], most << EXP_FRACTION), EXP_REACH)], 0)
        sums = np.where(kept, sums >> shift, 0) + e
        total = np.where(kept[:, :, None], total >> shift[:, :, None], 0)
        total += _weigh(e, v_scale[:, j, None])[:, :, None] * v[:, None, j]
    return total, sums


def _two_pass(job, t, seen, v, v_scale):
    """The exact maximum first."""
    most = np.where(seen, t, -(1 << SCORE_BITS)).max(axis=2, keepdims=True)
    e = np.where(seen, _exp2(np.maximum(most - t, 0)), 0)
    return _divided(job, _weigh(e, v_scale[:, None]) @ v, e.sum(axis=2))


def _sigmoid(job, t, seen, v, v_scale):
    p = np.where(seen, np.asarray(sigmoid(t + job.bias), np.int64), 0)
    return _weigh(p, v_scale[:, None]) @ v, np.int64(1 << 16), 31 - job.fraction


def _shiftmax(job, t, seen, v, v_scale):
    return shiftmax(t, seen, job.unit) @ v, np.int64(job.out_multiplier), job.out_shift


def shiftmax(t, seen, unit):
    """int64 like ``t``: I-ViT's Shiftmax of 16 bits (PyTorch version, floor divisions, exact integers) over the last axis.

    ``t`` int8 scores with x0 = -``unit``; what is not ``seen`` has no part in it.
    """
    most = np.where(seen, t, -128).max(axis=-1, keepdims=True)
    x = np.minimum(t - most, 0)
    x = np.maximum(x + (x >> 1) - (x >> 4), -SHIFTMAX_STEPS * unit)
    quotient = -x // unit
    rest = x + quotient * unit
    # (r / 2 - x0) * 2**(n - q): the half is kept.
    e = np.where(seen, ((rest + 2 * unit) << (SHIFTMAX_STEPS - quotient)) >> 1, 0)
    sums = np.minimum(e.sum(axis=-1, keepdims=True), FULL)
    return e * (FULL // np.maximum(sums, 1)) >> 16


_SCORES = {"online": _online, "two_pass": _two_pass, "sigmoid": _sigmoid, "shiftmax": _shiftmax}


def reference(build, job, operands):
    """float64 [heads, queries, d]: the same attention in floating point, no order, no rounding: what ``y`` approximates."""
    kv = np.arange(job.heads) // (job.heads // job.kv_heads)
    q, k, v = (operands[name].astype(np.float64) for name in "qkv")
    dot, seen = q @ k[kv].transpose(0, 2, 1), visible(build, job)
    if build.score == "shiftmax":
        t = dot * job.multiplier / 2.0**job.shift
        e = np.where(seen, np.exp((t - np.where(seen, t, -np.inf).max(axis=2, keepdims=True)) / job.unit), 0)
        scale = np.float64(1 << 15) * job.out_multiplier / 2.0**job.out_shift
        return e @ v[kv] / np.maximum(e.sum(axis=2), 1e-300)[:, :, None] * scale
    t = dot * operands["q_scale"][:, :, None] * operands["k_scale"][kv][:, None] / 2.0**job.shift
    v = v[kv] * operands["v_scale"][kv][:, :, None] / 2.0**16 * 2.0**job.fraction
    if build.score == "sigmoid":
        return np.where(seen, (1 + np.tanh((t + job.bias) / 8192)) / 2, 0) @ v
    most = np.where(seen, t, -np.inf).max(axis=2, keepdims=True)
    e = np.where(seen, np.exp2(np.minimum(t - np.where(np.isfinite(most), most, 0), 0) / 1024), 0)
    return e @ v / np.maximum(e.sum(axis=2), 1e-300)[:, :, None]


def draw_operands(build, job, rng):
    """Random operands: scores of a few units, sometimes of all sizes, sometimes all elements the smallest."""
    peak, kind = 1 << (build.bits - 1), np.int8 if build.bits == 8 else np.int16
    shapes = {"q": (job.heads, job.queries), "k": (job.kv_heads, job.keys), "v": (job.kv_heads, job.keys)}
    operands = {name: rng.integers(-peak, peak, (*shape, job.d)).astype(kind) for name, shape in shapes.items()}
    # Scores spread over some thousandths of 2**10: the scales' product is about 2**(shift + 11) / deviation.
    spread = np.log2(peak**2 / 3 * np.sqrt(job.d))
    top = 2.0 ** np.clip((job.shift + 11.5 - spread) / 2, 1, 16)
    wild = rng.integers(4) == 0
    for name, shape in shapes.items():
        most = (1 << 16) - 1 if name == "v" or wild else int(min(top, (1 << 16) - 1))
        operands[f"{name}_scale"] = rng.integers(most // 2, most + 1, shape).astype(np.int32)
    corner = int(rng.integers(6))
    if corner == 0:
        operands["q"][:], operands["k"][:], operands["v"][:] = -peak, -peak, rng.choice([-peak, peak - 1])
        operands["v_scale"][:] = (1 << 16) - 1
    if corner == 1:
        operands["k"] *= np.linspace(0, 1, job.keys)[:, None] > rng.random()
    return operands


if numba is None:
    _online_sums = _online_numpy
else:
    @numba.njit(cache=True)
    def _online_sums(t, seen, v, v_scale, table):
        """As :func:`_online_numpy`."""
        heads, queries, keys = t.shape
        total, sums = np.zeros((heads, queries, v.shape[2]), np.int64), np.zeros((heads, queries), np.int64)
        for head in range(heads):
            for query in range(queries):
                most, empty, whole, acc = np.int64(0), True, np.int64(0), total[head, query]
                for j in range(keys):
                    if not seen[head, query, j]:
                        continue
                    score = t[head, query, j]
                    ceiling = -(-score >> EXP_FRACTION)
                    if empty or ceiling > most:
                        raised = ceiling - most
                        if not empty:
                            whole = whole >> raised if raised <= MAX_RAISE else np.int64(0)
                            for i in range(acc.shape[0]):
                                acc[i] = acc[i] >> raised if raised <= MAX_RAISE else np.int64(0)
                        most, empty = ceiling, False
                    e = table[min((most << EXP_FRACTION) - score, EXP_REACH)]
                    whole += e
                    product = e * v_scale[head, j]
                    weight, rest = product >> 16, product & 0xFFFF
                    if rest > 0x8000 or (rest == 0x8000 and weight & 1):
                        weight += 1
                    for i in range(acc.shape[0]):
                        acc[i] += weight * v[head, j, i]
                sums[head, query] = whole
        return total, sums
