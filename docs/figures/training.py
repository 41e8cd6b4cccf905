"""The figure of N:M training: loss curves of dense and of BDWP training, the same seed, on one axis.

Drawn from ``nm_training.json``, which ``python benchmarks/nm_training.py accuracy --store ...`` writes: the mean loss of equal
stretches of steps, and the held-out answers of every seed.
"""

import json
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

__all__ = ["STORED", "draw_training", "training"]

STORED = Path(__file__).with_name("nm_training.json")
SHOWN = {"dense": "exact", "bdwp 2:8": "rtl"}
"""Runs and the parts of their colours."""
LEAST = 5e-4
"""Losses below are drawn at the lower edge."""


def training():
    """What the benchmark stored."""
    return json.loads(STORED.read_text(encoding="utf-8"))


def draw_training(colours):
    """Two curves; the legend tells the held-out accuracy, mean and span of the seeds, and the cycles of a step."""
    found = training()
    figure = Figure(figsize=(8.4, 3.3), layout="constrained")
    axes = figure.add_subplot()
    for name, part in SHOWN.items():
        steps, losses = found["curves"][name]
        row = found["rows"][name]
        shares = [100 * right / row["images"] for right in row["right"]]
        span = f"{min(shares):.1f} to {max(shares):.1f}, {len(shares)} seeds"
        label = f"{name}: {sum(shares) / len(shares):.1f} % right ({span}), {row['step_cycles']:,} cycles a step"
        axes.plot(steps, [max(loss, LEAST) for loss in losses], color=colours[part], lw=1.4, label=label)
    axes.set(yscale="log", ylim=(LEAST * 0.9, None), xlim=(0, steps[-1]), ylabel="training loss",
             xlabel=f"step ({found['epochs']} epochs of {found['data']})")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(color=colours["edge"], lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper right", fontsize=8)
    axes.patch.set_alpha(0)
    return figure
