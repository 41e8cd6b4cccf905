"""``sparseloom run``: a language model generates text, its every matrix product on an engine's golden model or on gates."""

import sys
import time
from contextlib import ExitStack
from typing import Annotated

import typer

from .common import CheckFailed, JsonOption, SeedOption, SetOption, emit, progress
from .workload import board_bounds, board_rows, build_of, check_choice, described, model_path

__all__ = ["run"]

ARCHITECTURE = "llama"
_OTHERS = {"matmulfree": "demo", "moe-vit": "classify"}
"""The verb for models of another architecture."""
CHAT_MODEL, CHAT_TOKEN = "smollm2", "<|im_start|>"
FAST_FROM = 5_000_000
"""Cycles from which gates compiled to run fast are done sooner, their longer compilation included."""

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="smollm2, or a GGUF file of the Llama architecture.")]
EngineOption = Annotated[str, typer.Option("--engine", help="The engine that takes the matrix products.")]
DeviceOption = Annotated[str, typer.Option("--device", help="golden (NumPy, cycles by the closed form) or sim (gates).")]
PromptOption = Annotated[str, typer.Option("--prompt", metavar="TEXT", help="The question, or the beginning of the text.")]
ChatOption = Annotated[bool | None, typer.Option(
    "--chat/--no-chat", help="Whether the prompt is a question in SmolLM2's template. Default: for smollm2 alone.")]
TokensOption = Annotated[int, typer.Option("--tokens", min=1, max=100_000, help="Tokens to add at most.")]
TemperatureOption = Annotated[float, typer.Option("--temperature", min=0, help="0 takes the likeliest token each time.")]


def run(
    model: ModelArgument,
    engine: EngineOption = "sparse_chain",
    settings: SetOption = [],  # noqa: B006 -- typer copies it
    device: DeviceOption = "golden",
    prompt: PromptOption = "What does a compiler do?",
    chat: ChatOption = None,
    tokens: TokensOption = 32,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = 1,
    json: JsonOption = False,
):
    """Generate text with a Llama-architecture model: NumPy does attention and vector work, the device every matrix product.

    With `--device sim` every result is compared with the golden model, every cycle count with the closed form; exits with 1 if
    any differs. Maxima of the build that no --set names grow to hold the model.

    \b
    Example:
      sparseloom run smollm2 --prompt "What does a compiler do?" --tokens 20
    """
    import sparseloom
    from sparseloom.host.checked import Checked
    from sparseloom.host.compiler import compile_graph
    from sparseloom.host.families import FAMILIES
    from sparseloom.host.runtime import Runtime

    check_choice(engine, "--engine", FAMILIES)
    check_choice(device, "--device", sparseloom.DEVICES)
    build_of(engine, settings)  # what is wrong with --set is told before anything is downloaded
    language, graph, name = _opened(model)
    ids = _prompt(language, prompt, model == CHAT_MODEL if chat is None else chat, tokens)
    layers = [graph[layer] for layer in language.products]
    build = build_of(engine, settings, {"k": max(layer.k for layer in layers), "n": max(layer.n for layer in layers)})
    _check_placed(graph, build, language.products)
    with progress("layers packed", len(layers)) as step:
        plan = compile_graph(graph, build, progress=step)
    with _opened_device(device, plan, len(ids), tokens) as gates:
        runtime = Runtime(gates, plan)
        checked = Checked(runtime, {layer.name: layer.weight for layer in layers}) if gates.basis == "rtl" else None
        began = time.monotonic()
        given = _continue(language, ids, tokens, temperature, seed, (checked or runtime).linear, json)
        seconds = time.monotonic() - began
    options = {"tokens": tokens, "seed": seed, "temperature": temperature, "chat": len(language.encode(prompt)) < len(ids)}
    result = _result(plan, checked.products if checked else runtime.calls, seconds) | {
        "text": _text(language, given), "ids": given, "prompt": prompt, "prompt_ids": ids, "options": options, "device": device,
        "model": {"name": name, "source": graph.source}, "build": described(build),
    }
    emit(result, json, lambda: _report(result))
    if result["wrong"]:
        raise CheckFailed(f"{result['wrong']} of {result['compared']} results differ from the golden model")
    if result["cycles"] != result["predicted_cycles"]:
        raise CheckFailed(f"the gates took {result['cycles']} cycles, the closed form says {result['predicted_cycles']}")


def _opened(model):
    """``(language model, graph, name)`` of a name or a file."""
    from sparseloom.models.importers.load import load
    from sparseloom.models.zoo.llama import LlamaLM
    from sparseloom.models.zoo.registry import MODELS

    if model in MODELS and MODELS[model].architecture != ARCHITECTURE:
        verb = _OTHERS.get(MODELS[model].architecture, "check")
        rule = f"must be of the architecture {ARCHITECTURE}; sparseloom {verb} takes {model}"
        raise typer.BadParameter(rule, param_hint="MODEL")
    path = model_path(model)
    language, graph = LlamaLM.load(path), load(path)
    return language, graph, model if model in MODELS else graph.name


