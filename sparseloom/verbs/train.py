"""``sparseloom train``: N:M sparse training of a small network, its every product on golden models or on simulated gates."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from .common import CheckFailed, JsonOption, emit, progress
from .workload import check_choice, check_output

__all__ = ["train"]

DEVICES = ("golden", "sim")
DEFAULT_NETWORK = "digits"
DATA_OF = {"digits": "mnist-5k", "digits-small": "shipped"}
"""What a built-in network learns if nothing else is named."""
DEFAULT_EPOCHS = 12

NetworkArgument = Annotated[str | None, typer.Argument(
    metavar="[NETWORK]", help="digits (the default), digits-small, or a .json file that describes one.")]
SchemeOption = Annotated[str | None, typer.Option(
    help="Which products take N:M weights: dense (none), forward, backward, or bdwp (both; the default).")]
NnzOption = Annotated[int | None, typer.Option(help="Weights kept in each group (default 2).")]
GroupOption = Annotated[int | None, typer.Option(help="Weights of a group: 2:4, 1:4, 4:8, 2:8 (the default), 2:16.")]
StepsOption = Annotated[int | None, typer.Option(min=1, help="Train until so many steps are done in all.")]
EpochsOption = Annotated[int | None, typer.Option(min=1, help=f"The same in epochs (default {DEFAULT_EPOCHS}).")]
BatchOption = Annotated[int | None, typer.Option(help="Images of a step (default 64).")]
RuleOption = Annotated[str | None, typer.Option(help="The update: sgd (with momentum; the default) or lion.")]
LrOption = Annotated[float | None, typer.Option("--lr", help="Learning rate, halved every four epochs (default 0.0625).")]
DecayOption = Annotated[float | None, typer.Option("--weight-decay", help="Weight decay (default 0).")]
RiseOption = Annotated[int | None, typer.Option("--pruned-rise", help="Steps over which that decay rises to it (default 1).")]
PrunedOption = Annotated[float | None, typer.Option("--pruned-decay", help="Decay of the weights that are pruned (default 0).")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of weights and batches; the same seed gives the same run "
                                                               "(default 1).")]
DataOption = Annotated[str | None, typer.Option(
    "--data", help="shipped (1,000 digits), mnist-5k (5,000, downloaded once), or an .npz file. Default: the network's own.")]
DeviceOption = Annotated[str, typer.Option("--device", help="golden (NumPy, cycles by the closed form) or sim (gates).")]
CheckpointOption = Annotated[Path | None, typer.Option(
    "--checkpoint", metavar="FILE", help="Keep the training in this file: after each epoch, at the end, and on Ctrl-C.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the training in --checkpoint, to the same bits.")]
CurveOption = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw the loss (.png, .svg, .pdf or .html).")]


def train(
    network: NetworkArgument = None,
    scheme: SchemeOption = None,
    nnz: NnzOption = None,
    group: GroupOption = None,
    steps: StepsOption = None,
    epochs: EpochsOption = None,
    batch: BatchOption = None,
    rule: RuleOption = None,
    lr: LrOption = None,
    weight_decay: DecayOption = None,
    pruned_decay: PrunedOption = None,
    pruned_rise: RiseOption = None,
    seed: SeedOption = None,
    data: DataOption = None,
    device: DeviceOption = "golden",
    checkpoint: CheckpointOption = None,
    resume: ResumeOption = False,
    plot: CurveOption = None,
    json: JsonOption = False,
):
    """Train a network with N:M sparse weights: pruned one way for the forward pass, another way for the input gradients (BDWP).

    Every product, pruning and update is a job of an engine. With `--device sim` they run on simulated gates, small ones; each
    result is compared with the golden model, each cycle count with the closed form; exits with 1 if any differs. Held-out
    images are answered by the golden models on either device.

    \b
    Example:
      sparseloom train digits-small --scheme bdwp --nnz 2 --group 8 --epochs 2
    """
    check_choice(device, "--device", DEVICES)
    if steps is not None and epochs is not None:
        raise typer.BadParameter("must not come with --epochs", param_hint="--steps")
    if resume and checkpoint is None:
        raise typer.BadParameter("needs --checkpoint FILE", param_hint="--resume")
    if plot is not None:
        _check_plot(plot)
    given = {"scheme": scheme, "nnz": nnz, "group": group, "batch": batch, "rule": rule, "lr": lr, "weight_decay": weight_decay,
             "pruned_decay": pruned_decay, "pruned_rise": pruned_rise, "seed": seed}
    found, recipe = _wanted(network, {name: value for name, value in given.items() if value is not None}, checkpoint, resume)
    images = _data(found.name, data)
    with _opened(device) as machine:
        from sparseloom.host.train.trainer import Trainer

        trainer = Trainer(found, images, machine, recipe)
        state = _begin(trainer, checkpoint, resume)
        total = steps if steps is not None else (epochs or DEFAULT_EPOCHS) * trainer.epoch_steps
        began, before = time.monotonic(), state.step
        state = _train(trainer, state, total, checkpoint)
        result = _result(trainer, state, time.monotonic() - began, state.step - before)
    result |= {"device": device, "checkpoint": checkpoint, "data": {"source": images.source, "images": len(images.labels)}}
    if plot is not None:
        from .train_plot import write_curves

        pattern = "" if recipe.scheme == "dense" else f" {recipe.nnz}:{recipe.group}"
        write_curves(plot, {recipe.scheme + pattern: state.losses}, f"{found.name} on {images.source}")
    emit(result, json, lambda: _report(result))
    if device == "sim" and (result["wrong"] or result["jobs_off"]):
        raise CheckFailed(f"{result['wrong']} results differ from the golden models, {result['jobs_off']} cycle counts from the "
                          "closed forms")


def _check_plot(path):
    """The libraries behind a plot load and its file can be written, before anything is trained."""
    from .train_plot import CURVE_FORMATS

    check_output(path, "--plot", CURVE_FORMATS)
    if path.suffix == ".html":
        import plotly.graph_objects  # noqa: F401
    else:
        import matplotlib.figure  # noqa: F401


def _wanted(name, given, checkpoint, resume):
    """(network, recipe) of the options, or of the checkpoint where the options are silent."""
    from dataclasses import asdict

    from sparseloom.host.train.checkpoint import read_about
    from sparseloom.host.train.network import load_network
    from sparseloom.host.train.trainer import Recipe

    known, before = None, {}
    if resume:
        known, recipe = read_about(checkpoint)
        before = asdict(recipe)
    network = known if known is not None and name is None else load_network(name or DEFAULT_NETWORK)
    try:
        return network, Recipe(**before | given)
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(str(error), param_hint="recipe") from error


def _data(network, name):
    from sparseloom.host.train.data import DATA, load_data

    if name is None and network not in DATA_OF:
        raise typer.BadParameter(f"must be given for {network}: {', '.join(DATA)}, or a file", param_hint="--data")
    return load_data(name or DATA_OF[network])


def _opened(device):
    """The device, open."""
    if device == "golden":
        from sparseloom.host.train.device import GoldenDevice, Machine

        return GoldenDevice(Machine.of())
    from sparseloom.sim.tools import compiler
    from sparseloom.sim.train_device import SimTrainDevice

    compiler()  # missing, it is an error before anything begins
    print("gates to Verilog to compiled simulations (kept for the next time)", file=sys.stderr, flush=True)
    return SimTrainDevice()


def _begin(trainer, checkpoint, resume):
    """The first state; where a checkpoint is wanted, written at once, so that a file that cannot be is told now."""
    from sparseloom.host.train.checkpoint import load_checkpoint, save_checkpoint
    from sparseloom.models.spec.errors import InputError

    if resume:
        return load_checkpoint(checkpoint, trainer)
    state = trainer.start()
    if checkpoint is not None:
        if checkpoint.exists():
            raise InputError(checkpoint, "checkpoint", "not exist yet, or come with --resume", "a file")
        save_checkpoint(checkpoint, trainer, state)
    return state


def _train(trainer, state, total, checkpoint):
    """Steps until ``total``; whatever ends them, what is done is in the checkpoint."""
    from sparseloom.host.train.checkpoint import save_checkpoint

    saved = state.step

    def save():
        nonlocal saved
        if checkpoint is not None and state.step != saved:
            save_checkpoint(checkpoint, trainer, state)
            saved = state.step

    try:
        with progress("steps", max(0, total - state.step)) as tick:
            for state in trainer.run(state, total):  # noqa: B020 -- the state that is left is the last one
                tick()
                if state.step % trainer.epoch_steps == 0:
                    save()
    except KeyboardInterrupt:
        where = f"go on with --checkpoint {checkpoint} --resume" if checkpoint else "nothing kept: no --checkpoint was given"
        print(f"stopped after step {state.step}; {where}", file=sys.stderr, flush=True)
        raise
    finally:
        save()
    return state


def _result(trainer, state, seconds, steps):
    """The figures of a training and of what the engines did."""
    ledger, basis = trainer.device.ledger, trainer.device.basis
    array, whole = ledger.total("nm_train"), ledger.total()
    dense = trainer.scheduled("dense")
    result = {
        "steps": state.step, "steps_now": steps, "loss": state.losses[-1] if state.losses else None,
        "held_out_right": state.held[-1][1] if state.held else None, "held_out_images": len(trainer.data.held_labels),
        "jobs": whole.jobs, "array_cycles": array.cycles, "array_predicted_cycles": array.predicted,
        "cycles": whole.cycles, "predicted_cycles": whole.predicted,
        "step_cycles": trainer.schedule.cycles, "dense_step_cycles": dense.cycles,
        "step_speedup": dense.cycles / trainer.schedule.cycles, "seconds": seconds,
    }
    if basis == "rtl":
        result |= {"compared": whole.compared, "wrong": whole.wrong, "jobs_off": whole.off}
    exact = ("steps", "steps_now", "held_out_images", "jobs", "array_predicted_cycles", "predicted_cycles", "step_cycles",
             "dense_step_cycles", "step_speedup")
    measured = ("loss", "held_out_right", "seconds")
    said = {name: "exact" if name in exact else "measured" if name in measured else basis for name in result}
    described = trainer.describe()
    return {name: value for name, value in result.items() if value is not None} | {
        "basis": {name: said[name] for name, value in result.items() if value is not None},
        "network": described["network"], "recipe": described["recipe"], "schedule": trainer.schedule.rows(),
        "engines": ledger.rows(), "losses": list(state.losses), "held_out": [list(entry) for entry in state.held],
    }


def _report(result):
    from rich.console import Group
    from rich.table import Table

    plan = Table("layer", "pass", "product", "kept", "flow", "cycles", "basis", box=None, pad_edge=False)
    plan.columns[5].justify = "right"
    for row in result["schedule"]:
        plan.add_row(row["layer"], row["pass"], f"{row['m']} x {row['k']} x {row['n']}", f"{row['nnz']}:{row['group']}",
                     row["dataflow"], f"{row['cycles']:,}", "exact")
    table = Table("", "value", "basis", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for name, basis in result["basis"].items():
        value = result[name]
        table.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else f"{value:,.6g}", basis)
    return Group(plan, "", table)
