"""SmolLM2-135M on the sparse chain engine: what its arithmetic costs, whole passes on gates, others' figures beside.

python benchmarks/smollm2.py [PART]... [--json] [--model FILE] [--store FILE]

Matrix products alone are the engine's; attention and vector work are float32 NumPy. Parts (default: all but formats):

quality   gpl-3-2048 on the golden model against the float model with the same weights; every flip with its margin in --json
decode    one token after a prompt, every product of it on simulated gates
prefill   64 tokens, every product on simulated gates, the head for the last of them alone
table     tokens a second on a KV260: published, by the memory's peak, by the engine's closed form at the same clock
formats   gpl-3-512 on the golden model: activation scales by group and by token, weights rounded to other widths without any
          calibration; --store keeps the rows for the figure (docs/figures/smollm2.json)

On gates every int32 is compared with the golden model and the cycles with the closed form. Downloads the model once, 93 MB.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from sparseloom.host.checked import Checked
from sparseloom.host.compiler import compile_graph, outline
from sparseloom.host.golden import GoldenDevice
from sparseloom.host.runtime import Runtime
from sparseloom.host.tally import tally
from sparseloom.models.compress.grid import Grid
from sparseloom.models.compress.scheme import Scheme
from sparseloom.models.graph import Graph, Layer
from sparseloom.models.importers import load
from sparseloom.models.spec.boards import BOARDS
from sparseloom.models.spec.sparse_chain import SparseChain
from sparseloom.models.zoo.evaluate import evaluate
from sparseloom.models.zoo.llama import HEAD, KVCache, LlamaLM
from sparseloom.models.zoo.passages import PASSAGES
from sparseloom.models.zoo.smollm2 import chat, fetch
from sparseloom.perfmodel.published.llm import published
from sparseloom.sim.device import SimDevice
from sparseloom.verbs.common import progress

BUILD = SparseChain()  # 16 chains: a stream of 512 bits
LIMITS = {"perplexity_ratio": 1.02, "top1": 0.95, "stream_fraction": 0.97, "compute_fraction": 0.90}
"""Perplexity over the float model's, at most; the others at least."""
PROMPT = "What does a compiler do?"
PREFILL = 64
CHAINS = (16, 8, 4)
SHIPPED = "Q4_1 as shipped"
GROUPS, TOKEN = ("int8, a scale for 32", 32), ("int8, a scale a token", 0)
FORMATS = (  # weights of the blocks; activations; how the weights are rounded
    (SHIPPED, GROUPS, None),
    (SHIPPED, TOKEN, None),
    ("8 bits, rounded", GROUPS, Scheme(nnz=4, group=4, bits=8)),
    ("3 bits, rounded", GROUPS, Scheme(nnz=4, group=4, bits=3, zeros=True)),
)
MARGINS = 5  # of the flips, the largest, in text


class Bench:
    """The model, its graph and its plan, each made when it is first needed."""

    def __init__(self, path):
        self.graph, self.language, self._plan = load(path), LlamaLM.load(path), None

    @property
    def plan(self):
        """Of the model as shipped, in the engine's own activation format."""
        self._plan = self._plan or self.planned(self.graph)
        return self._plan

    def planned(self, graph, x_group=None):
        with progress("layers packed", len(self.language.products)) as step:
            return compile_graph(graph, BUILD, x_group=x_group, progress=step)

    def rounded(self, scheme):
        """The graph with the blocks' matrices, in floats as the file has them, rounded to the nearest values of a scheme."""
        layers = []
        with progress(f"matrices rounded to {scheme}", len(self.language.products)) as step:
            for name in self.language.products:
                weight = self.graph[name].weight
                if name != HEAD:
                    w = self.language.weights[name]
                    mask = np.ones(w.shape, bool)
                    grid = Grid.fit(w, mask, np.ones(w.shape[1], np.float32), scheme)
                    weight = grid.store(grid.round(w), mask, scheme)
                nbytes = self.graph[name].nbytes if name == HEAD else weight.nbytes
                layers.append(Layer(name=name, op="linear", shape=(weight.n, weight.k), format=str(scheme), nbytes=nbytes,
                                    weight=weight))
                step()
        return Graph(name=f"SmolLM2 {scheme}", layers=layers)

    def shown(self, label, linear, passes=1):
        """The hook ``linear`` as a context, which tells on stderr how far ``passes`` passes through the model are."""
        return _Shown(progress(label, passes * len(self.language.products)), linear)