def _prompt(language, text, chat, tokens):
    """The ids of a prompt; usage errors if there are none, or too many for the model's context with ``tokens`` after them."""
    from sparseloom.models.zoo.smollm2 import chat as templated

    if chat and len(language.encode(CHAT_TOKEN)) != 1:
        raise typer.BadParameter(f"needs a model with the control token {CHAT_TOKEN}", param_hint="--chat")
    ids = language.encode(templated(text) if chat else text)
    if not ids:
        raise typer.BadParameter("must not be empty", param_hint="--prompt")
    room = language.config.context - len(ids) + 1  # the last token is not put in
    if tokens > room:
        rule = f"must be at most {room}: {len(ids)} tokens of the prompt in a context of {language.config.context}, got {tokens}"
        raise typer.BadParameter(rule, param_hint="--tokens")
    return ids


def _check_placed(graph, build, products):
    """InputError for a model with a product that the build does not take."""
    from sparseloom.host.compiler import place
    from sparseloom.models.spec.errors import InputError

    for placement in place(graph, build):
        if placement.layer.name in products and placement.where != "engine":
            raise InputError(graph.source, placement.layer.name, f"run on {build.name}", placement.reason)


def _opened_device(device, plan, prompt, tokens):
    """The device; gates are compiled to run fast if the work is long enough."""
    import sparseloom

    if device != "sim":
        return sparseloom.device(device, plan.build)
    cycles = sum(plan.cycles(name, prompt) + (tokens - 1) * plan.cycles(name, 1) for name in plan.layers)
    print("gates to Verilog to a compiled simulation (kept for the next time)", file=sys.stderr, flush=True)
    return sparseloom.device(device, plan.build, opt="fast" if cycles >= FAST_FROM else "quick")


def _continue(language, prompt, tokens, temperature, seed, linear, json):
    """The ids of the continuation; its text printed as it comes unless ``json``, progress told until the first of it."""
    given, shown, per_token = [], 0, len(language.products)
    with ExitStack() as bar:
        step = bar.enter_context(progress("products", per_token * (tokens if json else 1)))

        def product(name, x):
            y = linear(name, x)
            if json or not given:
                step()
            return y

        for token in language.generate(prompt, tokens, temperature, seed, product):
            given.append(token)
            if json:
                continue
            bar.close()
            text = _text(language, given)
            if not text.endswith("\ufffd"):  # half of a character
                print(text[shown:], end="", flush=True)
                shown = len(text)
    if not json:
        print(_text(language, given)[shown:], end="\n\n", flush=True)
    return given


def _text(language, ids):
    """The text of a continuation without the token that ends it."""
    ended = bool(ids) and ids[-1] == language.metadata.get("tokenizer.ggml.eos_token_id")
    return language.decode(ids[:-1] if ended else ids)


def _result(plan, calls, seconds):
    """The figures of a run, of its prefill and of its last decode step, and the bounds of one token on boards."""
    from sparseloom.host.tally import passes, tally

    basis = calls[0].receipt.basis
    prefill, *steps = passes(calls)
    per_token = sum(plan.cycles(name, 1) for name in plan.layers)
    nbytes = sum(plan.nbytes(name, 1)[stream.name] for name in plan.layers for stream in plan.build.inputs)
    result = tally(plan, calls) | {
        "compared": sum(getattr(call, "compared", 0) for call in calls),
        "wrong": sum(getattr(call, "wrong", 0) for call in calls),
        "cycles_per_token": per_token,
        "stream_bytes_per_token": nbytes,
        "seconds": seconds,
    }
    exact = ("products", "predicted_cycles", "cycles_per_token", "stream_bytes_per_token")
    said = {name: "exact" if name in exact else basis for name in result} | {"seconds": "measured"}
    if basis == "rtl":
        result["kilocycles_per_second"], said["kilocycles_per_second"] = result["cycles"] / seconds / 1e3, "measured"
    result["bit_exact"] = not result["wrong"] if result["compared"] else None
    for name, part in (("prefill", prefill), ("decode_token", steps[-1] if steps else None)):
        if part:
            result[name] = tally(plan, part) | {"tokens": part[0].m}
            result[name]["basis"] = {key: said.get(key, "exact") for key in result[name]}
    return result | {"boards": board_bounds(per_token, nbytes), "basis": said}


def _report(result):
    from rich.console import Group
    from rich.table import Table

    table = Table("", "", "basis", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    verdict = {True: "yes", False: "NO", None: "not compared: this is golden"}[result["bit_exact"]]
    table.add_row("every result equal to golden", verdict, result["basis"]["compared"])
    for name, basis in result["basis"].items():
        table.add_row(name.replace("_", " "), _figure(name, result[name]), basis)
    for row in board_rows(result["boards"]):
        table.add_row(*row)
    parts = Table("", "tokens", "cycles", "closed form", "useful stream", "multipliers busy", "basis", box=None, pad_edge=False)
    for column in parts.columns[1:6]:
        column.justify = "right"
    for name in ("prefill", "decode_token"):
        if name in result:
            names = ("tokens", "cycles", "predicted_cycles", "stream_fraction", "compute_fraction")
            figures = [_figure(key, result[name][key]) for key in names]
            parts.add_row(name.replace("_", " "), *figures, result[name]["basis"]["cycles"])
    return Group(parts, "", table, "", "tokens/s: if the weight streams alone took time; the less of the two holds")


def _figure(name, value):
    if name.endswith("_fraction"):
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
