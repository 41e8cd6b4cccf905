"""Draws the figures of the documents, each for light and for dark pages, as SVG with its letters as outlines.

python docs/figures/make.py [--to FOLDER] [--png]
"""

import argparse
import io
import os
from pathlib import Path

import matplotlib
from chain import draw_chain
from diagram import draw_house
from fraction import draw_fraction
from quality import draw_quality
from schedule import draw_schedule
from training import draw_training

__all__ = ["FIGURES", "THEMES", "render"]

FIGURES = {"house": draw_house, "schedule": draw_schedule, "smollm2": draw_quality, "sparse_chain": draw_chain,
           "training": draw_training, "useful_fraction": draw_fraction}
THEMES = {
    "light": {"text": "#1f2328", "muted": "#59636e", "line": "#818b98", "box": "#f6f8fa", "edge": "#d1d9e0",
              "exact": "#0969da", "rtl": "#bc4c00", "same": "#1a7f37"},
    "dark": {"text": "#e6edf3", "muted": "#9198a1", "line": "#6e7681", "box": "#151b23", "edge": "#3d444d",
             "exact": "#58a6ff", "rtl": "#f0883e", "same": "#3fb950"},
}
"""Colours by their part in a figure; ``exact`` and ``rtl`` are what is so by closed form and what is counted on gates."""

_STYLE = {"svg.fonttype": "path", "svg.hashsalt": "sparseloom", "font.family": "DejaVu Sans", "font.size": 9}


def render(name, theme, form="svg"):
    """The bytes of a figure; the same in every run."""
    colours = THEMES[theme]
    ink = dict.fromkeys(("text.color", "axes.labelcolor"), colours["text"])
    ink |= dict.fromkeys(("xtick.color", "ytick.color", "axes.edgecolor"), colours["muted"])
    data = io.BytesIO()
    with matplotlib.rc_context(_STYLE | ink):
        figure = FIGURES[name](colours)
        page = {"light": "#ffffff", "dark": "#0d1117"}[theme] if form == "png" else "none"
        figure.savefig(data, format=form, dpi=110, facecolor=page, metadata={"Date": None} if form == "svg" else None)
    return data.getvalue()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=Path(__file__).parent, help="the folder to write to (default: this one)")
    parser.add_argument("--png", action="store_true", help="PNG on an opaque page instead, to look at")
    args = parser.parse_args()
    args.to.mkdir(parents=True, exist_ok=True)
    for name in FIGURES:
        for theme in THEMES:
            path = args.to / f"{name}-{theme}.{'png' if args.png else 'svg'}"
            part = path.with_name(path.name + ".part")
            part.write_bytes(render(name, theme, path.suffix[1:]))
            os.replace(part, path)
            print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
