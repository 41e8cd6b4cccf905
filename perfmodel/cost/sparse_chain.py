"""What a sparse chain engine takes from a chip: measured where it was, else by a fitted formula, else an error."""

import json
from dataclasses import fields
from functools import cache
from math import ceil
from pathlib import Path

import numpy as np

from ...models.spec.sparse_chain import SparseChain
from ...models.spec.sparse_job import LANE_STEPS, POSITIONS
from .resources import Resources, UnknownCost

__all__ = ["PARTS", "PIECES", "TABLE", "cost", "dsp", "estimate", "held_out_error", "measured", "multipliers"]

TABLE = Path(__file__).with_name("sparse_chain.json")
"""Measured rows, written by ``benchmarks/cost_sparse.py --write``: family, build, tool, command and the counts of every part.
Rows that are ``held_out`` judge the formula and take no part in it."""
PIECES = ("lanes", "store", "scale", "results")
"""The parts of an engine, each synthesised by itself; what the engine has beyond them is order and control."""
PARTS = ("engine", *PIECES)
"""``engine``: everything between its ports."""

_COUNTS = ("lut", "lut_memory", "lut_route", "ff")
_PACKED = "dsp48e2"
"""The target whose multipliers each work for all tokens."""
_SCALERS = {"xcup": 4}
"""DSP slices that Yosys finds for a chain's scale, offset and activation scale."""
_INDEX_PLANES, _PLANE_LUTS, _PLANE_BITS = 4, 8, 14
"""A RAM32M16 has 14 bits a word with a read port of its own, in eight LUTs."""


def multipliers(build):
    """Multipliers of all chains; each has ``build.tokens`` products a cycle."""
    return build.chains * POSITIONS


def dsp(build, family="xcup"):
    """(DSP slices in the chains, DSP slices of the scalers), counted. UnknownCost for a family without rows."""
    if family not in _SCALERS:
        raise UnknownCost(f"no cost is known for family {family!r}")
    return multipliers(build) * (1 if build.target == _PACKED else build.tokens), build.chains * _SCALERS[family]


def cost(build, family="xcup"):
    """The :class:`~.resources.Resources` of ``build`` (a ``SparseChain`` spec) on ``family``: a measured row (basis ``yosys``) or
    :func:`estimate` (basis ``model``). Raises UnknownCost as that does."""
    _check(build, family)
    for row in measured(family):
        if row["spec"] == build:
            return Resources(**row["engine"], basis="yosys")
    return estimate(build, family)


def estimate(build, family="xcup"):
    """The formula alone: LUTs and flip-flops linear in chains, tokens and bits of memory (``_TERMS``), part by part, with
    coefficients fitted to the measured rows by least relative error; DSP slices are counted. :func:`held_out_error` says how far
    off it is on builds that it has not seen.

    Raises UnknownCost for another kind of build, a family without rows, more or fewer chains than were measured, every other
    parameter at a value that was not, and a target that was not measured with as many tokens.
    """
    _check(build, family)
    rows = [row["spec"] for row in measured(family)]
    chains = [spec.chains for spec in rows]
    if not min(chains) <= build.chains <= max(chains):
        raise UnknownCost(f"no cost is known for chains = {build.chains}: on {family} was measured "
                          f"from {min(chains)} to {max(chains)}")
    for name in (field.name for field in fields(build) if field.name != "chains"):
        values = {getattr(spec, name) for spec in rows}
        if getattr(build, name) not in values:
            raise UnknownCost(f"no cost is known for {name} = {getattr(build, name)!r}: on {family} was measured "
                              f"{', '.join(map(str, sorted(values)))}")
    if (build.target, build.tokens) not in {(spec.target, spec.tokens) for spec in rows}:
        raise UnknownCost(f"no cost is known for target = {build.target!r} with tokens = {build.tokens} on {family}")
    counts = {name: sum(float(np.dot(terms(build), _fit(family, piece, name))) for piece, terms in _TERMS.items())
              for name in _COUNTS}
    whole = {name: max(0, round(count)) for name, count in counts.items()}
    return Resources(**whole, dsp=sum(dsp(build, family)), bram=0, uram=0, basis="model")


def held_out_error(family="xcup"):
    """Largest relative error of the formula, in LUTs or flip-flops, over the rows of ``family`` that it has not seen."""
    rows = [row for row in measured(family) if row["held_out"]]
    pairs = [(getattr(estimate(row["spec"], family), name), row["engine"][name]) for row in rows for name in ("lut", "ff")]
    return max(abs(formula / count - 1) for formula, count in pairs)


@cache
def measured(family):
    """The measured rows of one family, each with its build as ``spec``."""
    rows = [row | {"spec": SparseChain(**row["build"])} for row in json.loads(TABLE.read_text())]
    return tuple(row for row in rows if row["family"] == family)


def _check(build, family):
    if not isinstance(build, SparseChain):
        raise UnknownCost(f"no cost is known for a {type(build).__name__}")
    if not measured(family):
        raise UnknownCost(f"no cost is known for family {family!r}")


@cache
def _fit(family, piece, name):
    """Coefficients of ``_TERMS[piece]``."""
    rows = [row for row in measured(family) if not row["held_out"]]
    terms = np.array([_TERMS[piece](row["spec"]) for row in rows], float)
    counts = np.array([_count(row, piece, name) for row in rows], float)
    weights = 1 / np.array([max(row["engine"][name], 1) for row in rows])
    return np.linalg.lstsq(terms * weights[:, None], counts * weights, rcond=None)[0]


def _count(row, piece, name):
    """What a part of the formula has to give; ``rest``: what the engine has beyond its parts."""
    if piece == "rest":
        return row["engine"][name] - sum(row[other][name] for other in PIECES)
    return row[piece][name]


def _sparse(build):
    return build.window > POSITIONS


def _lanes_terms(build):
    # A decoder, a multiplexer, maybe sums in LUTs for each multiplier; the columns, in registers for all chains.
    return [build.chains, _sparse(build) * build.chains * build.tokens, (build.target != _PACKED) * build.chains * build.tokens,
            _sparse(build) * build.tokens, build.tokens, 1]


def _store_terms(build):
    planes = build.max_bits + _sparse(build) * _INDEX_PLANES
    return [planes * ceil(build.chains * LANE_STEPS / _PLANE_BITS) * _PLANE_LUTS, planes * build.chains, 1]


def _chain_terms(build):
    return [build.chains, build.chains * build.tokens, build.tokens, 1]


def _results_terms(build):
    return [build.chains, 1]


def _rest_terms(build):
    return [build.chains, build.tokens * build.window, _sparse(build), 1]


_TERMS = {"lanes": _lanes_terms, "store": _store_terms, "scale": _chain_terms, "results": _results_terms, "rest": _rest_terms}
