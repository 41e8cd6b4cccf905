"""A vision transformer with experts in integers: every product, softmax, gate, norm and activation is a job of an engine.

Weights are int8 with a scale a row, activations int8 with a static scale a tensor (``moe_vit_ranges``); the residual stream is
int32 with ``FRACTION`` fraction bits. All scales are mantissas and shifts of the jobs. What is left to NumPy: cutting patches,
adding to the residual stream, clamping what attention leaves to int8, and moving rows. ``engines`` (see ``moe_vit_jobs``) says
what runs the jobs: golden models or simulated gates, with the same operands.
"""

import math
from dataclasses import dataclass

import numpy as np

from sparseloom.models.formats.mantissas import align
from sparseloom.models.formats.quantize import quantize_groups
from sparseloom.models.spec.errors import InputError, check_choice
from sparseloom.models.spec.functions import ACTIVATION_FRACTION, EXP_FRACTION
from sparseloom.models.spec.vector_job import NORM_FRACTION
from sparseloom.models.zoo.moe_vit import patches

__all__ = ["Attending", "IntegerVit", "Matrix", "Norm"]

FRACTION = 12
"""Fraction bits of the residual stream, of the gates' logits and of the results."""
NARROW_FRACTION = 8
"""Fraction bits below the step of results that become int8 at once."""
EPS = 1e-6
PEAK = 127
UNIT = 1 << 15
"""The mantissa of an activation's scale; the scale itself is in those of the weights' rows."""
MIDDLE = 128
"""Pixels are bytes; this makes them int8, and the bias makes up for it."""


@dataclass(frozen=True)
class Matrix:
    """Weights of a linear job: ``codes`` int8 [experts, n, k], ``scales`` of 16 bits and ``bias`` int32 [experts, n], the job's
    ``shift``; ``gelu``; ``narrow``: (multiplier, shift) that make int8 of the results, or None."""

    codes: np.ndarray
    scales: np.ndarray
    bias: np.ndarray
    shift: int
    gelu: bool = False
    narrow: tuple | None = None


@dataclass(frozen=True)
class Norm:
    """Weights of a LayerNorm job whose results are int8: ``gamma`` of 16 bits and ``beta`` int32 [width], the job's ``shift`` of
    their product with normalised elements, ``out_shift`` of the sum, ``eps``."""

    gamma: np.ndarray
    beta: np.ndarray
    shift: int
    out_shift: int
    eps: int


@dataclass(frozen=True)
class Attending:
    """Scales of an attention job: mantissas of all q, k and v, the shift of scores and the fraction bits of results."""

    q_scale: int
    k_scale: int
    v_scale: int
    shift: int
    fraction: int


def make_matrix(weight, bias, step, fraction, *, rows=None, gelu=False, narrow=None):
    """The :class:`Matrix` of float weights [n, k] or [experts, n, k] for activations in units of ``step``; results have
    ``fraction`` fraction bits, those of a row in units of ``rows`` [n], if given."""
    weight = weight if weight.ndim == 3 else weight[None]
    codes, scales = quantize_groups(weight)
    unit = 2.0**fraction / (1.0 if rows is None else rows)
    mantissas = align((scales[..., 0].astype(np.float64) * step * unit).reshape(1, -1), 16, signed=False)
    shift = UNIT.bit_length() - 1 - int(mantissas.exponent[0])
    # The float32 row scale again, so that the bias that makes up for shifted activations fits the codes exactly.
    whole = np.rint(np.asarray(bias, np.float64).reshape(scales.shape[:-1]) * unit).astype(np.int64)
    if np.abs(whole).max(initial=0) >= 1 << 31:
        raise ValueError(f"bias must fit 32 bits with {fraction} fraction bits, got {np.abs(whole).max()}")
    return Matrix(codes, mantissas.values.reshape(codes.shape[:2]), whole.astype(np.int32), shift, gelu, narrow)


