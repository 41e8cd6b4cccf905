"""``sparseloom simulate``: one job on the simulated gates, compared with the golden model and the closed form."""

from pathlib import Path
from typing import Annotated

import typer

from .common import CheckFailed, JsonOption, SeedOption, SetOption, ShapeOption, emit, progress
from .workload import EngineArgument, check_output, described, fractions, job_of

__all__ = ["simulate"]

StallOption = Annotated[float, typer.Option("--stall", metavar="P", min=0, max=0.99, help="How often results are refused.")]
IdleOption = Annotated[float, typer.Option("--idle", metavar="P", min=0, max=0.99, help="How often operands are late.")]
WavesOption = Annotated[Path | None, typer.Option("--waves", metavar="FILE", help="Write a waveform (.vcd or .fst).")]


def simulate(
    engine: EngineArgument,
    shape: ShapeOption,
    settings: SetOption = [],  # noqa: B006 -- typer copies it
    seed: SeedOption = 0,
    stall: StallOption = 0.0,
    idle: IdleOption = 0.0,
    waves: WavesOption = None,
    json: JsonOption = False,
):
    """Run one job with random operands on the simulated gates; compare every result with the golden model.

    Exits with 1 if a result differs or, without --stall and --idle, the cycles are not those that `estimate` tells.

    \b
    Example:
      sparseloom simulate ternary_engine --set rows=4 --set lanes=10 --shape k=100,n=30,m=2 --seed 1
    """
    import numpy as np

    from sparseloom.models.formats.engines import collect, pack
    from sparseloom.models.golden.engines import draw_operands, results
    from sparseloom.sim.build import TRACES, design_of
    from sparseloom.sim.runner import Simulator, Work
    from sparseloom.sim.tools import compiler

    build, job = job_of(engine, settings, shape)
    check_output(waves, "--waves", TRACES)
    compiler()  # missing, it is an error before anything begins
    operands = draw_operands(build, job, np.random.default_rng(seed))
    with progress("gates to Verilog, Verilog to a simulation", 2) as step:
        design_of(build)
        step()
        simulator = Simulator(build, waves=waves)
        step()
    predicted = build.cycles(job)
    with simulator, progress("cycles", predicted) as step:
        seen = 0

        def advance(_jobs, cycles):
            nonlocal seen
            step(cycles - seen)
            seen = cycles

        receipt, = simulator.run([Work(job, pack(build, job, operands))], stall=stall, idle=idle, seed=seed, progress=advance)
    wanted = results(build, job, operands)
    got = collect(build, job, receipt.outputs) | {"saturated": receipt.done["saturated"]}
    wrong = sum(int((np.asarray(got[name]) != np.asarray(value)).sum()) for name, value in wanted.items())
    compared = sum(np.size(value) for value in wanted.values())
    free = stall == idle == 0
    result = {
        "bit_exact": wrong == 0,
        "compared": compared,
        "cycles": receipt.cycles,
        "predicted_cycles": predicted,
        **fractions(build, job, receipt.cycles),
        "stalls": {name: receipt.done[f"stall_{name}"] for name in ("i", "x", "o")},
        "build": described(build),
        "job": vars(job),
        "options": {"seed": seed, "stall": stall, "idle": idle},
    }
    if waves:
        result["waves"] = str(waves)
    result["basis"] = {name: "rtl" for name, value in result.items() if isinstance(value, (int, float)) and name != "bit_exact"}
    result["basis"]["predicted_cycles"] = "exact"
    emit(result, json)
    if wrong:
        raise CheckFailed(f"{wrong} of {compared} results differ from the golden model")
    if free and receipt.cycles != predicted:
        raise CheckFailed(f"the gates took {receipt.cycles} cycles, the closed form says {predicted}")
