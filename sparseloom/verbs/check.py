"""``sparseloom check``: what of a model maps to an engine, what does not, and why, before anything is built."""

import re
from collections import Counter
from typing import Annotated

import typer

from .common import CheckFailed, JsonOption, SetOption, emit
from .plots import PLOT_FORMATS, PlotOption, cycles_plot
from .transformer import ARCHITECTURE, check_transformer
from .workload import BoardOption, ClockOption, board_of, build_of, check_choice, check_output, described, model_path

__all__ = ["check"]

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A model file or folder, or a name of `sparseloom list`.")]
EngineOption = Annotated[str | None, typer.Option("--engine", help="The engine to map to; the one for most of its weights.")]
ScaleOption = Annotated[str | None, typer.Option(help="BitNet scales of a file that does not tell: divide or multiply.")]
I2sOption = Annotated[str | None, typer.Option("--i2-s", help="Where I2_S tensors were written: x86.")]
GptqOption = Annotated[str | None, typer.Option(help="How GPTQ zero points are stored, against what the file says: v1 or v2.")]
FloatOption = Annotated[str | None, typer.Option(help="Take an ONNX file's float matrices as int8, a scale a row: int8.")]
I2_S_WRITERS = ("x86",)
FLOATS_HINT = "its matrices are floats: --float-weights int8 takes them as int8"
SHOWN = 3  # refused operators in the message; the table has all


def check(
    model: ModelArgument,
    engine: EngineOption = None,
    settings: SetOption = [],  # noqa: B006 -- typer copies it
    scale_convention: ScaleOption = None,
    i2_s: I2sOption = None,
    gptq_zeros: GptqOption = None,
    float_weights: FloatOption = None,
    board: BoardOption = None,
    clock: ClockOption = None,
    plot: PlotOption = None,
    json: JsonOption = False,
):
    """Tell which layers of a model an engine takes, with its cycles for one token, and why it does not take the others.

    Only shapes and formats are read, no weights. Of an ONNX file also what runs its operators, and for one that is not supported
    the node and what to use instead; of a vision transformer that ships the jobs of an image. Exits with 1 if a matrix product
    has no engine, or an operator no support. --plot draws the cycles by layer.

    \b
    Example:
      sparseloom check kjv-matmulfree --set rows=16 --set lanes=20 --board kv260
    """
    from sparseloom.host.compiler import outline, place
    from sparseloom.host.families import engine_for, family_of
    from sparseloom.models.formats import gptq
    from sparseloom.models.formats.bitnet import CONVENTIONS
    from sparseloom.models.importers.load import FLOAT_WEIGHTS, load, row_of
    from sparseloom.models.zoo.registry import MODELS

    check_choice(scale_convention, "--scale-convention", (None, *CONVENTIONS))
    check_choice(i2_s, "--i2-s", (None, *I2_S_WRITERS))
    check_choice(gptq_zeros, "--gptq-zeros", (None, *gptq.CONVENTIONS))
    check_choice(float_weights, "--float-weights", (None, *FLOAT_WEIGHTS))
    where = board_of(board, clock)
    check_output(plot, "--plot", PLOT_FORMATS)
    if getattr(MODELS.get(model), "architecture", None) == ARCHITECTURE:
        for option, value in (("--engine", engine), ("--set", settings), ("--board", board), ("--plot", plot)):
            if value:
                raise typer.BadParameter(f"must not come with {model}: its engines are those of classify", param_hint=option)
        return check_transformer(model, json)
    if engine is not None:
        build = build_of(engine, settings)
    graph = load(model_path(model), scale_convention=scale_convention, i2_s=i2_s, gptq_zeros=gptq_zeros,
                 float_weights=float_weights)
    if engine is None:
        build = build_of(engine_for(graph), settings)
    plan, rows, beats = outline(graph, build), [], Counter()
    for placed in place(graph, build):
        row = row_of(placed.layer) | {"runs_on": placed.where, "reason": placed.reason}
        if placed.where == "engine":
            beats.update(plan.beats(placed.layer.name, 1))
            row |= {"jobs": len(plan.tiles(placed.layer.name)), "beats": plan.beats(placed.layer.name, 1),
                    "cycles": plan.cycles(placed.layer.name, 1)}
        rows.append(row)
    count = Counter(row["runs_on"] for row in rows)
    taken = [row for row in rows if row["runs_on"] == "engine"]
    cycles = sum(row["cycles"] for row in taken)
    stream_bytes = sum(beats[stream.name] * stream.record.bytes for stream in build.inputs)
    result = {
        "engine_layers": count["engine"],
        "host_layers": count["host"],
        "unsupported_layers": count["unsupported"],
        "engine_weights": sum(row["shape"][0] * row["shape"][1] for row in taken),
        "stream_bytes_per_token": stream_bytes,
        "cycles_per_token": cycles,
        "beats_per_token": dict(beats),
        "layers": rows,
        "model": {"name": graph.name, "source": graph.source},
        "notes": list(graph.notes),
        "build": described(build),
    }
    result["basis"] = {name: "exact" for name, value in result.items() if isinstance(value, int)}
    if where and cycles:
        result["tokens_per_second"] = 1 / where.seconds(cycles, stream_bytes)
        result["basis"]["tokens_per_second"] = "assumed"
        result["board"] = {"name": where.name, "clock": vars(where.clock), "bandwidth": vars(where.bandwidth)}
    if count["unsupported"]:
        floats = graph.nodes is not None and not any(layer.weight for layer in graph.layers)
        result["hint"] = FLOATS_HINT if floats else f"{build.name} takes {family_of(build).takes}"
    refused = _operators(graph, result)
    if plot:
        cycles_plot(plot, f"{graph.name} on {build.name}", {name: row["cycles"] * times for name, times, row in _grouped(taken)})
    emit(result, json, lambda: _report(result))
    faults = [f"node {row['node']}: {row['op']} is not supported ({row['reason']}); nearest: {row['nearest']}" for row in refused]
    faults = faults[:SHOWN] + [f"and {len(faults) - SHOWN} nodes more"] * (len(faults) > SHOWN)
    if count["unsupported"]:
        matrices = count["unsupported"] + count["engine"]
        faults.insert(0, f"{count['unsupported']} of {matrices} matrix products have no engine: {result['hint']}")
    if faults:
        raise CheckFailed("; ".join(faults))


