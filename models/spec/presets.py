"""Presets: machines that others built, put onto our engine. Every field says whether it is published, assumed or ours."""

from dataclasses import dataclass, fields
from math import ceil

from .boards import Figure
from .nm_presets import NM_PRESETS
from .sparse_chain import SparseChain
from .sparse_job import POSITIONS
from .vit_presets import VIT_PRESETS

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A machine of ``cores``, each of ``multipliers``, as engines of ``chains`` chains side by side: they share the rows of a
    matrix, a tile of ``chains`` rows at a time, and the ``bandwidth`` (bytes/s) of the memory that holds the weights.

    Of each ``group`` weights ``least_nnz`` or more are kept. ``weight_bits`` is an average: ``upper_blocks`` blocks of the model
    have it rounded up, the others rounded down. ``sparse_density`` of the weights of the query and key projections is kept: of
    each ``block`` columns all, or half of each group. ``scale_group`` columns share a scale, of weights and of activations.
    """

    name: str
    about: str
    clock: Figure
    bandwidth: Figure
    cores: Figure
    multipliers: Figure
    tokens: Figure
    group_dsps: Figure
    group: Figure
    least_nnz: Figure
    max_bits: Figure
    weight_bits: Figure
    upper_blocks: Figure
    sparse_density: Figure
    scale_group: Figure
    chains: Figure
    block: Figure
    max_k: Figure
    max_n: Figure
    max_m: Figure

    @property
    def figures(self):
        """Every field that is a figure, by name."""
        return {field.name: value for field in fields(self) if isinstance(value := getattr(self, field.name), Figure)}

    @property
    def assumed(self):
        """Names of the fields that nobody published and that are not our choice either."""
        return [name for name, figure in self.figures.items() if figure.basis == "assumed"]

    @property
    def engines(self):
        """Engines of the whole machine."""
        return self.cores.value * self.multipliers.value // (POSITIONS * self.chains.value)

    def build(self, **least):
        """The engine, with maxima ``max_<shape>`` at least as large as the shapes ``least``."""
        maxima = {f"max_{name}": max(getattr(self, f"max_{name}").value, least.get(name, 0)) for name in ("k", "n", "m")}
        return SparseChain(chains=self.chains.value, window=POSITIONS * self.group.value // self.least_nnz.value,
                           tokens=self.tokens.value, max_bits=self.max_bits.value, group_dsps=self.group_dsps.value,
                           target="dsp48e2", **maxima)

    @property
    def form(self):
        """What jobs say beside their shape: dense, bits rounded up, scales as the preset has them."""
        return {"bits": ceil(self.weight_bits.value), "nnz": self.group.value, "group": self.group.value,
                "scale_group": self.scale_group.value, "x_group": self.scale_group.value}


_PAPER = "FlightLLM, arXiv 2401.03868"
_PROFILE = "FlightLLM/flightllm_test_demo at 4a96251, profile/config.yaml"
_SHARED = {
    "tokens": Figure(2, "published", f"two int8 products a DSP48, {_PAPER}, section 3"),
    "group_dsps": Figure(2, "published", f"the drawn DSP group has two DSP48, {_PAPER}, section 3"),
    "group": Figure(16, "published", f"N:16, {_PAPER}; sparse blocks of 16 x 16 in {_PROFILE}"),
    "least_nnz": Figure(2, "published", f"N of 2, 4, 8, 16, {_PROFILE}"),
    "max_bits": Figure(8, "published", f"weights of 2, 3, 4, 8 bits, {_PAPER}"),
    "scale_group": Figure(128, "assumed", "how many weights share a scale is not told"),
    "chains": Figure(32, "ours", "an engine with beats of 1024 bits; tiles of 32 rows divide the matrices of LLaMA2-7B"),
    "block": Figure(128, "ours", "columns with one N:16 ratio; the published 16 x 16 is below our least block"),
    "max_k": Figure(11008, "ours", "the widest matrix of LLaMA2-7B"),
    "max_n": Figure(32000, "ours", "the tallest matrix of LLaMA2-7B"),
    "max_m": Figure(128, "ours", "a prefill of 128 in one pass over the weights"),
}

PRESETS = {preset.name: preset for preset in (
    Preset(
        name="flightllm-u280",
        about="FlightLLM's machine on an Alveo U280, mapped onto sparse_chain engines",
        clock=Figure(225e6, "published", _PAPER),
        bandwidth=Figure(460e9, "published", "HBM2, Alveo U280 data sheet; the peak, not what a design sustains"),
        cores=Figure(3, "published", f"one core an SLR, {_PAPER}; the U280 has three"),
        multipliers=Figure(2048, "assumed", "as on the VHK158; 3 x 2048 of the 6345 DSP slices that the paper tells"),
        weight_bits=Figure(3.5, "published", f"average, {_PAPER}"),
        upper_blocks=Figure(16, "assumed", "which matrices have how many bits is not told"),
        sparse_density=Figure(0.7, "assumed", "as in the profile of the VHK158"),
        **_SHARED,
    ),
    Preset(
        name="flightllm-vhk158",
        about="FlightLLM's machine on a VHK158, as its authors simulated it, mapped onto sparse_chain engines",
        clock=Figure(225e6, "published", _PROFILE),
        bandwidth=Figure(819.2e9, "published", f"HBM2e, {_PROFILE}; the peak, not what a design sustains"),
        cores=Figure(4, "published", f"SLRs, {_PROFILE}"),
        multipliers=Figure(2048, "published", f"2 x 16 x 128 products a cycle and SLR, two a DSP, {_PROFILE}"),
        weight_bits=Figure(4, "published", "the profile charges weights as INT4, profile/IR_linear_mv.py"),
        upper_blocks=Figure(32, "published", "all weights alike"),
        sparse_density=Figure(0.7, "published", "sparse ratio of 64 matrices of 4096 x 4096 (q, k), the profile's LLaMA2-7B"),
        **_SHARED,
    ),
)} | VIT_PRESETS | NM_PRESETS
