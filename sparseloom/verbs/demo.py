"""``sparseloom demo``: a language model continues a verse, its every matrix product on simulated gates."""

import json as json_text
import os
import re
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from .common import BASES, CheckFailed, JsonOption, SeedOption, SetOption, emit, progress
from .workload import board_bounds, board_rows, build_of, described

__all__ = ["demo"]

ENGINE, MODEL, ARCHITECTURE = "ternary_engine", "kjv-matmulfree", "matmulfree"
WAVEFORM = "product.vcd"

PromptOption = Annotated[str, typer.Option("--prompt", metavar="TEXT", help="The beginning of the text.")]
TokensOption = Annotated[int, typer.Option("--tokens", min=2, max=100_000, help="Tokens to add.")]
TemperatureOption = Annotated[float, typer.Option("--temperature", min=0, help="0 takes the likeliest token each time.")]
DatapathOption = Annotated[str, typer.Option("--datapath", help="tree or table.")]
ModelOption = Annotated[str, typer.Option("--model", metavar="MODEL", help="A MatMul-free checkpoint: a name or a file.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the report and its files go.")]


def demo(
    prompt: PromptOption = "And it came to pass",
    tokens: TokensOption = 48,
    seed: SeedOption = 1,
    temperature: TemperatureOption = 0.7,
    datapath: DatapathOption = "tree",
    settings: SetOption = [],  # noqa: B006 -- typer copies it
    model: ModelOption = MODEL,
    output: OutputOption = Path("out/demo"),
    json: JsonOption = False,
):
    """Continue a text with a MatMul-free language model: NumPy does the vector work, simulated gates every matrix product.

    Every result is compared with the golden model, every cycle count with the closed form; exits with 1 if any differs. Writes
    report.html, the Verilog, a waveform of one product, the compiled plan and result.json.

    \b
    Example:
      sparseloom demo --prompt "In the beginning" --tokens 20 --datapath table -o out/table
    """
    # First whatever may be missing, so that nobody waits for a failure.
    from sparseloom.host.checked import Checked
    from sparseloom.host.compiler import compile_graph
    from sparseloom.host.container import save_plan
    from sparseloom.host.runtime import Runtime
    from sparseloom.report import render
    from sparseloom.sim.build import design_of
    from sparseloom.sim.device import SimDevice

    build = build_of(ENGINE, [f"datapath={datapath}", *settings])
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"must be a folder, got {str(output)!r}", param_hint="--output")
    language, graph, about = _model(model)
    plan = compile_graph(graph, build)
    _say(json, "gates to Verilog")
    design = design_of(build)
    _say(json, "Verilog to a compiled simulation (kept for the next time)")
    with SimDevice(build) as device:
        checked = Checked(Runtime(device, plan), language.layers)
        began = time.monotonic()
        text, sample = _continue(language, prompt, tokens, temperature, seed, checked, json)
        seconds = time.monotonic() - began
    calls = _calls(plan, checked.products)
    result = _result(plan, calls) | {
        "text": text, "prompt": prompt, "model": about, "build": described(build),
        "options": {"tokens": tokens, "seed": seed, "temperature": temperature},
        "files": {"report": "report.html", "Verilog": f"{design.name}.v", "waveform": WAVEFORM, "plan": "plan.safetensors",
                  "result": "result.json"},
        "output": str(output),
    }
    result["kilocycles_per_second"], result["basis"]["kilocycles_per_second"] = result["cycles"] / seconds / 1e3, "measured"
    _say(json, f"a waveform of {sample[0]}, from a simulation compiled for it")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as stage:
        stage = Path(stage)
        with SimDevice(build, waves=stage / WAVEFORM) as device:
            Runtime(device, plan).matmul(*sample)
        (stage / f"{design.name}.v").write_text(design.verilog)
        save_plan(plan, stage / "plan.safetensors")
        (stage / "report.html").write_text(render(result, calls, build, BASES), encoding="utf-8")
        (stage / "result.json").write_text(json_text.dumps(result | {"calls": calls}))
        output.mkdir(exist_ok=True)
        for name in result["files"].values():
            os.replace(stage / name, output / name)
    emit(result, json, lambda: _report(result))
    wrong = sum(call["wrong"] for call in calls)
    if wrong:
        raise CheckFailed(f"{wrong} of {result['compared']} results differ from the golden model")
    if result["cycles"] != result["predicted_cycles"]:
        raise CheckFailed(f"the gates took {result['cycles']} cycles, the closed form says {result['predicted_cycles']}")


