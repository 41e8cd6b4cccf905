"""``estimate --preset`` for vision transformers: whole images on an accelerator that somebody published."""

from .common import emit
from .workload import described

__all__ = ["estimate_images"]

_COVERS = ("every matrix product, attention, norm, activation and gate of an image, one job after the other by the closed "
           "forms; no residual additions, no data movement between buffers; our gates, int8, which nobody has placed, at the "
           "preset's clock")


def estimate_images(preset, json):
    """An image of each known vision transformer on the machine of ``preset``, beside what others published."""
    from sparseloom.models.zoo.vit_shapes import SHAPES
    from sparseloom.perfmodel.published.vit import published
    from sparseloom.perfmodel.vit import VitMachine, image_rows

    result, images, bases = {}, {}, {}
    weakest = "assumed" if preset.assumed else "analytic"
    for name, shape in SHAPES.items():
        machine = VitMachine.of(preset, shape)
        images[name] = rows = image_rows(machine, shape)
        cycles, nbytes = (sum(row[key] for row in rows) for key in ("cycles", "weight_bytes"))
        key, seconds = name.replace("-", "_"), max(cycles / preset.clock.value, nbytes / preset.bandwidth.value)
        result |= {f"{key}_cycles": cycles, f"{key}_ms": 1e3 * seconds, f"{key}_gop": shape.gop,
                   f"{key}_gops": shape.gop / seconds}
        bases |= {f"{key}_cycles": "exact", f"{key}_ms": weakest, f"{key}_gop": "analytic", f"{key}_gops": weakest}
    result |= {
        "covers": _COVERS, "images": images,
        "published": [vars(row) | {"basis": "published"} for row in published()
                      if row.metric in ("latency", "throughput", "dsp")],
        "assumed": preset.assumed,
        "builds": {part: described(getattr(machine, part)) for part in ("attention", "linear", "norm", "gate")
                   if getattr(machine, part)},
        "preset": {"name": preset.name, **{name: vars(figure) for name, figure in preset.figures.items()}},
        "basis": bases,
    }
    emit(result, json, lambda: _report(preset, result))


def _report(preset, result):
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    ours = Table("", "value", "basis", box=None, pad_edge=False)
    parts = Table("cycles of", *result["images"], box=None, pad_edge=False)
    theirs = Table("published", "value", "", "model", "precision", "kind", box=None, pad_edge=False)
    ours.columns[1].justify = theirs.columns[1].justify = "right"
    for column in parts.columns[1:]:
        column.justify = "right"
    for name, basis in result["basis"].items():
        value = result[name]
        ours.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else f"{value:,.3f}", basis)
    names = dict.fromkeys(row["name"] for rows in result["images"].values() for row in rows)
    for name in names:
        cells = [next((f"{row['cycles']:,}" for row in rows if row["name"] == name), "") for rows in result["images"].values()]
        parts.add_row(name, *cells)
    for row in result["published"]:
        what = f"{row['system']}, {row['device']}: {row['metric'].replace('_', ' ')}"
        theirs.add_row(what, f"{row['value']:,.9g}", row["unit"], row["model"], row["precision"], row["kind"])
    assumed = ", ".join(result["assumed"]) or "nothing"
    return Group(
        Text(f"Images on {preset.name}: {preset.about}", style="bold"), Text(f"An estimate: {result['covers']}."),
        Text(f"Assumed in it: {assumed} (sparseloom list -v)."), "", ours, "", parts, "",
        Text("What others published is of another kind: other gates, other precision, measured on boards.", style="bold"), theirs)
