"""Behavioural Verilog of the vendors' cells that a design instantiates: a simulation needs it, synthesis must not see it."""

from pathlib import Path

__all__ = ["TWINS", "twins"]

TWINS = Path(__file__).with_name("primitives")
"""A file of the cell's name each, written from the vendor's documentation. It models what the gates use of the cell and stops at
anything else: at elaboration for a parameter or an output, at the clock's edge for an input's value."""


def twins(design):
    """``{file name: text}`` of the twins of ``design.primitives``; ValueError for a cell that has none."""
    texts = {}
    for name in design.primitives:
        path = TWINS / f"{name}.v"
        if not path.is_file():
            raise ValueError(f"{design.name} cannot be simulated: no twin of the cell {name}")
        texts[path.name] = path.read_text()
    return texts
