"""A vision transformer with experts on our engines: every job of an image, its cycles by the engines' closed forms.

One image at a time, one job after the other, as its data flow: no two engines work at once, but for attention modules that share
the heads. What is left out: the residual additions and whatever moves data between the engines' buffers.
"""

from dataclasses import dataclass
from functools import cache

from ..models.spec.attention import Attention
from ..models.spec.engine import EngineSpec, Job
from ..models.spec.moe_gate import MoeGate
from ..models.spec.moe_linear import MoeLinear
from ..models.spec.vector import Vector

__all__ = ["Step", "VitMachine", "block_steps", "image_rows", "image_steps"]


@dataclass(frozen=True)
class Step:
    """One job of an image. ``where``: attention, linear, norm or gate. ``macs``: useful multiply-accumulates of the job, of all
    modules together."""

    name: str
    where: str
    build: EngineSpec
    job: Job
    macs: int = 0

    @property
    def cycles(self):
        """By the closed form."""
        return _cycles(self.build, self.job)

    @property
    def weight_bytes(self):
        """Of the streams of a linear job; keys and values of attention come from on-chip memory."""
        return self.build.beat_bytes * self.build.beats("w", self.job) if self.where == "linear" else 0


@cache
def _cycles(build, job):
    return build.cycles(job)


@dataclass(frozen=True, kw_only=True)
class VitMachine:
    """One engine of each kind, attention ``modules`` times: a module takes every ``modules``-th head."""

    attention: Attention
    linear: MoeLinear
    norm: Vector
    gate: MoeGate | None = None
    modules: int = 1

    @classmethod
    def of(cls, preset, shape, **linear):
        """The machine of a ``VitPreset``, large enough for ``shape``; ``linear``: further parameters of that engine."""
        values = {name: figure.value for name, figure in preset.figures.items()}
        return cls.sized(shape, **{name: value for name, value in values.items() if name not in ("clock", "bandwidth")} | linear)

    @classmethod
    def sized(cls, shape, *, modules=1, queries, attention_lanes, attention_bits=8, score="online", norm_lanes=16, **linear):
        """A machine large enough for ``shape``: ``queries`` in parallel with ``attention_lanes`` each, ``norm_lanes``, and the
        parameters of the linear engine."""
        tokens = shape.tokens
        widest = max(shape.hidden, 3 * shape.width, shape.expert_hidden, shape.patch_inputs, shape.classes)
        return cls(
            attention=Attention(p=queries, d_lanes=attention_lanes, bits=attention_bits, score=score, max_queries=tokens,
                                max_keys=tokens, max_d=shape.head_width, max_heads=shape.heads),
            linear=MoeLinear(max_m=tokens, max_k=max(shape.hidden, shape.patch_inputs, shape.expert_hidden), max_n=widest,
                             max_experts=max(shape.experts, 1), max_top_k=max(shape.top_k, 1), score=shape.experts > 0,
                             score_n=shape.width if shape.experts else 0, **linear),
            norm=Vector(function="layernorm", lanes=norm_lanes, max_m=tokens, max_k=shape.width),
            gate=MoeGate(max_experts=shape.experts, max_m=tokens, max_top_k=shape.top_k) if shape.experts else None,
            modules=modules,
        )


def block_steps(machine, shape, block):
    """The steps of the block of that index, in order."""
    m, width = shape.tokens, shape.width
    yield _norm(machine, shape, "norm 1")
    yield _dense(machine, "query, key, value", m, width, 3 * width)
    heads = -(-shape.heads // machine.modules)
    job = machine.attention.job(queries=m, keys=m, d=shape.head_width, heads=heads)
    yield Step("attention", "attention", machine.attention, job, 2 * m * m * width)
    yield _dense(machine, "projection", m, width, width)
    yield _norm(machine, shape, "norm 2")
    if not shape.has_experts(block):
        yield _dense(machine, "up", m, width, shape.hidden, gelu=True)
        yield _dense(machine, "down", m, shape.hidden, width)
        return
    experts = {"experts": shape.experts, "top_k": shape.top_k}
    yield _dense(machine, "gate logits", m, width, shape.experts)
    yield Step("gate", "gate", machine.gate, machine.gate.job(m=m, **experts))
    macs = m * shape.top_k * width * shape.expert_hidden
    yield Step("experts up", "linear", machine.linear,
               machine.linear.job(m=m, k=width, n=shape.expert_hidden, gelu=True, **experts), macs)
    yield Step("experts down", "linear", machine.linear,
               machine.linear.job(m=m, k=shape.expert_hidden, n=width, use_score=True, **experts), macs)


def image_steps(machine, shape):
    """All steps of an image, each with the index of its block, None before and after the blocks."""
    yield None, _dense(machine, "patches", shape.patches, shape.patch_inputs, shape.width)
    for block in range(shape.depth):
        for step in block_steps(machine, shape, block):
            yield block, step
    yield None, _norm(machine, shape, "last norm")
    if shape.classes:
        yield None, _dense(machine, "head", 1, shape.width, shape.classes)


def image_rows(machine, shape):
    """The steps of an image added up by name: dicts with ``name``, ``where``, ``number`` of jobs, ``cycles``, ``macs``,
    ``weight_bytes``."""
    rows = {}
    for _, step in image_steps(machine, shape):
        row = rows.setdefault(step.name, {"name": step.name, "where": step.where, "number": 0, "cycles": 0, "macs": 0,
                                          "weight_bytes": 0})
        row["number"] += 1
        for key in ("cycles", "macs", "weight_bytes"):
            row[key] += getattr(step, key)
    return list(rows.values())


def _norm(machine, shape, name):
    return Step(name, "norm", machine.norm, machine.norm.job(m=shape.tokens, k=shape.width))


def _dense(machine, name, m, k, n, **flags):
    return Step(name, "linear", machine.linear, machine.linear.job(m=m, k=k, n=n, **flags), m * k * n)
