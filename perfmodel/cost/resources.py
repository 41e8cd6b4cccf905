"""What a design takes from a chip, and the error that says nobody knows."""

from dataclasses import dataclass, fields

__all__ = ["Resources", "UnknownCost"]


class UnknownCost(ValueError):
    """No measurement and no formula covers what was asked. A cost is never guessed and never 0 for want of knowledge."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Counts of one design on one family. ``sparseloom.fpga.synth`` says which cells each counts."""

    lut: int
    """Look-up tables that hold logic, memory or shift registers."""
    lut_memory: int
    """The part of ``lut`` that is distributed memory or shift registers."""
    lut_route: int
    """LUT sites that a placer is likely to fill on carry chains beyond ``lut``, to pass a signal through."""
    ff: int
    dsp: int
    bram: int
    """Block memories of 18 kbit; one of 36 kbit counts twice."""
    uram: int
    basis: str
    """``yosys``: counted in a netlist. ``model``: a formula fitted to such counts."""

    def __add__(self, other):
        if not isinstance(other, Resources):
            return NotImplemented
        counts = {name: getattr(self, name) + getattr(other, name) for name in self.names()}
        return Resources(**counts, basis=self.basis if self.basis == other.basis else "model")

    @classmethod
    def names(cls):
        """The names of the counts: every field but ``basis``."""
        return tuple(field.name for field in fields(cls) if field.name != "basis")

    def counts(self):
        """The counts as a dict of ints."""
        return {name: getattr(self, name) for name in self.names()}
