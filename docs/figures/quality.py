"""The figure of SmolLM2 on the sparse chain: perplexity against bytes of weights and against cycles of a decode token.

Its rows are what benchmarks have measured: ``smollm2.json`` (``python benchmarks/smollm2.py formats --store ...``) and every
other JSON file that RESULTS names and that is there. A row: ``weights`` and ``activations`` in words, ``passage``,
``perplexity``, ``float_perplexity`` (of the weights as shipped), ``bytes``, ``cycles``.
"""

import json
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, ScalarFormatter

__all__ = ["RESULTS", "draw_quality", "measured"]

RESULTS = ("smollm2.json", "compress.json")
PASSAGE = "gpl-3-512"
WORST = 100.0
"""Perplexities beyond are drawn at the upper edge, with their figure."""


def measured():
    """The rows on the passage, in the order of their bytes; at least one."""
    files = [Path(__file__).with_name(name) for name in RESULTS]
    rows = [row for path in files if path.is_file() for row in json.loads(path.read_text()) if row["passage"] == PASSAGE]
    return sorted(rows, key=lambda row: (row["bytes"], row["perplexity"]))


def draw_quality(colours):
    """Two panels with one scale of perplexity; numbers name the rows, whose list stands to the right."""
    rows = measured()
    figure = Figure(figsize=(8.4, 3.3 + 0.09 * max(0, len(rows) - 6)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    base = rows[0]["float_perplexity"]
    shown = [min(row["perplexity"], WORST) for row in rows]
    places = {"MB of weights a token": [row["bytes"] / 1e6 for row in rows],
              "million cycles a decode token, 512-bit stream": [row["cycles"] / 1e6 for row in rows]}
    for axes, (label, values) in zip(panels, places.items(), strict=True):
        axes.axhline(base, color=colours["muted"], lw=0.9, ls=(0, (4, 3)))
        sides = {}
        for number, (row, x, y) in enumerate(zip(rows, values, shown, strict=True), 1):
            side = sides[round(x, 1)] = -sides.get(round(x, 1), 1)  # rows of one size: their numbers left and right in turn
            axes.plot(x, y, "o" if y < WORST else "^", color=_colour(row, colours), ms=5.5)
            text = f"{number}" if y < WORST else f"{number}: {row['perplexity']:,.0f}"
            axes.annotate(text, (x, y), (5 * side, 0), textcoords="offset points", ha="left" if side > 0 else "right",
                          va="center", fontsize=8, fontweight="bold", color=_colour(row, colours))
        axes.set(xlabel=label, xlim=(0, 1.12 * max(values)), yscale="log", ylim=(0.93 * min(base, *shown), 1.12 * max(shown)))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
        ticks = [tick for tick in (16, 18, 20, 25, 30, 40, 60, 100) if axes.get_ylim()[0] < tick < axes.get_ylim()[1]]
        axes.set_yticks(ticks)
        axes.set_yticks([], minor=True)
        axes.grid(color=colours["edge"], lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.patch.set_alpha(0)
    panels[0].set_ylabel(f"perplexity, {PASSAGE}")
    names = [f"{number}  {row['weights']}; {row['activations']}" for number, row in enumerate(rows, 1)]
    handles = [Line2D([], [], ls="", marker="o", color=_colour(row, colours), ms=5) for row in rows]
    handles.append(Line2D([], [], color=colours["muted"], lw=0.9, ls=(0, (4, 3))))
    names.append(f"float activations, weights as shipped: {base:.2f}")
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, fontsize=7.5)
    return figure


def _colour(row, colours):
    """As shipped, rounded, or compressed with calibration."""
    words = row["weights"]
    return colours["exact" if "as shipped" in words else "rtl" if "rounded" in words else "same"]
