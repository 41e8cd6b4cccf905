"""``estimate --preset``: a matrix, or all matrices of a language model, on a machine that somebody published."""

from typing import Annotated

import typer

from .common import construct, emit, parse_pairs
from .workload import check_choice, described, fractions

__all__ = ["PresetOption", "estimate_matrix", "estimate_model", "preset_of"]

PresetOption = Annotated[str | None, typer.Option("--preset", metavar="NAME", help="A published machine, as `sparseloom list -v` "
                                                                                  "has it, instead of --set and --board.")]
PREFILL = 128
_COVERS = ("matrix products alone, no attention, norms, activation functions or sampling; memory at its peak bandwidth, and our "
           "gates, which nobody has placed, at their clock")


def preset_of(name, engine):
    """The preset of that name; its engine must be ``engine``, or that None. One of many engines takes no ``engine``."""
    from sparseloom.models.spec.presets import PRESETS, Preset

    check_choice(name, "--preset", PRESETS)
    preset = PRESETS[name]
    if not isinstance(preset, Preset):
        if engine is not None:
            raise typer.BadParameter(f"must be left out with --preset {name}, got {engine!r}", param_hint="ENGINE")
    elif engine not in (None, preset.build().name):
        raise typer.BadParameter(f"must be {preset.build().name} with --preset {name}, got {engine!r}", param_hint="ENGINE")
    return preset


def estimate_matrix(preset, shape, json):
    """One matrix product, its rows shared by all engines of the preset."""
    from sparseloom.models.spec.sparse_job import SparseJob
    from sparseloom.perfmodel.linear import product

    made = construct(SparseJob, parse_pairs([shape], "--shape"), "--shape", make=lambda **fields: product(preset, **fields))
    result = {
        "cycles": made.cycles,
        **fractions(made.build, made.job, made.cycles),
        "stream_bytes": made.stream_bytes,
        "engine_microseconds": 1e6 * made.engine_seconds,
        "memory_microseconds": 1e6 * made.memory_seconds,
        "microseconds": 1e6 * made.seconds,
        "limited_by": "memory" if made.memory_seconds > made.engine_seconds else "engine",
        "shares": [{"engines": engines, "job": vars(job)} for engines, job in made.shares],
        "build": described(made.build),
        "preset": _described(preset),
    }
    result["basis"] = {name: _weakest(preset) if name.endswith("microseconds") else "exact"
                       for name, value in result.items() if isinstance(value, (int, float))}
    emit(result, json)


def estimate_model(preset, json):
    """A decode token and a prefill of the matrix products of LLaMA2-7B, beside what others published."""
    from sparseloom.perfmodel.linear import linear_layers
    from sparseloom.perfmodel.published.llm import published
    from sparseloom.perfmodel.workloads import LLAMA2_7B

    result, layers = {}, {}
    for phase, tokens in (("decode", 1), ("prefill", PREFILL)):
        layers[phase] = rows = linear_layers(preset, LLAMA2_7B, tokens)
        total = {name: sum(row[name] for row in rows) for name in
                 ("cycles", "stream_bytes", "engine_seconds", "memory_seconds", "seconds")}
        result |= {f"{phase}_cycles": total["cycles"], f"{phase}_stream_bytes": total["stream_bytes"],
                   f"{phase}_engine_ms": 1e3 * total["engine_seconds"], f"{phase}_memory_ms": 1e3 * total["memory_seconds"],
                   f"{phase}_ms": 1e3 * total["seconds"]}
    result["decode_tokens_per_second"] = 1e3 / result["decode_ms"]
    bases = dict.fromkeys((*result, *_dsp(preset)), _weakest(preset))
    result |= {
        **_dsp(preset),
        "covers": _COVERS,
        "workload": {"name": LLAMA2_7B.name, "weights": LLAMA2_7B.weights, "prefill": PREFILL, "layers": layers},
        "published": [vars(row) | {"basis": "published"} for row in published(model=LLAMA2_7B.name)],
        "assumed": preset.assumed,
        "build": described(preset.build()),
        "preset": _described(preset),
        "basis": bases,
    }
    emit(result, json, lambda: _report(preset, result))


def _dsp(preset):
    """DSP48E2 that all engines take, by the cost model."""
    from sparseloom.perfmodel.cost.sparse_chain import dsp

    in_chains, scalers = dsp(preset.build())
    return {"dsp_in_chains": preset.engines * in_chains, "dsp_of_scalers": preset.engines * scalers}


def _weakest(preset):
    return "assumed" if preset.assumed else "analytic"


def _described(preset):
    return {"name": preset.name, "engines": preset.engines, **{name: vars(figure) for name, figure in preset.figures.items()}}


def _report(preset, result):
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    ours = Table("", "value", "basis", box=None, pad_edge=False)
    theirs = Table("published", "value", "", "kind", "covers", box=None, pad_edge=False)
    ours.columns[1].justify = theirs.columns[1].justify = "right"
    for name, basis in result["basis"].items():
        value = result[name]
        ours.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else f"{value:,.3f}", basis)
    for row in result["published"]:
        what = f"{row['system']}, {row['device']}: {row['metric'].replace('_', ' ')}"
        theirs.add_row(what, f"{row['value']:,.9g}", row["unit"], row["kind"], row["covers"])
    title = f"{result['workload']['name']} on {preset.name}: {preset.engines} engines of {preset.chains.value} chains"
    return Group(
        Text(title, style="bold"), Text(f"An estimate: {result['covers']}. Tokens a second are a bound."),
        Text(f"Assumed in it: {', '.join(result['assumed'])} (sparseloom list -v)."), "", ours, "",
        Text("What others published is of another kind: other gates, and whole steps.", style="bold"), theirs)
