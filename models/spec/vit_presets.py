"""Presets of vision transformers with experts: accelerators that others published, as configurations of our engines."""

from dataclasses import dataclass, fields

from .boards import Figure

__all__ = ["VIT_PRESETS", "VitPreset"]


@dataclass(frozen=True, kw_only=True)
class VitPreset:
    """A machine of ``modules`` attention engines, which share the heads, one linear engine, one norm engine, one gate.

    ``queries`` in parallel with ``attention_lanes`` each; a linear block of ``rows`` x ``lanes`` for ``tokens`` tokens a cycle;
    weights come with ``beat_bytes`` a cycle; ``norm_lanes`` elements a cycle in the norms. ``score`` and ``attention_bits`` as
    the attention engine has them.
    """

    name: str
    about: str
    clock: Figure
    bandwidth: Figure
    modules: Figure
    queries: Figure
    attention_lanes: Figure
    attention_bits: Figure
    score: Figure
    tokens: Figure
    rows: Figure
    lanes: Figure
    beat_bytes: Figure
    norm_lanes: Figure

    @property
    def figures(self):
        """Every field that is a figure, by name."""
        return {field.name: value for field in fields(self) if isinstance(value := getattr(self, field.name), Figure)}

    @property
    def assumed(self):
        """Names of the fields that nobody published and that are not our choice either."""
        return [name for name, figure in self.figures.items() if figure.basis == "assumed"]


_EDGE = "Edge-MoE, sharc-lab/Edge-MoE at 984b23b"
_UBI = "UbiMoE, DJ000011/UbiMoE at 9b71311"
_UBI_PAPER = "UbiMoE, arXiv 2502.05602"
_M3VIT = "M3ViT, arXiv 2210.14793"
_OUR_BITS = Figure(8, "ours", "int8 operands with 16-bit scales; published is W16A32")
_OUR_NORM = Figure(8, "ours", "elements a cycle in the norms: a beat of the published 256-bit port at 32 bits")
_DDR = Figure(19.2e9, "assumed", "64-bit DDR4-2400 of the processor side, the peak; the papers do not tell")

VIT_PRESETS = {preset.name: preset for preset in (
    VitPreset(
        name="ubimoe-zcu102",
        about="UbiMoE on a ZCU102: streaming attention, a linear kernel for three tokens, one MoE-ViT image at a time",
        clock=Figure(300e6, "published", _UBI_PAPER), bandwidth=_DDR,
        modules=Figure(1, "published", f"one attention dataflow, {_UBI}"),
        queries=Figure(4, "published", f"cached queries, {_UBI}"),
        attention_lanes=Figure(8, "published", f"activations a beat of 256 bits, {_UBI}"), attention_bits=_OUR_BITS,
        score=Figure("two_pass", "published", f"a maximum first, then exponentials, {_UBI}"),
        tokens=Figure(3, "published", f"three PEs, {_UBI}"), rows=Figure(16, "published", f"16 x 16 blocks, {_UBI}"),
        lanes=Figure(16, "published", f"16 x 16 blocks, {_UBI}"),
        beat_bytes=Figure(32, "published", f"256-bit AXI ports, {_UBI}"), norm_lanes=_OUR_NORM,
    ),
    VitPreset(
        name="ubimoe-u280",
        about="UbiMoE on an Alveo U280; its configuration there was not published",
        clock=Figure(200e6, "published", _UBI_PAPER),
        bandwidth=Figure(460e9, "published", "HBM2, Alveo U280 data sheet; the peak, not what a design sustains"),
        modules=Figure(3, "assumed", "one a head: 3413 DSP slices are told, not how they are used"),
        queries=Figure(4, "assumed", "as on the ZCU102"), attention_lanes=Figure(16, "assumed", "twice the ZCU102's"),
        attention_bits=_OUR_BITS, score=Figure("two_pass", "published", f"a maximum first, then exponentials, {_UBI}"),
        tokens=Figure(4, "assumed", "1.8 times the DSP slices of the ZCU102"), rows=Figure(16, "assumed", "as on the ZCU102"),
        lanes=Figure(32, "assumed", "1.8 times the DSP slices of the ZCU102"),
        beat_bytes=Figure(64, "assumed", "two 256-bit ports"), norm_lanes=_OUR_NORM,
    ),
    VitPreset(
        name="edgemoe-zcu102",
        about="Edge-MoE on a ZCU102: reordered attention, one unified linear kernel, experts one after the other",
        clock=Figure(300e6, "published", f"bitstream 299.97 MHz, {_EDGE}"), bandwidth=_DDR,
        modules=Figure(1, "published", _EDGE), queries=Figure(4, "published", f"four queries, {_EDGE}"),
        attention_lanes=Figure(8, "published", f"32 MAC a cycle for QK and for AV, {_EDGE}"), attention_bits=_OUR_BITS,
        score=Figure("online", "published", f"softmax in one pass, {_EDGE}"),
        tokens=Figure(1, "published", f"one 16 x 16 block a cycle, {_EDGE}"), rows=Figure(16, "published", _EDGE),
        lanes=Figure(16, "published", _EDGE), beat_bytes=Figure(32, "published", f"256-bit AXI, {_EDGE}"), norm_lanes=_OUR_NORM,
    ),
    VitPreset(
        name="m3vit-zcu104",
        about="M3ViT's accelerator on a ZCU104; an optimistic estimation, say Edge-MoE's authors: nothing of it was built",
        clock=Figure(300e6, "assumed", "not told"), bandwidth=_DDR,
        modules=Figure(1, "assumed", "not told"), queries=Figure(4, "assumed", "as Edge-MoE, by the same authors"),
        attention_lanes=Figure(8, "assumed", "as Edge-MoE"), attention_bits=_OUR_BITS,
        score=Figure("two_pass", "assumed", "not told"),
        tokens=Figure(1, "assumed", "as Edge-MoE"), rows=Figure(16, "assumed", "as Edge-MoE"),
        lanes=Figure(16, "assumed", "as Edge-MoE"), beat_bytes=Figure(32, "assumed", "as Edge-MoE"),
        norm_lanes=_OUR_NORM,
    ),
    VitPreset(
        name="sparseloom-zcu102",
        about="our own machine within UbiMoE's DSP slices on a ZCU102: what our engines make of the same chip",
        clock=Figure(300e6, "assumed", "what Edge-MoE and UbiMoE reach on this part; ours was not placed"), bandwidth=_DDR,
        modules=Figure(1, "ours", "chosen"), queries=Figure(4, "ours", "chosen"), attention_lanes=Figure(32, "ours", "chosen"),
        attention_bits=Figure(8, "ours", "int8 operands with 16-bit scales"), score=Figure("two_pass", "ours", "the smallest"),
        tokens=Figure(4, "ours", "chosen"), rows=Figure(16, "ours", "chosen"), lanes=Figure(32, "ours", "chosen"),
        beat_bytes=Figure(64, "ours", "all of the memory's bandwidth at this clock"), norm_lanes=Figure(16, "ours", "chosen"),
    ),
)}