def _model(name):
    """``(language model, graph, what it is)`` of a name or a checkpoint file."""
    from sparseloom.models.importers.load import load
    from sparseloom.models.zoo import registry
    from sparseloom.models.zoo.matmulfree import MatmulFreeLM

    if name not in registry.MODELS:
        return MatmulFreeLM.load(name), load(name), {"name": Path(name).stem, "about": "a MatMul-free language model"}
    entry = registry.MODELS[name]
    if entry.architecture != ARCHITECTURE:
        rule = f"must be a {ARCHITECTURE} checkpoint; sparseloom run {name} takes this one"
        raise typer.BadParameter(rule, param_hint="--model")
    return registry.load(name), load(entry.path), {"name": name, "about": entry.about}


def _say(json, line):
    if not json:
        print(line, file=sys.stderr, flush=True)


def _continue(language, prompt, tokens, temperature, seed, checked, json):
    """``(text, (layer, codes))``: the continuation, printed as it comes unless ``json``, and a product of the last token."""
    seen, ids, shown = {}, [], 0

    def matmul(name, codes):
        seen[name] = codes
        return checked.matmul(name, codes)

    if not json:
        print(f"\n{prompt}", end="", flush=True)
    with progress("tokens", tokens) if json else nullcontext() as step:
        for token in language.generate(language.encode(prompt), tokens, temperature, seed, matmul):
            ids.append(token)
            text = language.decode(ids)
            if json:
                step()
            elif not text.endswith("\ufffd"):  # half of a character
                print(text[shown:], end="", flush=True)
                shown = len(text)
    text = language.decode(ids)
    if not json:
        print(text[shown:], end="\n\n", flush=True)
    return text, next(iter(seen.items()))


def _calls(plan, products):
    """A dict for each product, in order. ``round``: 0 for the prompt, then 1, 2... for each token that the model was given."""
    calls, number = [], -1
    for product in products:
        number += product.layer == products[0].layer
        layer = plan.layers[product.layer]
        calls.append({"layer": layer.name, "group": re.sub(r"\d+", "*", layer.name).removesuffix(".weight"), "round": number,
                      "m": product.m, "n": layer.n, "k": layer.k, "compared": product.compared, "wrong": product.wrong,
                      "cycles": product.receipt.cycles, "predicted": plan.cycles(layer.name, product.m)})
    return calls


def _result(plan, calls):
    """The figures of a run, and of one token by the closed forms."""
    build = plan.build
    cycles = sum(call["cycles"] for call in calls)
    per_token = sum(plan.cycles(name, 1) for name in plan.layers)
    nbytes = sum(plan.nbytes(name, 1)[stream.name] for name in plan.layers for stream in build.inputs)
    result = {
        "bit_exact": not any(call["wrong"] for call in calls),
        "compared": sum(call["compared"] for call in calls),
        "products": len(calls),
        "cycles": cycles,
        "predicted_cycles": sum(call["predicted"] for call in calls),
        "useful_weights_per_cycle": sum(call["m"] * call["n"] * call["k"] for call in calls) / cycles,
        "peak_weights_per_cycle": build.rows * build.lanes,
        "cycles_per_token": per_token,
        "stream_bytes_per_token": nbytes,
        "boards": board_bounds(per_token, nbytes),
    }
    exact = ("predicted_cycles", "peak_weights_per_cycle", "cycles_per_token", "stream_bytes_per_token")
    figures = [name for name, value in result.items() if isinstance(value, (int, float)) and name != "bit_exact"]
    return result | {"basis": {name: "exact" if name in exact else "rtl" for name in figures}}


def _report(result):
    from rich.console import Group
    from rich.table import Table

    table = Table("", "", "basis", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    table.add_row("every result equal to golden", "yes" if result["bit_exact"] else "NO", "rtl")
    for name, basis in result["basis"].items():
        value = result[name]
        table.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else f"{value:,.1f}", basis)
    for row in board_rows(result["boards"]):
        table.add_row(*row)
    files = ", ".join(result["files"].values())
    return Group(table, "", "tokens/s: if the weight streams alone took time; the less of the two holds",
                 f"in {result['output']}: {files}")
