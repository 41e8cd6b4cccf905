"""``sparseloom estimate``: the cycles of a job from the closed form, without building anything."""

import typer

from .common import JsonOption, SetOption, ShapeOption, emit
from .nm_preset import estimate_training
from .plots import PLOT_FORMATS, PlotOption, useful_fraction_plot
from .preset import PresetOption, estimate_matrix, estimate_model, preset_of
from .vit_preset import estimate_images
from .workload import BoardOption, ClockOption, EngineArgument, board_of, check_output, described, fractions, job_of

__all__ = ["estimate"]


def estimate(
    engine: EngineArgument = None,
    shape: ShapeOption = None,
    settings: SetOption = [],  # noqa: B006 -- typer copies it
    board: BoardOption = None,
    clock: ClockOption = None,
    preset: PresetOption = None,
    plot: PlotOption = None,
    json: JsonOption = False,
):
    """Tell the cycles of one job exactly, without building the engine.

    The arguments are those of `simulate`, and the cycles are equal. Maxima of the build that no --set names grow to hold the
    shape. --plot draws the useful fraction against each size of the shape.

    With --preset: the job on all engines of a published machine, by its clock and bandwidth; without a --shape, the matrix
    products of a token and of a prefill of LLaMA2-7B, beside what was published. Presets of vision transformers tell whole
    images, presets of N:M sparse training a step of each known network.

    \b
    Example:
      sparseloom estimate ternary_engine --set rows=16 --set lanes=20 --shape k=1024,n=1024 --board kv260
      sparseloom estimate --preset flightllm-u280
      sparseloom estimate --preset ubimoe-zcu102
      sparseloom estimate --preset sat-vcu1525
    """
    if preset is not None:
        _alone("--preset", {"--set": settings, "--board": board, "--clock": clock, "--plot": plot})
        machine = preset_of(preset, engine)
        if not hasattr(machine, "form"):
            _alone("--preset " + preset, {"--shape": shape})
            return (estimate_training if hasattr(machine, "nnz") else estimate_images)(machine, json)
        return estimate_model(machine, json) if shape is None else estimate_matrix(machine, shape, json)
    for name, value in (("argument 'ENGINE'", engine), ("option '--shape'", shape)):
        if value is None:
            raise typer.TyperException(f"Missing {name}.")
    where = board_of(board, clock)
    check_output(plot, "--plot", PLOT_FORMATS)
    build, job = job_of(engine, settings, shape)
    cycles = build.cycles(job)
    stream_bytes = sum(build.beats(stream.name, job) * stream.record.bytes for stream in build.inputs)
    result = {
        "cycles": cycles,
        "cycles_back_to_back": build.cycles_back_to_back(job),
        **fractions(build, job, cycles),
        "stream_bytes": stream_bytes,
        "beats": {stream.name: build.beats(stream.name, job) for stream in (*build.inputs, *build.outputs)},
        "build": described(build),
        "job": vars(job),
    }
    result["basis"] = {name: "exact" for name, value in result.items() if isinstance(value, (int, float))}
    if where:
        result["microseconds"] = 1e6 * where.seconds(cycles, stream_bytes)
        result["limited_by"] = "memory" if where.seconds(cycles, stream_bytes) > cycles / where.clock.value else "engine"
        result["board"] = {"name": where.name, "clock": vars(where.clock), "bandwidth": vars(where.bandwidth)}
        result["basis"]["microseconds"] = "assumed"
    if plot:
        useful_fraction_plot(plot, build, job)
    emit(result, json)


def _alone(option, others):
    """Refuse options that say what ``option`` says already."""
    for name, value in others.items():
        if value:
            raise typer.BadParameter(f"must not come with {option}", param_hint=name)
