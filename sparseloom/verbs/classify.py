"""``sparseloom classify``: a vision transformer with experts looks at images, its every job on golden models or on gates."""

import sys
from contextlib import nullcontext
from typing import Annotated

import typer

from .common import CheckFailed, JsonOption, emit, progress
from .transformer import ARCHITECTURE
from .workload import check_choice

__all__ = ["classify"]

DEVICES = ("golden", "sim")
SHADES = " .:*#"

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A vision transformer that ships; `list` shows the models.")]
ImagesOption = Annotated[int, typer.Option("--images", min=1, max=1000, help="Held-out images, evenly spread.")]
TaskOption = Annotated[str | None, typer.Option("--task", help="One of the model's tasks; by default each.")]
DeviceOption = Annotated[str, typer.Option("--device", help="golden (NumPy) or sim (gates).")]


def classify(
    model: ModelArgument = "mnist-moe-vit",
    images: ImagesOption = 3,
    task: TaskOption = None,
    device: DeviceOption = "golden",
    json: JsonOption = False,
):
    """Classify held-out images with a vision transformer: every product, softmax, gate, norm and activation is an engine's job.

    With `--device sim` all jobs run on simulated gates; every result is compared with the golden model, every cycle count
    with the closed form; exits with 1 if any differs.

    \b
    Example:
      sparseloom classify mnist-moe-vit --images 2 --device golden
    """
    from sparseloom.models.zoo.moe_vit_accuracy import TARGETS
    from sparseloom.models.zoo.moe_vit_int import IntegerVit
    from sparseloom.models.zoo.moe_vit_jobs import Engines, make_builds
    from sparseloom.models.zoo.registry import MODELS, load

    check_choice(model, "MODEL", [name for name, entry in MODELS.items() if getattr(entry, "architecture", "") == ARCHITECTURE])
    check_choice(device, "--device", DEVICES)
    network = load(model)
    check_choice(task, "--task", (*network.tasks, None))
    tasks = network.tasks if task is None else (task,)
    pixels, labels = MODELS[model].heldout_images()
    chosen = [index * len(pixels) // images for index in range(images)]
    with _gates(device) as run, progress("images", images * len(tasks)) as step:
        engines, integers, rows = Engines(make_builds(network.config), run), IntegerVit(network), []
        for index in chosen:
            row = {"image": index, "label": int(labels[index])}
            for name in tasks:
                row[name] = int(integers.forward(pixels[index][None], name, engines).argmax())
                row[f"{name}_right"] = row[name] == int(TARGETS[name](labels[index : index + 1])[0])
                step()
            rows.append(row)
        seen = {} if run is None else {name: vars(entry) for name, entry in run.seen.items()}
    answers = len(rows) * len(tasks)
    result = {"right": sum(row[f"{name}_right"] for row in rows for name in tasks), "answers": answers,
              "jobs": sum(engines.jobs.values()), "model": model, "device": device, "images": rows, "engines": seen}
    for key in ("values", "wrong", "cycles", "predicted", "off") if seen else ():
        result[{"values": "compared", "predicted": "predicted_cycles", "off": "jobs_off"}.get(key, key)] = sum(
            entry[key] for entry in seen.values())
    result["basis"] = {key: "rtl" if seen else "measured" for key, value in result.items()
                       if isinstance(value, int) and not isinstance(value, bool)}
    if seen:
        result["basis"]["predicted_cycles"] = "exact"
    emit(result, json, lambda: _report(result, pixels, tasks))
    if seen and (result["wrong"] or result["jobs_off"]):
        raise CheckFailed(f"{result['wrong']} results differ from the golden models, {result['jobs_off']} cycle counts from the "
                          "closed forms")


def _gates(device):
    """What runs jobs on gates, as a context; None for the golden models."""
    if device == "golden":
        return nullcontext()
    from sparseloom.sim.checked_run import CheckedRun
    from sparseloom.sim.tools import compiler

    compiler()  # missing, it is an error before anything begins
    if not sys.stderr.isatty():
        print("compiling gates, a minute or two the first time", file=sys.stderr)
    return CheckedRun()


def _report(result, pixels, tasks):
    from rich.columns import Columns
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    pictures = []
    for row in result["images"]:
        lines = ["".join(SHADES[int(value) * (len(SHADES) - 1) // 255] for value in line) for line in pixels[row["image"]][::2]]
        said = ", ".join(f"{name} {row[name]}{'' if row[f'{name}_right'] else ' (wrong)'}" for name in tasks)
        pictures.append(Text("\n".join([*lines, f"label {row['label']}: {said}"])))
    table = Table("", "value", "basis", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for name, basis in result["basis"].items():
        table.add_row(name.replace("_", " "), f"{result[name]:,}", basis)
    return Group(Columns(pictures, padding=(0, 4)), "", table)
