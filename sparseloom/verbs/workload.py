"""From ``ENGINE --set ... --shape ...`` to a build and a job, for every engine alike."""

import dataclasses
from contextlib import suppress
from typing import Annotated

import typer

from .common import construct, parse_pairs

__all__ = [
    "BoardOption", "ClockOption", "EngineArgument",
    "board_bounds", "board_of", "board_rows", "build_of", "check_choice", "check_output", "described", "fractions", "job_of",
    "model_path",
]

EngineArgument = Annotated[str, typer.Argument(metavar="ENGINE", help="An engine's name; `sparseloom list` shows them.")]
BoardOption = Annotated[str | None, typer.Option("--board", help="Also the time on this board, at an assumed clock.")]
ClockOption = Annotated[float | None, typer.Option("--clock", metavar="MHZ", min=1, help="Another clock than the assumed one.")]

_MAXIMUM = "max_"


def check_choice(value, option, choices):
    """Refuse an option's value that is not among ``choices``."""
    if value not in choices:
        names = ", ".join(choice for choice in choices if choice is not None)
        raise typer.BadParameter(f"must be one of {names}, got {value!r}", param_hint=option)


def build_of(engine, settings, least=None):
    """The build of ``engine`` from the texts of ``--set``.

    ``least`` (dict of shapes: ints) makes each maximum ``max_<shape>`` that no option sets at least so large.
    """
    from sparseloom.models.spec.engines import ENGINES

    check_choice(engine, "ENGINE", ENGINES)
    cls, pairs = ENGINES[engine], parse_pairs(settings, "--set")
    build = construct(cls, pairs, "--set")
    grown = {}
    for field in dataclasses.fields(cls):
        size = (least or {}).get(field.name.removeprefix(_MAXIMUM), 0)
        if field.name.startswith(_MAXIMUM) and field.name not in pairs and size > field.default:
            grown[field.name] = str(size)
    return construct(cls, pairs | grown, "--shape") if grown else build


def job_of(engine, settings, shape):
    """``(build, job)`` from the texts of ``--set`` and ``--shape``; maxima that are not set grow to hold the shape."""
    pairs = parse_pairs([shape], "--shape")
    sizes = {}
    for key, text in pairs.items():
        with suppress(ValueError):  # what is no number is refused below, by the rules of the job's own fields
            sizes[key] = int(text, 0)
    build = build_of(engine, settings, sizes)
    return build, construct(build.job_class, pairs, "--shape", make=build.job)


def check_output(path, option, suffixes):
    """Refuse a file to write (or None) whose suffix is not among ``suffixes`` (without dots) or whose folder does not exist."""
    if path is None:
        return
    if path.suffix[1:] not in suffixes:
        legal = " or ".join("." + suffix for suffix in suffixes)
        raise typer.BadParameter(f"must end in {legal}, got {path.name!r}", param_hint=option)
    if not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"must lie in a folder that exists, got {str(path)!r}", param_hint=option)


def described(build):
    """A build as a result's entry: its family, every parameter, and the digest that programs carry."""
    from sparseloom.host.plan import build_digest

    return {"engine": build.name, **dataclasses.asdict(build), "digest": build_digest(build)}


def model_path(name):
    """The file of a model that ships, by its name, or ``name`` itself as a path."""
    from sparseloom.models.zoo.registry import MODELS

    return MODELS[name].path if name in MODELS else name


def fractions(build, job, cycles):
    """The entries of a result that say how much of the engine's peak was put to use."""
    parts = build.useful_fraction(job, cycles)
    return {"useful_fraction": parts["useful"], "stream_fraction": parts["stream"], "compute_fraction": parts["compute"]}


def board_bounds(cycles, nbytes):
    """For every board, tokens a second if nothing but weights took time: by one engine's ``cycles`` a token, by the memory's peak
    and the ``nbytes`` of a token, and the less of both."""
    from sparseloom.models.spec.boards import BOARDS

    bounds = {}
    for name, board in BOARDS.items():
        by_memory, by_engine = board.bandwidth.value / nbytes, board.clock.value / cycles
        bounds[name] = {
            "tokens_per_second": min(by_memory, by_engine),
            "tokens_per_second_by_memory": by_memory,
            "tokens_per_second_by_engine": by_engine,
            "basis": {"tokens_per_second": "assumed", "tokens_per_second_by_memory": "analytic",
                      "tokens_per_second_by_engine": "assumed"},
            "bandwidth": vars(board.bandwidth),
            "clock": vars(board.clock),
        }
    return bounds


def board_rows(bounds):
    """``(what, figure, basis)`` of :func:`board_bounds` for a table, as texts."""
    for name, board in bounds.items():
        yield (f"tokens/s on {name} by one engine", f"{board['tokens_per_second_by_engine']:,.0f}",
               f"assumed {board['clock']['value'] / 1e6:.0f} MHz")
        yield (f"tokens/s on {name} by memory", f"{board['tokens_per_second_by_memory']:,.0f}",
               f"{board['bandwidth']['basis']} {board['bandwidth']['value'] / 1e9:.1f} GB/s")


def board_of(name, clock=None):
    """The board of that name, None for None; ``clock`` (MHz) in the place of its assumed one."""
    from sparseloom.models.spec.boards import BOARDS, Figure

    if name is None:
        if clock is not None:
            raise typer.BadParameter("must come with --board", param_hint="--clock")
        return None
    check_choice(name, "--board", BOARDS)
    board = BOARDS[name]
    return dataclasses.replace(board, clock=Figure(clock * 1e6, "assumed", "given by --clock")) if clock else board
