"""``sparseloom compress``: one-shot pruning and quantisation of a Llama model, by second-order means, on the CPU."""

import time
from pathlib import Path
from typing import Annotated

import typer

from .common import JsonOption, SeedOption, emit, progress
from .workload import check_choice, model_path

__all__ = ["compress"]

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="smollm2, or a GGUF file of the Llama architecture.")]
OutputOption = Annotated[Path, typer.Option("-o", "--output", help="The N:M container to write; finished blocks lie beside it.")]
NnzOption = Annotated[int, typer.Option(help="Weights kept in each group, a power of two; all of them: dense.")]
GroupOption = Annotated[int, typer.Option(help="Consecutive inputs of a sparse group: 4, 8 or 16.")]
BitsOption = Annotated[int, typer.Option(help="Bits of a kept weight: 2, 3, 4 or 8.")]
ScaleOption = Annotated[int, typer.Option("--scale-group", help="Consecutive inputs that share a scale.")]
ZerosOption = Annotated[bool, typer.Option("--zeros", help="Give every scale an integer zero point.")]
BudgetOption = Annotated[float | None, typer.Option(
    help="Bits a weight, on average, everything counted: the most sensitive matrices get more than --nnz and --bits.")]
CalibrationOption = Annotated[list[Path], typer.Option(
    "--calibration", help="A UTF-8 text to measure activations on; repeatable. Default: the texts that ship.")]
WindowsOption = Annotated[int, typer.Option(min=1, help="Calibration windows of 512 tokens, drawn from the texts by --seed.")]
PassageOption = Annotated[str, typer.Option(help="The passage to score both models on, or none.")]
SENSITIVITY_WINDOWS = 8
SUFFIX = ".blocks"
NO_PASSAGE = "none"


def compress(
    model: ModelArgument,
    output: OutputOption,
    nnz: NnzOption = 4,
    group: GroupOption = 8,
    bits: BitsOption = 4,
    scale_group: ScaleOption = 32,
    zeros: ZerosOption = False,
    budget: BudgetOption = None,
    calibration: CalibrationOption = [],  # noqa: B006 -- typer copies it
    windows: WindowsOption = 48,
    passage: PassageOption = "gpl-3-512",
    seed: SeedOption = 0,
    json: JsonOption = False,
):
    """Prune every matrix of a model to N:M and quantise it in groups, after a look at what the matrices receive.

    Block after block, each with the inputs that the compressed blocks before it produce. A run that was stopped goes on where
    it was when it is started again with the same options. Calibration texts must share nothing with the passage.

    \b
    Example:
      sparseloom compress smollm2 -o smollm2-4of8.safetensors --nnz 4 --group 8 --bits 4
    """
    from sparseloom.models.compress.pipeline import compress as run
    from sparseloom.models.compress.pipeline import matrices, plan
    from sparseloom.models.compress.store import BlockStore
    from sparseloom.models.compress.texts import DEFAULT_TEXTS, WINDOW, read_texts, windows_of
    from sparseloom.models.importers.nm_file import save_nm
    from sparseloom.models.spec.errors import InputError
    from sparseloom.models.zoo.llama import LlamaLM
    from sparseloom.models.zoo.passages import PASSAGES

    floor = scheme_of(nnz, group, bits, scale_group, zeros)
    if not output.parent.is_dir():
        raise typer.BadParameter(f"folder must exist, got {output.parent}", param_hint="--output")
    check_choice(passage, "--passage", (*PASSAGES, NO_PASSAGE))
    texts = read_texts(calibration or DEFAULT_TEXTS)
    start = time.perf_counter()
    before = LlamaLM.load(model_path(model))
    evaluated = passage_windows(passage, before, texts)
    drawn = windows_of(texts, before.encode, windows, seed, min(WINDOW, before.config.context))
    shapes = {name: before.weights[name].shape for name in matrices(before)}
    elements = sum(n * k for n, k in shapes.values())
    for name, (_, k) in shapes.items():
        if k % group:
            raise InputError(model, name, f"have inputs that --group {group} divides", k)
    schemes = dict.fromkeys(shapes, floor)
    if budget is not None:
        with progress("measuring", len(shapes)) as step:
            try:
                schemes = plan(before, drawn[:SENSITIVITY_WINDOWS], floor, int(budget * elements), lambda _: step())
            except ValueError as error:
                raise typer.BadParameter(f"{error} for {elements} weights", param_hint="--budget") from error
    blocks = BlockStore(output.with_name(output.name + SUFFIX))
    with progress("compressing", len(shapes)) as step:
        done = run(before, drawn, schemes, blocks, lambda _: step())
    found = done.solutions
    save_nm(output, {name: found[name].stored for name in shapes}, metadata={"base": before.metadata.get("general.name", model)})
    result = {
        "matrices": len(shapes),
        "weights": elements,
        "bits_per_weight": sum(schemes[name].bits_of(*shape) for name, shape in shapes.items()) / elements,
        "kept": sum(int(found[name].mask.sum()) for name in shapes) / elements,
        "file_bytes": output.stat().st_size,
        "exchanges": sum(found[name].swaps for name in shapes),
        "stream_divergence": done.divergence[-1],
        "blocks_resumed": done.resumed,
        **scores(before, done.model, evaluated),
        "seconds": time.perf_counter() - start,
    }
    blocks.clear()
    exact = ("matrices", "weights", "bits_per_weight", "kept", "file_bytes")
    result["basis"] = {name: "exact" if name in exact else "measured" for name in result}
    emit(result | {
        "model": model, "output": output, "passage": passage,
        "options": {"seed": seed, "windows": windows, "budget": budget,
                    "calibration": [Path(path).name for path in calibration or DEFAULT_TEXTS]},
        "layers": [{"name": name, "scheme": str(schemes[name]), "error": found[name].error, "exchanges": found[name].swaps}
                   for name in shapes],
    }, json)