class _Shown:
    def __init__(self, bar, linear):
        self._bar, self._linear = bar, linear

    def __enter__(self):
        step = self._bar.__enter__()

        def hook(name, x):
            y = self._linear(name, x)
            step()
            return y

        return hook

    def __exit__(self, *error):
        return self._bar.__exit__(*error)


def scored(bench, passage, plan):
    """A dict of the scores of a plan on the golden model on a passage, against the float model's."""
    windows = PASSAGES[passage].windows(bench.language.encode)
    runtime = Runtime(GoldenDevice(BUILD), plan)
    began = time.monotonic()
    with bench.shown(f"{passage}, products", runtime.linear, len(windows)) as linear:
        score = evaluate(lambda ids: bench.language.forward(ids, linear), windows, bench.language.forward)
    base = evaluate(bench.language.forward, windows)
    return {"passage": passage, "predictions": score.predictions, "perplexity": score.perplexity,
            "float_perplexity": base.perplexity, "perplexity_ratio": score.perplexity / base.perplexity, "top1": score.top1,
            "kl": score.kl, "flips": [asdict(flip) for flip in score.flips], "seconds": time.monotonic() - began,
            "basis": "measured"}


def quality(bench):
    found = scored(bench, "gpl-3-2048", bench.plan)
    passed = found["perplexity_ratio"] <= LIMITS["perplexity_ratio"] and found["top1"] >= LIMITS["top1"]
    margins = sorted((flip["margin"] for flip in found["flips"]), reverse=True)
    text = (f"{found['passage']}: perplexity {found['perplexity']:.3f}, float {found['float_perplexity']:.3f} "
            f"({100 * (found['perplexity_ratio'] - 1):+.2f} %), top-1 {100 * found['top1']:.2f} %, KL {found['kl']:.4f} nats; "
            f"{len(margins)} flips of {found['predictions']}, margins: median {np.median(margins or [0]):.3f}, largest "
            f"{', '.join(f'{margin:.2f}' for margin in margins[:MARGINS])} (measured, {found['seconds']:.0f} s)")
    return found | {"passed": passed}, text


def on_gates(bench, label, ids, cache, fraction):
    """One pass of ``ids`` after ``cache`` with every product on gates; ``fraction``: the useful one that has a limit."""
    plan, context = bench.plan, cache.length
    with SimDevice(BUILD, opt="fast") as device:
        checked = Checked(Runtime(device, plan), {layer.name: layer.weight for layer in bench.graph.on("engine")})
        began = time.monotonic()
        with bench.shown(f"{label}, products on gates", checked.linear) as linear:
            logits = bench.language.step(ids, cache, linear, last=True)[0]
        seconds = time.monotonic() - began
    found = tally(plan, checked.products) | {
        "compared": sum(product.compared for product in checked.products),
        "wrong": sum(product.wrong for product in checked.products), "seconds": seconds,
    }
    found["basis"] = {name: "rtl" for name in found} | {"predicted_cycles": "exact", "seconds": "measured"}
    found |= {"tokens": len(ids), "context": context, "next": bench.language.decode([logits.argmax()])}
    found["passed"] = bool(found["compared"] and not found["wrong"] and found["cycles"] == found["predicted_cycles"]
                           and found["products"] == len(bench.language.products) and found[fraction] >= LIMITS[fraction])
    text = (f"{label}: {found['products']} products of {found['tokens']} tokens on gates, {found['compared']:,} results, "
            f"{found['wrong']} wrong; {found['cycles']:,} cycles (rtl), closed form {found['predicted_cycles']:,} (exact); "
            f"stream {100 * found['stream_fraction']:.1f} % useful, multipliers {100 * found['compute_fraction']:.1f} % busy; "
            f"next token {found['next']!r}; {seconds:.0f} s (measured)")
    return found, text


def decode(bench):
    cache = KVCache(bench.language.config)
    runtime = Runtime(GoldenDevice(BUILD), bench.plan)
    with bench.shown("prompt, products on golden", runtime.linear) as linear:
        logits = bench.language.step(bench.language.encode(chat(PROMPT)), cache, linear, last=True)[0]
    return on_gates(bench, "decode", [int(logits.argmax())], cache, "stream_fraction")


def prefill(bench):
    ids = PASSAGES["gpl-3-512"].windows(bench.language.encode)[0][:PREFILL]
    return on_gates(bench, "prefill", ids, KVCache(bench.language.config), "compute_fraction")


