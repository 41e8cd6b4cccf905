"""The figure of the house: a model file on its way to gates, and what is inside the ternary engine."""

from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

__all__ = ["Sketch", "draw_house"]

WIDTH, HEIGHT = 124, 70
UNITS_AN_INCH = 12.6
BEAT = ("+0-+00-+-0", "0+-0+0--0+", "-+0+-+00-0", "0-+0-0+0+-")  # any trits: what a beat of weights looks like


class Sketch:
    """Boxes and arrows on a plane of ``width`` x ``height`` units, the origin at the lower left."""

    def __init__(self, colours, width=WIDTH, height=HEIGHT):
        self.colours = colours
        self.figure = Figure(figsize=(width / UNITS_AN_INCH, height / UNITS_AN_INCH))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height))
        self.axes.axis("off")

    def box(self, x, y, width, height, title, text="", colour="edge"):
        """A box with its lower left corner at (x, y), a title and lines of text below it."""
        plain, edge = colour == "edge", self.colours[colour]
        self.axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=1.1",
                                           fc=self.colours["box"], ec=edge, lw=1.0 if plain else 1.6))
        lines = text.splitlines()
        top = y + height / 2 + 1.3 * len(lines)
        self.text(x + width / 2, top, title, self.colours["text"] if plain else edge, 10, weight="bold")
        for number, line in enumerate(lines):
            self.text(x + width / 2, top - 3.0 - 2.5 * number, line, size=8)

    def text(self, x, y, text, colour=None, size=8.0, **options):
        options = {"ha": "center", "va": "center"} | options
        self.axes.text(x, y, text, color=colour or self.colours["muted"], fontsize=size, **options)

    def port(self, x, y, name):
        self.text(x, y, name, self.colours["text"], 9, weight="bold", ha="left")

    def arrow(self, start, end, colour="line", bend=0.0):
        self.axes.add_patch(FancyArrowPatch(
            start, end, arrowstyle="-|>,head_length=4,head_width=2.2", connectionstyle=f"arc3,rad={bend}",
            color=self.colours[colour], lw=1.4, shrinkA=0, shrinkB=0))

    def beat(self, x, y, cell):
        """A beat of weights, +1 and -1 in two colours, 0 empty."""
        for row, trits in enumerate(BEAT):
            for column, trit in enumerate(trits):
                ink = {"+": self.colours["exact"], "-": self.colours["rtl"], "0": "none"}[trit]
                corner = (x + column * cell, y + row * cell)
                self.axes.add_patch(Rectangle(corner, cell, cell, fc=ink, ec=self.colours["line"], lw=0.5))


def draw_house(colours):
    """Above, the way of a model; below, the engine that all its products run on."""
    sketch = Sketch(colours)
    _way(sketch)
    _engine(sketch)
    return sketch.figure


def _way(sketch):
    sketch.box(1, 48, 19, 12, "model file", "GGUF or safetensors\nwith ternary weights")
    sketch.box(26, 48, 17, 12, "graph", "layers: trits [n, k]\nand their scales")
    sketch.box(49, 48, 17, 12, "plan", "tiles, jobs, packed\n1.6-bit streams")
    sketch.box(74, 57.5, 24, 11, "golden, closed form", "integers by definition,\ncycles by formula", "exact")
    sketch.box(74, 39.5, 24, 11, "gates", "Amaranth, to Verilog,\nto compiled simulation", "rtl")
    sketch.box(106, 39.5, 17, 11, "kernel", "AXI, registers, bench,\nfor your toolchain")
    for start, end in ((20, 26), (43, 49)):
        sketch.arrow((start, 54), (end, 54))
    sketch.arrow((66, 56), (74, 62.5), "exact", -0.18)
    sketch.arrow((66, 52), (74, 45.5), "rtl", 0.18)
    sketch.arrow((98, 45), (106, 45))
    sketch.axes.plot([86, 86], [50.5, 57.5], color=sketch.colours["same"], lw=1.8, zorder=0)
    sketch.axes.add_patch(Circle((86, 54), 2.5, fc=sketch.colours["box"], ec=sketch.colours["same"], lw=1.8))
    sketch.text(86, 53.95, "=", sketch.colours["same"], 15, weight="bold")
    sketch.text(89.6, 54, "every result, every cycle", sketch.colours["same"], 9, ha="left", weight="bold")


def _engine(sketch):
    sketch.axes.add_patch(FancyBboxPatch((16, 2), 95, 31.5, boxstyle="round,pad=0,rounding_size=1.4", fc="none",
                                         ec=sketch.colours["rtl"], lw=1.1, ls=(0, (4, 3))))
    sketch.arrow((86, 39.5), (86, 33.8), "rtl")
    sketch.text(18.5, 30.9, "ternary engine", sketch.colours["rtl"], 10, ha="left", weight="bold")
    sketch.box(19, 14.5, 17, 10.5, "decode", "5 trits a byte into\nzero flags and signs")
    sketch.box(42, 20.7, 24, 10.5, "tree", "mask, then add or subtract;\nsigns deferred to the root")
    sketch.box(42, 8.6, 24, 10.5, "table", "look up sums of 3 and of 2\nactivations, fill the next")
    sketch.box(72, 14.5, 16, 10.5, "accumulate", "exact, in a width\nproved from max_k")
    sketch.box(92, 14.5, 16, 10.5, "results", "raw, requantised,\nand statistics")
    sketch.text(54, 19.85, "or", size=8, style="italic")
    for start, end in (((36, 21), (42, 25.5)), ((36, 18.5), (42, 14)), ((66, 25.5), (72, 21)), ((66, 14), (72, 18.5))):
        sketch.arrow(start, end)
    sketch.arrow((88, 19.75), (92, 19.75))
    sketch.arrow((1, 19.75), (19, 19.75))
    sketch.arrow((108, 19.75), (123, 19.75))
    sketch.beat(2, 21.2, 1.15)
    sketch.port(2, 27.6, "i_w")
    sketch.text(6.6, 27.5, "a beat", ha="left")
    sketch.port(112.5, 21.9, "o_y")
    sketch.port(112.5, 17.4, "o_stat")
    sketch.box(19, 3.4, 89, 3.9, "")
    sketch.text(63.5, 5.3, "sequencer: job queue, activation reads (x_act), credits for results, stalls counted by cause", size=8)
    sketch.arrow((1, 5.3), (19, 5.3))
    sketch.arrow((108, 5.3), (123, 5.3))
    sketch.port(2, 7.4, "job")
    sketch.port(112.5, 7.4, "done")