def scheme_of(nnz, group, bits, scale_group, zeros):
    """The Scheme of the options, whose names are its fields'; what it refuses is a usage error of that option."""
    from sparseloom.models.compress.scheme import FLOAT_BITS, Scheme

    if bits == FLOAT_BITS:
        raise typer.BadParameter("bits must be one of 2, 3, 4, 8: the container holds codes", param_hint="--bits")
    try:
        return Scheme(nnz=nnz, group=group, bits=bits, scale_group=scale_group, zeros=zeros)
    except ValueError as error:
        field = str(error).split()[0]
        raise typer.BadParameter(str(error), param_hint=f"--{field.replace('_', '-')}") from error


def passage_windows(name, model, texts):
    """The windows of a passage for this model; InputError if a calibration text shares a run of words with it."""
    from sparseloom.models.compress.texts import RUN, shared_run
    from sparseloom.models.spec.errors import InputError
    from sparseloom.models.zoo.passages import PASSAGES

    if name == NO_PASSAGE:
        return []
    found = PASSAGES[name].windows(model.encode)
    shared = shared_run(texts, model.decode([token for ids in found for token in ids]))
    if shared:
        raise InputError("calibration", "texts", f"share no {RUN} words in a row with the passage {name}", shared)
    length = model.config.context
    return [ids[at : at + length] for ids in found for at in range(0, len(ids), length) if len(ids[at : at + length]) > 1]


def scores(before, after, windows):
    """What the float model and the compressed one make of a passage; nothing without windows."""
    from sparseloom.models.zoo.evaluate import evaluate

    if not windows:
        return {}
    was, now = evaluate(before.forward, windows), evaluate(after.forward, windows, before.forward)
    return {"perplexity_before": was.perplexity, "perplexity": now.perplexity, "top1_agreement": now.top1, "kl": now.kl,
            "predictions": now.predictions}
