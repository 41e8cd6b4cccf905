"""``check`` of a vision transformer that ships: the engines' jobs of one image, instead of layers of a file."""

from .common import emit
from .workload import described

__all__ = ["ARCHITECTURE", "check_transformer"]

ARCHITECTURE = "moe-vit"


def check_transformer(name, json):
    """Every job of an image, task by task, with its cycles by the closed form; all of the model maps."""
    from sparseloom.models.golden.engines import results
    from sparseloom.models.zoo.moe_vit_int import IntegerVit
    from sparseloom.models.zoo.moe_vit_jobs import Engines, make_builds
    from sparseloom.models.zoo.registry import MODELS, load

    model, (images, _) = load(name), MODELS[name].heldout_images()
    integers, builds, rows = IntegerVit(model), make_builds(model.config), {}
    for task in model.tasks:
        def run(build, job, operands, task=task):
            row = rows.setdefault((task, build.name), {"task": task, "engine": build.name, "jobs": 0, "cycles": 0})
            row["jobs"] += 1
            row["cycles"] += build.cycles(job)
            return results(build, job, operands)

        integers.forward(images[:1], task, Engines(builds, run))
    result = {
        "jobs": sum(row["jobs"] for row in rows.values()), "cycles": sum(row["cycles"] for row in rows.values()),
        "unsupported_layers": 0, "model": name, "engines": list(rows.values()),
        "host": "cutting patches, additions to the residual stream, moving rows",
        "builds": [described(build) for build in builds.values()],
    }
    result["basis"] = dict.fromkeys(("jobs", "cycles", "unsupported_layers"), "exact")
    emit(result, json, lambda: _report(result))


def _report(result):
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table("task", "engine", "jobs", "cycles an image (exact)", box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for row in result["engines"]:
        table.add_row(row["task"], row["engine"], f"{row['jobs']:,}", f"{row['cycles']:,}")
    return Group(Text(f"{result['model']}: {result['jobs']} jobs of an image, all tasks; on the host: {result['host']}"), table)
