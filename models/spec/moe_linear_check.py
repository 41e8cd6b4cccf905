"""What makes a job of the MoE linear engine legal."""

from dataclasses import replace

from .errors import check_int
from .moe_linear_job import SCALE_BITS, MoeLinearJob, default_routes

__all__ = ["check_job"]


def check_job(build, shape):
    """The legal job of ``shape`` on ``build``; TypeError or ValueError names field, rule and value."""
    job = MoeLinearJob.of(shape)
    limits = {
        "m": (1, build.max_m), "k": (1, build.max_k), "n": (1, build.max_n), "tag": (0, 255),
        "experts": (1, build.max_experts), "top_k": (1, build.max_top_k), "shift": (0, build.max_shift),
        "out_multiplier": (0, (1 << SCALE_BITS) - 1), "out_shift": (0, build.max_out_shift),
    }
    job = replace(job, **{name: check_int(name, getattr(job, name), *limit) for name, limit in limits.items()})
    if job.gather is None:
        job = replace(job, gather=not job.use_score)
    for name in ("first", "last", "gelu", "use_score", "gather", "narrow"):
        if not isinstance(getattr(job, name), bool):
            raise TypeError(f"{name} must be true or false, got {getattr(job, name)!r}")
    for name, has in (("gelu", build.gelu), ("use_score", build.score), ("narrow", build.narrow)):
        if getattr(job, name) and not has:
            raise ValueError(f"{name} must be false on a build without it, got True")
    if job.top_k > job.experts:
        raise ValueError(f"top_k must be at most experts ({job.experts}), got {job.top_k}")
    if not job.queued:
        for name, plain in (("use_score", False), ("gather", True), ("routes", None)):
            if getattr(job, name) is not plain:
                raise ValueError(f"{name} must be {plain} without experts, got {getattr(job, name)!r}")
        return job
    if job.use_score and job.n > build.score_rows:
        raise ValueError(f"n must be 1..{build.score_rows} (score_n) with use_score, got {job.n}")
    return replace(job, routes=_checked_routes(job))


def _checked_routes(job):
    if job.routes is None:
        return default_routes(job.m, job.experts, job.top_k)
    try:
        routes = tuple(tuple(tokens) for tokens in job.routes)
    except TypeError:
        raise TypeError(f"routes must be a tuple of tokens for each expert, got {job.routes!r}") from None
    if len(routes) != job.experts:
        raise ValueError(f"routes must list the tokens of {job.experts} experts, got {len(routes)}")
    chosen = [0] * job.m
    for expert, tokens in enumerate(routes):
        for token in tokens:
            chosen[check_int(f"token of expert {expert}", token, 0, job.m - 1)] += 1
        if len(set(tokens)) != len(tokens):
            raise ValueError(f"routes of expert {expert} must name a token once, got {tokens}")
    if max(chosen) > job.top_k:
        raise ValueError(f"routes must send a token to at most {job.top_k} experts, got {max(chosen)}")
    if not any(routes):
        raise ValueError("routes must hold one token at least")
    return tuple(tuple(int(token) for token in tokens) for tokens in routes)