def table(bench):
    board = BOARDS["kv260"]
    theirs, = published(system="Torch2RISCV-accelerator", model="SmolLM2-135M", metric="decode_throughput")
    plans = {chains: outline(bench.graph, SparseChain(chains=chains)) for chains in CHAINS}
    nbytes = sum(plans[CHAINS[0]].nbytes(name, 1)["w"] for name in bench.language.products)
    clock = f"{theirs.clock_mhz:.0f} MHz"
    rows = [
        {"row": f"{theirs.system}, {theirs.precision}, {clock}, {theirs.covers}", "tokens_per_second": theirs.value,
         "basis": f"published ({theirs.kind})", "source": theirs.source},
        {"row": f"ceiling: {board.bandwidth.value / 1e9:.1f} GB/s over {nbytes / 1e6:.1f} MB of weights",
         "tokens_per_second": board.bandwidth.value / nbytes, "basis": "analytic", "source": board.bandwidth.source},
    ]
    for chains, plan in plans.items():
        cycles = sum(plan.cycles(name, 1) for name in plan.layers)
        rows.append({"row": f"bound: {cycles:,} cycles of a {8 * plan.build.beat_bytes}-bit weight stream, {clock}",
                     "tokens_per_second": theirs.clock_mhz * 1e6 / cycles, "basis": "exact cycles, assumed clock",
                     "source": "closed form; the published row's clock", "cycles": cycles, "chains": chains})
    lines = [f"{row['row']:72} {row['tokens_per_second']:7.1f}  {row['basis']}" for row in rows]
    title = f"tokens/s of SmolLM2-135M on {board.name}; ceiling and bounds: weights alone, the rest of a token takes no time"
    return {"board": board.name, "rows": rows, "passed": True}, "\n".join([title, *lines])


def row_of(bench, weights, activations, scheme):
    """A row for the figure: quality, bytes of all weights, cycles of a decode token."""
    words, x_group = activations
    plan = bench.planned(bench.rounded(scheme) if scheme else bench.graph, x_group)
    score = scored(bench, "gpl-3-512", plan)
    return {"weights": weights, "activations": words,
            **{name: score[name] for name in ("passage", "perplexity", "float_perplexity", "top1", "kl")},
            "bytes": sum(plan.nbytes(name, 1)["w"] for name in plan.layers),
            "cycles": sum(plan.cycles(name, 1) for name in plan.layers), "chains": BUILD.chains,
            "basis": {**dict.fromkeys(("perplexity", "float_perplexity", "top1", "kl"), "measured"), "bytes": "exact",
                      "cycles": "exact"}}


def formats(bench):
    rows = [row_of(bench, *form) for form in FORMATS]
    text = [f"{row['weights']:16} {row['activations']:22} perplexity {row['perplexity']:8.2f}, top-1 {100 * row['top1']:.1f} % "
            f"(measured); {row['bytes'] / 1e6:.1f} MB, {row['cycles']:,} cycles (exact)" for row in rows]
    return {"rows": rows, "passed": True}, "\n".join(text)


PARTS = {"quality": quality, "decode": decode, "prefill": prefill, "table": table, "formats": formats}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--model", help="the wheel or GGUF file of SmolLM2, instead of a download")
    parser.add_argument("--store", type=Path, metavar="FILE", help="keep the rows of the part formats in this file")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = parser.parse_args()
    parts = args.parts or [name for name in PARTS if name != "formats"]
    if unknown := [name for name in parts if name not in PARTS]:
        parser.error(f"PART must be one of {', '.join(PARTS)}, got {unknown[0]!r}")
    found = {}
    try:
        bench = Bench(fetch(args.model))
        for name in parts:
            found[name], text = PARTS[name](bench)
            if not args.json:
                print(text, "" if found[name]["passed"] else "\nBELOW ITS TARGET", flush=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if args.store and "formats" in found:
        part = args.store.with_name(args.store.name + ".part")
        part.write_text(json.dumps(found["formats"]["rows"], indent=1) + "\n")
        os.replace(part, args.store)
    if args.json:
        print(json.dumps({"model": "SmolLM2-135M-Instruct Q4_1", "limits": LIMITS, "build": asdict(BUILD), **found}))
    return int(not all(part["passed"] for part in found.values()))


if __name__ == "__main__":
    raise SystemExit(main())
