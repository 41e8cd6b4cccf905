"""The pictures behind ``--plot FILE``."""

import dataclasses
import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["PLOT_FORMATS", "PlotOption", "cycles_plot", "useful_fraction_plot", "write_figure"]

PlotOption = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw a picture (.png, .svg or .pdf).")]

PLOT_FORMATS = ("png", "svg", "pdf")
# No dates in the files: the same figures make the same bytes.
_UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
_POINTS_PER_DOUBLING = 4


def write_figure(path, figure):
    """Write a matplotlib figure, all or nothing, in the format of the file's suffix."""
    data = io.BytesIO()
    form = path.suffix[1:]
    figure.savefig(data, format=form, dpi=150, metadata=_UNDATED.get(form))
    part = path.with_name(path.name + ".part")
    part.write_bytes(data.getvalue())
    os.replace(part, path)


def useful_fraction_plot(path, build, job):
    """The useful fraction against each size of the job that has a maximum ``max_<size>`` in the build, the others held; sizes
    that make no legal job are left out."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for field in dataclasses.fields(build):
        name, most = field.name.removeprefix("max_"), getattr(build, field.name)
        if not field.name.startswith("max_") or not hasattr(job, name):
            continue
        value = getattr(job, name)
        count = most.bit_length() * _POINTS_PER_DOUBLING
        jobs = {}
        for size in sorted({round(most ** (step / count)) for step in range(count + 1)}):
            with suppress(ValueError):  # a size that the job's format has no place for
                jobs[size] = build.resized(job, **{name: size})
        useful = [build.useful_fraction(each, build.cycles(each))["useful"] for each in jobs.values()]
        line, = axes.plot(list(jobs), useful, label=name)
        axes.plot([value], [build.useful_fraction(job, build.cycles(job))["useful"]], "o", color=line.get_color())
    axes.set(xscale="log", xlabel="size, the others as asked (dots)", ylabel="useful fraction of the peak", ylim=(0, 1.02),
             title=f"{build.name}: closed form (basis: exact)")
    axes.grid(alpha=0.3)
    axes.legend()
    write_figure(path, figure)


def cycles_plot(path, title, cycles):
    """Bars of the closed-form cycles (dict from name to cycles of one token), the first at the top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 1.2 + 0.3 * len(cycles)), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(list(cycles), list(cycles.values()))
    axes.bar_label(bars, fmt="{:,.0f}", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set(xlabel="cycles a token, all layers of the name together (basis: exact)", title=title)
    write_figure(path, figure)
