"""What the engines of a training machine did, by layer and pass."""

from dataclasses import dataclass, field

__all__ = ["Entry", "Ledger"]


@dataclass
class Entry:
    """Jobs of one kind: ``cycles`` of their device, ``predicted`` by the closed form, ``off`` jobs where the two differ;
    ``compared`` results, ``wrong`` of them (both 0 on the golden device)."""

    jobs: int = 0
    cycles: int = 0
    predicted: int = 0
    off: int = 0
    compared: int = 0
    wrong: int = 0


@dataclass
class Ledger:
    """``entries``: an :class:`Entry` for each (engine, layer, pass, kind of job); sums over any of them."""

    entries: dict = field(default_factory=dict)

    def book(self, engine, layer, phase, kind, *, cycles, predicted, compared=0, wrong=0):
        entry = self.entries.setdefault((engine, layer, phase, kind), Entry())
        entry.jobs += 1
        entry.cycles += cycles
        entry.predicted += predicted
        entry.off += cycles != predicted
        entry.compared += compared
        entry.wrong += wrong

    def total(self, engine=None):
        """The sum over all entries, or over those of one engine."""
        chosen = [entry for key, entry in self.entries.items() if engine in (None, key[0])]
        return Entry(**{name: sum(getattr(entry, name) for entry in chosen) for name in Entry.__dataclass_fields__})

    def rows(self):
        """A dict an entry, as JSON takes it."""
        return [{"engine": engine, "layer": layer, "pass": phase, "kind": kind, **vars(entry)}
                for (engine, layer, phase, kind), entry in self.entries.items()]
