"""The figure of the sparse chain engine: from a beat of weights and a word of activations to a result."""

from diagram import Sketch
from matplotlib.patches import FancyBboxPatch, Rectangle

__all__ = ["draw_chain"]

WIDTH, HEIGHT = 124, 52
POSITIONS = 8
SHADOWS = 2
"""Chains behind the one that is drawn."""


def draw_chain(colours):
    """Above, weights on their way to one chain; below, activations; on the right what follows a sum of eight products."""
    sketch = Sketch(colours, WIDTH, HEIGHT)
    sketch.axes.add_patch(FancyBboxPatch((15, 1.5), 96.5, 49, boxstyle="round,pad=0,rounding_size=1.4", fc="none",
                                         ec=colours["rtl"], lw=1.1, ls=(0, (4, 3))))
    sketch.text(17, 47.9, "sparse chain engine", colours["rtl"], 10, ha="left", weight="bold")
    _weights(sketch)
    _chains(sketch)
    _results(sketch)
    sketch.box(17, 3, 93, 4.2, "")
    order = "issue: tiles of rows, in each the spans of k, their segments, the tokens two at a time, a step a cycle"
    sketch.text(63.5, 5.1, order, size=8)
    sketch.arrow((1, 5.1), (17, 5.1))
    sketch.port(2, 7.2, "job")
    sketch.arrow((110, 5.1), (123, 5.1))
    sketch.port(114, 7.2, "done")
    return sketch.figure


def _weights(sketch):
    sketch.arrow((1, 39), (17, 39))
    sketch.port(2, 41.2, "i_w")
    sketch.text(2, 36.6, "32 bits a row", size=7.5, ha="left")
    sketch.box(17, 33, 16, 12, "fetch", "codebook, block,\nheader, index,\ncode: by counting")
    sketch.arrow((33, 41.5), (38, 41.5))
    sketch.arrow((33, 36.5), (38, 34.8))
    sketch.box(38, 38, 20, 8, "ring of 16 quads", "bit planes of 32 weights")
    sketch.box(38, 31.4, 20, 4.6, "")
    sketch.text(48, 33.7, "ring of headers", sketch.colours["text"], 9, weight="bold")
    sketch.text(48, 29.6, "scale, offset, code of zero", size=7.5)


def _chains(sketch):
    """One chain of eight multipliers, the others behind it, and where its operands come from."""
    colours, left, low, cell = sketch.colours, 48, 14.2, 3.9
    width = POSITIONS * cell
    for shadow in range(SHADOWS, -1, -1):
        x, y = left + 1.1 * shadow, low + 1.1 * shadow
        sketch.axes.add_patch(Rectangle((x - 0.8, y - 0.8), width + 1.6, 11.2, fc=colours["box"], ec=colours["edge"], lw=1.0))
    for j in range(POSITIONS):
        x = left + j * cell
        sketch.axes.add_patch(Rectangle((x + 0.4, low + 6.3), cell - 0.8, 2.6, fc="none", ec=colours["exact"], lw=1.1))
        sketch.text(x + cell / 2, low + 7.5, "mux", colours["exact"], 6)
        sketch.axes.add_patch(Rectangle((x + 0.4, low + 1.6), cell - 0.8, 2.9, fc="none", ec=colours["rtl"], lw=1.1))
        sketch.text(x + cell / 2, low + 3, "×", colours["rtl"], 10)
        sketch.axes.plot([x + cell / 2] * 2, [low + 4.5, low + 6.3], color=colours["line"], lw=0.9)
        if j:
            sketch.axes.plot([x - 0.4, x + 0.4], [low + 2.2] * 2, color=colours["rtl"], lw=1.2)
    sketch.text(left + width / 2, low - 2.4, "chains of 8 multipliers, 2 tokens each; sums run along", size=7.5)
    sketch.arrow((1, 20.5), (19, 20.5))
    sketch.port(2, 22.7, "x_act")
    sketch.text(2, 18.1, "32 codes and", size=7.5, ha="left")
    sketch.text(2, 15.9, "a scale a token", size=7.5, ha="left")
    sketch.box(19, 14.3, 18, 12, "window", "16 columns that\na position's index\nchooses from")
    sketch.arrow((37, 21.6), (47.2, 21.6))
    sketch.arrow((58, 42), (66.5, 26.8), bend=-0.25)
    sketch.text(66.5, 40, "codes to multipliers,\nindices to multiplexers", size=7.5, ha="left")


def _results(sketch):
    sketch.arrow((82, 19.5), (86, 19.5))
    sketch.box(86, 13, 23, 12, "scale", "sum of 32 to 128 columns\n× scale + Σx · offset,\n× activation scale")
    sketch.arrow((58, 33.7), (89, 25.2), bend=-0.12)
    sketch.arrow((97.5, 25), (97.5, 31.5))
    sketch.box(88, 31.5, 19, 6.2, "accumulate", "64 bits at most, exact")
    sketch.arrow((97.5, 37.7), (97.5, 40.5))
    sketch.box(88, 40.5, 19, 6.2, "results", "shift, half-even, clamp")
    sketch.arrow((107, 43.6), (123, 43.6))
    sketch.port(114, 45.8, "o_y")
    sketch.text(114, 41.2, "int32 a row", size=7.5, ha="left")
