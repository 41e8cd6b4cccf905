"""``estimate --preset`` for N:M sparse training: steps of known networks on a machine that somebody published, beside bounds."""

from .common import emit
from .workload import described

__all__ = ["estimate_training"]

_COVERS = ("all matrix products of a training step by the array's closed forms, updates and pruning, each no faster than memory "
           "at its peak; no norms, activation functions, softmax, pooling or additions; our gates, bfloat16, which nobody has "
           "placed, at the preset's clock. The bound knows no gates: products a second and bytes a second alone. Dense training "
           "may turn its products where that is faster")
_FIGURES = ("dense_array_cycles", "sparse_array_cycles", "dense_ms", "sparse_ms", "speedup", "speedup_bound", "speedup_of_bound",
            "sparse_of_bound")


def estimate_training(preset, json):
    """A step of each known network, dense and sparse, on the machine of ``preset``, beside what others published."""
    from sparseloom.perfmodel.published.nm import published
    from sparseloom.perfmodel.training import TrainingMachine, compare
    from sparseloom.perfmodel.training_tables import TABLES

    machine, weakest = TrainingMachine.of(preset), "assumed" if preset.assumed else "analytic"
    result, bases, steps = {}, {}, {}
    for table in TABLES.values():
        steps[table.name] = step = compare(machine, table, preset.nnz.value, preset.group.value)
        step |= {"about": table.about, "weights": table.weights, "image_macs": table.image_macs,
                 "dense_ms": 1e3 * step["dense_seconds"], "sparse_ms": 1e3 * step["sparse_seconds"]}
        for name in _FIGURES:
            key = f"{table.name.replace('-', '_')}_{name}"
            result[key], bases[key] = step[name], "exact" if name.endswith("cycles") else weakest
    result["speedup_limit"], bases["speedup_limit"] = step["speedup_limit"], "analytic"
    result |= {
        "covers": _COVERS, "steps": steps, "published": [vars(row) | {"basis": "published"} for row in published()],
        "assumed": preset.assumed, "builds": {"array": described(machine.array)},
        "preset": {"name": preset.name, **{name: vars(figure) for name, figure in preset.figures.items()}}, "basis": bases,
    }
    emit(result, json, lambda: _report(preset, result))


def _report(preset, result):
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    steps = result["steps"].values()
    ours = Table("", *(step["table"] for step in steps), "basis", box=None, pad_edge=False)
    theirs = Table("published", "value", "", "covers", "kind", box=None, pad_edge=False)
    for column in (*ours.columns[1:-1], theirs.columns[1]):
        column.justify = "right"
    ours.add_row("images a step", *(f"{step['batch']}" for step in steps), "")
    for name in _FIGURES:
        basis = result["basis"][f"{next(iter(result['steps'])).replace('-', '_')}_{name}"]
        ours.add_row(name.replace("_", " "), *(_text(name, step[name]) for step in steps), basis)
    for row in result["published"]:
        theirs.add_row(f"{row['system']}, {row['device']}: {row['metric'].replace('_', ' ')}", f"{row['value']:,.9g}",
                       row["unit"], row["covers"], row["kind"])
    assumed, pattern = ", ".join(result["assumed"]) or "nothing", f"{preset.nnz.value}:{preset.group.value}"
    return Group(
        Text(f"Training steps, {pattern} against dense, on {preset.name}: {preset.about}", style="bold"),
        Text(f"An estimate: {result['covers']}."), Text(f"Assumed in it: {assumed} (sparseloom list -v)."), "", ours, "",
        Text(f"No network gains more than {result['speedup_limit']:.3g}x at {pattern}: weight gradients stay dense."), "",
        Text("What others published is of another kind: other gates, other networks, measured on boards.", style="bold"), theirs)


def _text(name, value):
    if name.endswith("cycles"):
        return f"{value:,}"
    return f"{value:,.2f}" if name.endswith("_ms") else f"{100 * value:.1f} %" if name.endswith("of_bound") else f"{value:.3f}x"
