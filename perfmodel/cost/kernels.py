"""What the engines of vision transformers take from a chip: counted DSP slices, and measured rows of everything else."""

import json
from functools import cache
from pathlib import Path

from ...models.spec.attention import Attention
from ...models.spec.engines import ENGINES
from ...models.spec.moe_linear import MoeLinear
from .resources import Resources, UnknownCost

__all__ = ["TABLE", "cost", "dsp", "measured"]

TABLE = Path(__file__).with_name("kernels.json")
"""Measured rows, written by ``benchmarks/vit.py cost --write``: engine, build, family, tool, command, counts."""
_PACKED = "dsp48e2"


def dsp(build):
    """DSP48E2 of an attention engine (8 bits, online or two-pass) or a linear engine (target dsp48e2), counted: two products of a
    linear engine's take one, each product of attention one; the rest scales scores, sums and results. Equal to every measured
    row. UnknownCost for other builds, linear engines without GELU, scores or narrow results among them."""
    if isinstance(build, Attention) and build.bits == 8 and build.score in ("online", "two_pass"):
        return 2 * build.p * build.d_lanes + 2 * build.d_lanes + 5 * build.p + 1
    if isinstance(build, MoeLinear) and build.target == _PACKED and build.gelu and build.narrow and build.scores:
        return build.tokens * build.rows * build.lanes // 2 + 8 * build.out_lanes + 1
    raise UnknownCost(f"no count of DSP slices is known for {build!r}")


def cost(build, family="xcup"):
    """The :class:`~.resources.Resources` of a build that was measured on ``family``, basis ``yosys``. UnknownCost for others."""
    for row in measured(family):
        if row["spec"] == build:
            return Resources(**row["counts"], basis="yosys")
    raise UnknownCost(f"no cost is known for {build!r} on family {family!r}")


@cache
def measured(family="xcup"):
    """The measured rows of one family, each with its build as ``spec``."""
    rows = [row | {"spec": ENGINES[row["engine"]](**row["build"])} for row in json.loads(TABLE.read_text())]
    return tuple(row for row in rows if row["family"] == family)