def make_norm(gain, offset, step):
    """The :class:`Norm` of float ``gain`` and ``offset`` [width] for results in units of ``step``."""
    width = len(gain)
    mantissas = align(gain[None].astype(np.float64) / step * 2.0**NARROW_FRACTION, 16)
    beta = np.rint(offset.astype(np.float64) / step * 2.0**NARROW_FRACTION).astype(np.int32)
    eps = round(EPS * width**2 * 4.0**FRACTION)  # in units of width**2 * the square of an element's
    return Norm(mantissas.values[0], beta, NORM_FRACTION - int(mantissas.exponent[0]), NARROW_FRACTION, eps)


def rounding(factor, bits=16):
    """(multiplier, shift) with multiplier / 2**shift about ``factor``, the multiplier of ``bits`` bits."""
    mantissas = align([[factor]], bits, signed=False)
    return int(mantissas.values[0, 0]), -int(mantissas.exponent[0])


class IntegerVit:
    """The integers of ``model`` (:class:`~.moe_vit.MoeVit`) with ``ranges`` (those of its metadata, if None)."""

    def __init__(self, model, ranges=None):
        self.config, self.tasks, self.tokens = model.config, model.tasks, model.tokens
        self.has_experts = model.has_experts
        ranges = model.metadata.get("ranges") if ranges is None else ranges
        steps = {}
        for name in self._ranged():
            value = ranges.get(name) if isinstance(ranges, dict) else None
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
                raise InputError("ranges", name, "be a number above 0", value)
            steps[name] = value / PEAK
        t = model.tensors
        self._norms = {name: make_norm(t[f"{name}.weight"], t[f"{name}.bias"], steps[name])
                       for name in steps if name.rpartition(".")[2].startswith("norm")}
        self._matrices, self._attending = {}, {}
        self._make_ends(t, steps)
        for number in range(self.config["depth"]):
            self._make_attention(t, steps, f"blocks.{number}")
            self._make_mlp(t, steps, number)
        rest = t["positions"].astype(np.float64)
        rest[0] += t["class_token"]
        self._start = np.rint(rest * 2.0**FRACTION).astype(np.int32)  # what every image begins with, but for its patches

    def _ranged(self):
        yield "norm"
        for number in range(self.config["depth"]):
            yield from (f"blocks.{number}.{name}" for name in ("norm1", "q", "k", "v", "attention", "norm2", "hidden"))

    def _make_ends(self, t, steps):
        weight, step = t["patch.weight"], 1 / 255
        codes, scales = quantize_groups(weight)
        middle = (codes.astype(np.float64) * scales).sum(axis=1) * MIDDLE * step
        self._matrices["patch"] = make_matrix(weight, t["patch.bias"] + middle, step, FRACTION)
        for task in self.tasks:
            name = f"heads.{task}"
            self._matrices[name] = make_matrix(t[f"{name}.weight"], t[f"{name}.bias"], steps["norm"], FRACTION)

    def _make_attention(self, t, steps, block):
        q, k, v, out = (steps[f"{block}.{name}"] for name in ("q", "k", "v", "attention"))
        width = self.config["width"]
        self._matrices[f"{block}.qkv"] = make_matrix(
            t[f"{block}.qkv.weight"], t[f"{block}.qkv.bias"], steps[f"{block}.norm1"], NARROW_FRACTION,
            rows=np.repeat([q, k, v], width), narrow=(UNIT, UNIT.bit_length() - 1 + NARROW_FRACTION))
        self._matrices[f"{block}.proj"] = make_matrix(t[f"{block}.proj.weight"], t[f"{block}.proj.bias"], out, FRACTION)
        # Scores in units of log2 with EXP_FRACTION bits; results in units of ``out``: v's mantissa below 2**16, the rest a shift.
        scale, shift = rounding(q * k * math.log2(math.e) / math.sqrt(width // self.config["heads"]) * 2.0**EXP_FRACTION)
        fraction = max(0, math.ceil(math.log2(v / out)))
        mantissa = min((1 << 16) - 1, round(2.0**16 * v / out / 2.0**fraction))
        self._attending[block] = Attending(scale, UNIT, mantissa, shift + UNIT.bit_length() - 1, fraction)

    def _make_mlp(self, t, steps, number):
        block, step = f"blocks.{number}", steps[f"blocks.{number}.norm2"]
        inner = steps[f"{block}.hidden"]
        narrow = rounding(1 / inner / 2.0**ACTIVATION_FRACTION)
        part = f"{block}.experts" if self.has_experts(number) else block
        self._matrices[f"{part}.fc1"] = make_matrix(t[f"{part}.fc1.weight"], t[f"{part}.fc1.bias"], step, ACTIVATION_FRACTION,
                                                    gelu=True, narrow=narrow)
        self._matrices[f"{part}.fc2"] = make_matrix(t[f"{part}.fc2.weight"], t[f"{part}.fc2.bias"], inner, FRACTION)
        if self.has_experts(number):
            for task in self.tasks:
                gate = t[f"{part}.gates.{task}"]
                self._matrices[f"{part}.gates.{task}"] = make_matrix(gate, np.zeros(len(gate)), step, FRACTION)

    def forward(self, images, task, engines):
        """int32 [images, classes], logits with ``FRACTION`` fraction bits, of uint8 [images, side, side] that share jobs."""
        check_choice("task", task, self.tasks)
        count, width, tokens = len(images), self.config["width"], self.tokens
        pixels = (patches(images, self.config["patch"]).astype(np.int16) - MIDDLE).astype(np.int8)
        x = np.broadcast_to(self._start, (count, tokens, width)).copy()
        x[:, 1:] += engines.linear(pixels.reshape(-1, pixels.shape[2]), self._matrices["patch"]).reshape(count, tokens - 1, width)
        x = x.reshape(-1, width)
        for number in range(self.config["depth"]):
            block = f"blocks.{number}"
            x = add(x, self._attend(engines.norm(x, self._norms[f"{block}.norm1"]), block, count, engines))
            z = engines.norm(x, self._norms[f"{block}.norm2"])
            x = add(x, self._mlp(z, number, task, engines))
        ends = engines.norm(np.ascontiguousarray(x[::tokens]), self._norms["norm"])
        return engines.linear(ends, self._matrices[f"heads.{task}"])

    def _attend(self, z, block, count, engines):
        heads = self.config["heads"]
        parts = engines.linear(z, self._matrices[f"{block}.qkv"]).astype(np.int8)
        # [q k v, images and heads, tokens, features of a head]: to the engine an image's head is one more head.
        parts = parts.reshape(count, self.tokens, 3, heads, -1).transpose(2, 0, 3, 1, 4)
        parts = parts.reshape(3, count * heads, self.tokens, -1)
        y = engines.attention(*(np.ascontiguousarray(part) for part in parts), self._attending[block])
        y = np.clip(y, -PEAK, PEAK).astype(np.int8).reshape(count, heads, self.tokens, -1).swapaxes(1, 2)
        return engines.linear(np.ascontiguousarray(y).reshape(z.shape), self._matrices[f"{block}.proj"])

    def _mlp(self, z, number, task, engines):
        block = f"blocks.{number}"
        if not self.has_experts(number):
            h = engines.linear(z, self._matrices[f"{block}.fc1"]).astype(np.int8)
            return engines.linear(h, self._matrices[f"{block}.fc2"])
        part = f"{block}.experts"
        logits = engines.linear(z, self._matrices[f"{part}.gates.{task}"])
        scale = rounding(math.log2(math.e) * 2.0 ** (EXP_FRACTION - FRACTION))
        queues = engines.gate(logits, scale, self.config["top_k"])
        h = engines.gather(z, queues, self._matrices[f"{part}.fc1"]).astype(np.int8)
        return engines.scatter(h, queues, self._matrices[f"{part}.fc2"], len(z))


def add(x, y):
    """int32 x + y; OverflowError where that does not fit."""
    total = x.astype(np.int64) + y
    if total.size and max(-int(total.min()) - 1, int(total.max())) >= 1 << 31:
        raise OverflowError(f"the residual stream must fit 32 bits, got {total.min()}..{total.max()}")
    return total.astype(np.int32)
