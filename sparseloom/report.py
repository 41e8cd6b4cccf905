"""The demo's report: one HTML file without outside references, plots as inline SVG."""

import io
from collections import defaultdict
from importlib import resources

import jinja2
import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

__all__ = ["layer_rows", "render"]

_WIDTH = 9.0  # inches
_COLOURS = "tab10"


def render(result, calls, build, bases):
    """The report as HTML text.

    ``result``: what the demo prints as JSON. ``calls``: a dict for each product in order: layer, group, round, m, n, k,
    cycles, predicted, compared, wrong. ``bases``: what each basis means, by name.
    """
    rows = layer_rows(calls)
    decode = [call for call in calls if call["round"] == 1]
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "sparseloom", "font.size": 9}):
        plots = {"layers": _layers(decode), "timeline": _timeline(decode), "rounds": _rounds(calls),
                 "useful": _useful(decode, build)}
    template = resources.files("sparseloom").joinpath("templates/demo.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["count"] = "{:,}".format
    environment.filters["figure"] = "{:,.4g}".format
    return environment.from_string(template).render(result=result, rows=rows, plots=plots, bases=bases)


def layer_rows(calls):
    """One dict a group of layers of the same name but for their number: sums over its products."""
    rows = {}
    for call in calls:
        row = rows.setdefault(call["group"], defaultdict(int))
        row["products"] += 1
        row["work"] += call["m"] * call["n"] * call["k"]
        for name in ("cycles", "predicted", "compared", "wrong"):
            row[name] += call[name]
    return {name: dict(row) for name, row in rows.items()}


def _svg(figure):
    data = io.StringIO()
    figure.savefig(data, format="svg", metadata={"Date": None})
    text = data.getvalue()
    return text[text.index("<svg"):]  # without the XML declaration, which HTML does not take


def _axes(height):
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _layers(decode):
    """Cycles of each product of the first token after the prompt: bars measured, marks predicted."""
    figure, axes = _axes(3.2)
    places = range(len(decode))
    axes.bar(places, [call["cycles"] for call in decode], color="tab:blue", label="counted on the gates (rtl)")
    axes.plot(places, [call["predicted"] for call in decode], "x", color="tab:orange", markersize=4, label="closed form (exact)")
    axes.set_xticks(places, [call["layer"].removesuffix(".weight") for call in decode], rotation=90, fontsize=6)
    axes.set(ylabel="cycles", xlim=(-1, len(decode)))
    axes.legend(frameon=False)
    return _svg(figure)


def _timeline(decode):
    """When each product of that token runs, in cycles of the engine: the vector work between them takes no cycles of it."""
    groups = list(dict.fromkeys(call["group"] for call in decode))
    figure, axes = _axes(0.6 + 0.28 * len(groups))
    colours, start = matplotlib.colormaps[_COLOURS], 0
    for call in decode:
        lane = groups.index(call["group"])
        axes.broken_barh([(start, call["cycles"])], (lane - 0.4, 0.8), facecolors=[colours(lane % colours.N)])
        start += call["cycles"]
    axes.set_yticks(range(len(groups)), groups)
    axes.invert_yaxis()
    axes.set(xlabel="cycles since the token began (rtl)", xlim=(0, start))
    return _svg(figure)


def _rounds(calls):
    """Cycles of each pass through the model: the prompt, then a token each."""
    measured, predicted = defaultdict(int), defaultdict(int)
    for call in calls:
        measured[call["round"]] += call["cycles"]
        predicted[call["round"]] += call["predicted"]
    figure, axes = _axes(2.2)
    axes.bar(list(measured), list(measured.values()), color="tab:blue", label="counted on the gates (rtl)")
    axes.plot(list(predicted), list(predicted.values()), "x", color="tab:orange", markersize=4, label="closed form (exact)")
    axes.set(xlabel="pass through the model: 0 is the prompt, then one token each", ylabel="cycles")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return _svg(figure)


def _useful(decode, build):
    """Useful fraction of each layer at one token (dots, rtl) beside the closed form over the outputs n (lines, exact)."""
    figure, axes = _axes(2.8)
    colours = matplotlib.colormaps[_COLOURS]
    shapes = sorted({(call["k"], call["n"], call["cycles"]) for call in decode})
    inputs = sorted({k for k, *_ in shapes})
    sizes = sorted({max(1, round(build.max_n ** (step / 60))) for step in range(61)})
    for index, k in enumerate(inputs):
        if k <= build.max_k:
            jobs = [build.job(k=k, n=n) for n in sizes]
            fractions = [build.useful_fraction(job, build.cycles(job))["useful"] for job in jobs]
            axes.plot(sizes, fractions, color=colours(index), lw=1, label=f"k = {k}, closed form (exact)")
    for k, n, cycles in shapes:
        fraction = k * n / (build.rows * build.lanes * cycles)
        axes.plot([n], [fraction], "o", color=colours(inputs.index(k)))
        axes.annotate(f"{n} x {k}", (n, fraction), xytext=(5, -11), textcoords="offset points", fontsize=7)
    axes.set(xscale="log", xlabel="outputs n of the layer, one token", ylabel="useful fraction", ylim=(0, 1.05))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(frameon=False, loc="lower right")
    return _svg(figure)
