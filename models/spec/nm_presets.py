"""Presets of N:M sparse training: the machine that others published, and our own on the same board."""

from dataclasses import dataclass, fields

from .boards import BOARDS, Figure

__all__ = ["NM_PRESETS", "NmPreset"]


@dataclass(frozen=True, kw_only=True)
class NmPreset:
    """``engines`` training arrays of ``rows`` x ``cols`` PEs with ``slots`` sums each, ``words`` words of A a beat; blocks of
    ``ws_rows`` rows in weight-stationary products; ``hold_bytes`` an array for weights on chip. Updates take ``update_lanes``
    weights a cycle; pruners ``prune_lanes`` columns of ``prune_values`` weights. ``nnz`` of ``group`` is what answers are for."""

    name: str
    about: str
    clock: Figure
    bandwidth: Figure
    engines: Figure
    rows: Figure
    cols: Figure
    slots: Figure
    words: Figure
    ws_rows: Figure
    hold_bytes: Figure
    update_lanes: Figure
    prune_lanes: Figure
    prune_values: Figure
    nnz: Figure
    group: Figure

    @property
    def figures(self):
        """Every field that is a figure, by name."""
        return {field.name: value for field in fields(self) if isinstance(value := getattr(self, field.name), Figure)}

    @property
    def assumed(self):
        """Names of the fields that nobody published and that are not our choice either."""
        return [name for name, figure in self.figures.items() if figure.basis == "assumed"]


_SAT = "SAT with BDWP, arXiv 2309.13015"
_PATTERN = {"nnz": Figure(2, "published", f"2:8, {_SAT}"), "group": Figure(8, "published", f"2:8, {_SAT}")}
_CHOSEN = {
    "slots": Figure(16, "ours", "sums that share a PE: the most that our array takes"),
    "ws_rows": Figure(512, "ours", "chosen"),
    "hold_bytes": Figure(2**21, "ours", "an array's share of the memory on chip for weights; the part has 43 MB in all"),
}

NM_PRESETS = {preset.name: preset for preset in (
    NmPreset(
        name="sat-vcu1525",
        about="SAT on a VCU1525: bidirectional N:M weight pruning in training, mapped onto our training array",
        clock=Figure(200e6, "assumed", "told at second hand as of this class; not verified"),
        bandwidth=BOARDS["vcu1525"].bandwidth,
        engines=Figure(1, "assumed", "not told"),
        rows=Figure(32, "assumed", "told at second hand; not verified"),
        cols=Figure(32, "assumed", "told at second hand; not verified"),
        words=Figure(2, "ours", "the fewest that keep 32 rows busy"),
        update_lanes=Figure(16, "assumed", "width of the published vector engine: not told"),
        prune_lanes=Figure(32, "published", f"32 lanes of the online reduction engine, {_SAT}, read at second hand"),
        prune_values=Figure(1, "published", f"group cycles a group, {_SAT}, read at second hand"),
        **_CHOSEN, **_PATTERN,
    ),
    NmPreset(
        name="sparseloom-vcu1525",
        about="our own machine of as many PEs on a VCU1525: two narrow arrays, which waste less on layers of 64 channels",
        clock=BOARDS["vcu1525"].clock, bandwidth=BOARDS["vcu1525"].bandwidth,
        engines=Figure(2, "ours", "chosen"), rows=Figure(32, "ours", "chosen"),
        cols=Figure(16, "ours", "the least tile has four columns a column of PEs: 64, as the narrowest layers"),
        words=Figure(2, "ours", "the fewest that keep 32 rows busy"),
        update_lanes=Figure(16, "ours", "chosen"), prune_lanes=Figure(16, "ours", "as the arrays' columns"),
        prune_values=Figure(4, "ours", "a group of eight in two cycles, as its two results take"),
        **_CHOSEN, **_PATTERN,
    ),
)}