def _operators(graph, result):
    """Add the operators of a graph that has nodes to ``result``; returns those that are not supported."""
    if graph.nodes is None:
        return []
    from sparseloom.models.importers.onnx_check import describe_operators

    result["operators"] = describe_operators(graph.nodes)
    refused = [row for row in result["operators"] if row["runs_on"] == "unsupported"]
    result["unsupported_operators"], result["basis"]["unsupported_operators"] = len(refused), "exact"
    return refused


def _grouped(rows):
    """``(name, number, row)`` of rows that differ in the numbers within their names alone."""
    groups = {}
    for row in rows:
        same = {key: value for key, value in row.items() if key != "name"}
        groups.setdefault((re.sub(r"\d+", "*", row["name"]), repr(same)), []).append(row)
    return [(name if len(group) > 1 else group[0]["name"], len(group), group[0]) for (name, _), group in groups.items()]


def _report(result):
    from rich.console import Group
    from rich.table import Table

    layers = Table(box=None, pad_edge=False)
    for title in ("layer", "number", "shape", "format", "cycles", "runs on"):
        layers.add_column(title, justify="right" if title in ("number", "shape", "cycles") else "left", overflow="fold")
    rows = result["layers"]
    for name, times, row in _grouped([row for row in rows if row["runs_on"] != "host"]):
        engine = row["runs_on"] == "engine"
        shape, cycles = " x ".join(map(str, row["shape"])), f"{row['cycles']:,}" if engine else ""
        place = "engine" if engine else f"nothing: {row['reason']}"
        layers.add_row(name, str(times), shape, row["format"], cycles, place, style="green" if engine else "red")
    on_host = Counter((row["op"], row["format"], row["reason"]) for row in rows if row["runs_on"] == "host")
    for (op, form, reason), times in on_host.items():
        layers.add_row(f"({op})", str(times), "", form, "", f"host: {reason}", style="dim")
    parts = [layers, ""]
    if "operators" in result:
        parts += [_operator_table(result["operators"]), ""]
    totals = Table("", "", "basis", box=None, pad_edge=False)
    totals.columns[1].justify = "right"
    for name, basis in result["basis"].items():
        value = result[name]
        totals.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else f"{value:,.1f}", basis)
    return Group(*parts, *[f"note: {note}" for note in result["notes"]], totals)


def _operator_table(rows):
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("operation", "number", "runs on"):
        table.add_column(title, justify="right" if title == "number" else "left", overflow="fold")
    host = Counter()
    for row in rows:
        if row["runs_on"] == "host" and not row["reason"]:
            host[row["op"]] += row["number"]
        elif row["runs_on"] == "unsupported":
            text = f"nothing: {row['reason']}; nearest: {row['nearest']}"
            table.add_row(f"{row['op']}, node {row['node']}", "1", text, style="red")
        elif row["runs_on"] != "layer":
            reason = f": {row['reason']}" if row["reason"] else ""
            table.add_row(row["op"], str(row["number"]), row["runs_on"] + reason, style="" if reason else "green")
    if host:
        names = ", ".join(f"{op} {number}" for op, number in host.most_common())
        table.add_row("(element by element, shapes)", str(host.total()), f"host: {names}", style="dim")
    return table
