"""The figure of useful stream fractions: closed forms of four builds over square matrices."""

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

from sparseloom.models.spec.ternary import TernaryEngine

__all__ = ["draw_fraction", "fraction"]

LANES = 20
ROWS = {128: 4, 512: 16}
"""Rows by the bits of a beat: rows x lanes trits, five to the byte."""
LEAST, MOST, STEP = 64, 4096, 32
"""Sizes of a curve: multiples of STEP, as models have them. The saw teeth are padding to whole beats."""
MARKED = (256, 1024)


def fraction(datapath, bits, size):
    """Useful fraction of the weight stream for one token and K = N = ``size``."""
    build = TernaryEngine(rows=ROWS[bits], lanes=LANES, datapath=datapath)
    job = build.job(k=size, n=size)
    return build.useful_fraction(job, build.cycles(job))["stream"]


def draw_fraction(colours):
    """Two panels, a datapath each; dots at powers of two, figures where a README quotes them."""
    figure = Figure(figsize=(8.4, 3.5), layout="constrained")
    powers = [2**p for p in range(LEAST.bit_length() - 1, MOST.bit_length())]
    between = range(LEAST, MOST + 1, STEP)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, datapath in zip(panels, ("tree", "table"), strict=True):
        for bits, colour, offset in ((128, colours["exact"], (0, 7)), (512, colours["rtl"], (13, -13))):
            axes.plot(between, [fraction(datapath, bits, size) for size in between], color=colour, lw=1.0, alpha=0.6)
            axes.plot(powers, [fraction(datapath, bits, size) for size in powers], "o", color=colour, ms=4.5,
                      label=f"{bits}-bit stream, {ROWS[bits]} rows x {LANES} lanes")
            for size in MARKED:
                value = fraction(datapath, bits, size)
                axes.annotate(f"{100 * value:.1f} %", (size, value), offset, textcoords="offset points", ha="center",
                              color=colour, fontsize=8, fontweight="bold")
        axes.set_title(f"datapath {datapath}", fontsize=10, fontweight="bold", loc="left")
        axes.set(xscale="log", xticks=powers, xlabel="K = N, one token", ylim=(0, 1.07), xlim=(LEAST * 0.87, MOST * 1.15))
        axes.set_xticklabels(powers)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(color=colours["edge"], lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower right", fontsize=8)
        axes.patch.set_alpha(0)
    panels[0].set_ylabel("useful weight bits / stream bits offered")
    return figure
