"""The figure of an image's schedule: which engine works when, by the closed forms; the whole image and two of its blocks."""

from matplotlib.figure import Figure

from sparseloom.models.spec.vit_presets import VIT_PRESETS
from sparseloom.models.zoo.vit_shapes import M3VIT_TINY
from sparseloom.perfmodel.vit import VitMachine, image_steps

__all__ = ["draw_schedule"]

ROWS = {"linear": "linear", "attention": "attention", "norm": "norms", "gate": "gate"}
PRESET, BLOCKS = "sparseloom-zcu102", (0, 1)
SHORT = {"query, key, value": "q k v", "projection": "proj", "experts up": "experts, up", "experts down": "experts, down"}


def draw_schedule(colours):
    """An image of M3ViT-tiny, 129 tokens, on our own machine for a ZCU102."""
    machine = VitMachine.of(VIT_PRESETS[PRESET], M3VIT_TINY)
    spans, now = [], 0
    for block, step in image_steps(machine, M3VIT_TINY):
        spans.append((block, step, now))
        now += step.cycles
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(1, 1.25))
    _draw(above, colours, spans)
    _draw(below, colours, [span for span in spans if span[0] in BLOCKS], labels=True)
    shown = [start for block, _, start in spans if block in BLOCKS]
    last = max(start + step.cycles for block, step, start in spans if block in BLOCKS)
    above.axvspan(min(shown) / 1e3, last / 1e3, color=colours["muted"], alpha=0.18, lw=0)
    above.set_title(f"One image of M3ViT-tiny on {PRESET}: {now:,} cycles, {1e3 * now / machine_clock():.2f} ms at "
                    f"{machine_clock() / 1e6:.0f} MHz", color=colours["text"], fontsize=10)
    below.set_title("its first two blocks, dense and with 16 experts", color=colours["text"], fontsize=9)
    below.set_xlabel("thousand cycles, by the closed forms")
    return figure


def machine_clock():
    return VIT_PRESETS[PRESET].clock.value


def _draw(axes, colours, spans, labels=False):
    inks = {"linear": colours["exact"], "attention": colours["rtl"], "norm": colours["same"], "gate": colours["text"]}
    width = max(start + step.cycles for _, step, start in spans) - min(start for _, _, start in spans)
    for row, where in enumerate(ROWS):
        own = [(start / 1e3, step.cycles / 1e3) for _, step, start in spans if step.where == where]
        axes.broken_barh(own, (row - 0.36, 0.72), facecolors=inks[where], edgecolor=colours["box"], linewidth=0.4 * labels)
    for _, step, start in spans if labels else ():
        if step.cycles > 0.045 * width:
            name = SHORT.get(step.name, step.name)
            axes.text((start + step.cycles / 2) / 1e3, list(ROWS).index(step.where) + 0.02, name, ha="center", va="center",
                      fontsize=7, color="#ffffff", rotation=90 if step.cycles < 0.09 * width else 0)
    axes.set_yticks(range(len(ROWS)), ROWS.values())
    axes.set_ylim(len(ROWS) - 0.5, -0.5)
    axes.patch.set_visible(False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
