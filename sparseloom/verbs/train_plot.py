"""The pictures behind ``train --plot FILE``: loss curves as an image, or as one HTML page without outside references."""

import os

from .plots import PLOT_FORMATS, write_figure

__all__ = ["CURVE_FORMATS", "smoothed", "write_curves"]

CURVE_FORMATS = (*PLOT_FORMATS, "html")
_WINDOW = 25


def smoothed(losses, window=_WINDOW):
    """The mean of each loss and up to ``window`` - 1 before it."""
    sums, total = [], 0.0
    for place, loss in enumerate(losses):
        total += loss - (losses[place - window] if place >= window else 0.0)
        sums.append(total / min(place + 1, window))
    return sums


def write_curves(path, curves, title):
    """Write the loss ``curves`` {name: losses of steps 1, 2, ...} on one axis, all or nothing, in the format of the suffix."""
    (_html if path.suffix == ".html" else _image)(path, curves, title)


def _image(path, curves, title):
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, losses in curves.items():
        line, = axes.plot(range(1, len(losses) + 1), losses, lw=0.6, alpha=0.35)
        axes.plot(range(1, len(losses) + 1), smoothed(losses), lw=1.6, color=line.get_color(),
                  label=f"{name} (mean of {_WINDOW} steps)")
    axes.set(xlabel="step", ylabel="training loss", yscale="log", title=title)
    axes.grid(alpha=0.3, which="both")
    if curves:
        axes.legend(frameon=False)
    with matplotlib.rc_context({"svg.hashsalt": "sparseloom"}):  # the same curves make the same bytes
        write_figure(path, figure)


def _html(path, curves, title):
    import plotly.graph_objects as go

    figure = go.Figure(layout={"title": title, "xaxis": {"title": "step"}, "yaxis": {"title": "training loss", "type": "log"}})
    for name, losses in curves.items():
        steps = list(range(1, len(losses) + 1))
        figure.add_scatter(x=steps, y=list(losses), name=name, opacity=0.35, mode="lines")
        figure.add_scatter(x=steps, y=smoothed(losses), name=f"{name} (mean of {_WINDOW} steps)", mode="lines")
    part = path.with_name(path.name + ".part")
    part.write_text(figure.to_html(include_plotlyjs=True, div_id="losses"), encoding="utf-8")
    os.replace(part, path)
