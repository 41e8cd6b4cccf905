"""ONNX models of other people with all that engines have on simulated gates: products, attention, norms, activations.

python benchmarks/onnx_gates.py [MODEL...] [--json]        svtr-ocr (0.44 million cycles), vit-s14 (28 million), minilm-int8 (2)

Every result is compared with the golden models' and every cycle count with its closed form; the rest of the graph (convolutions,
sums, reshapes) is the interpreter's. Each part runs where it is: no data goes from one engine to another on the gates.
"""

import argparse
import importlib.util
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime

from sparseloom.host.checked import Checked
from sparseloom.host.compiler import compile_graph
from sparseloom.host.runtime import Runtime
from sparseloom.host.tally import tally
from sparseloom.models.formats.engines import collect, pack
from sparseloom.models.golden.engines import results
from sparseloom.models.golden.onnx_engines import EngineOperations
from sparseloom.models.golden.onnx_run import run
from sparseloom.models.spec.sparse_chain import SparseChain
from sparseloom.models.zoo.onnx_models import ONNX_MODELS
from sparseloom.sim.device import SimDevice
from sparseloom.sim.runner import Simulator, Work

CHAIN = SparseChain()


def cases():
    """The inputs of ``onnx_models.py`` beside this file, and what it makes of the outputs."""
    spec = importlib.util.spec_from_file_location("onnx_models", Path(__file__).with_name("onnx_models.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CASES


class Gates:
    """Runs jobs on simulated gates, one simulator a build, and compares."""

    def __init__(self):
        self._simulators, self.count = {}, Counter()

    def execute(self, build, job, operands):
        if build not in self._simulators:
            self._simulators[build] = Simulator(build, opt="fast")
        golden = results(build, job, operands)
        receipt, = self._simulators[build].run([Work(job, pack(build, job, operands))])
        y, name = collect(build, job, receipt.outputs)["y"], build.name
        self.count.update({(name, "jobs"): 1, (name, "compared"): y.size, (name, "cycles"): receipt.cycles,
                           (name, "predicted_cycles"): build.cycles(job), (name, "wrong"): int((y != golden["y"]).sum())})
        return {"y": y, "saturated": receipt.done["saturated"]}


def measure(name, make, meaning):
    model = ONNX_MODELS[name]
    graph, inputs = model.load(), make()
    want, = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"]).run(None, inputs)
    gates, plan = Gates(), compile_graph(graph, CHAIN)
    engines, began = EngineOperations(graph, execute=gates.execute), time.monotonic()
    with SimDevice(CHAIN, opt="fast") as device:
        checked = Checked(Runtime(device, plan), {layer.name: layer.weight for layer in graph.on("engine")})
        have, = run(graph, inputs, linear=checked.linear, operations=engines.operations).values()
    products = tally(plan, checked.products)
    rows = {"sparse_chain": {"jobs": len(checked.products), "compared": sum(each.compared for each in checked.products),
                             "wrong": sum(each.wrong for each in checked.products), "cycles": products["cycles"],
                             "predicted_cycles": products["predicted_cycles"]}}
    for (engine, what), count in gates.count.items():
        rows.setdefault(engine, {})[what] = count
    passed = all(row["compared"] and not row["wrong"] and row["cycles"] == row["predicted_cycles"] for row in rows.values())
    found = meaning(graph, have)
    return {"model": name, "engines": rows, "rms_error": float(np.sqrt(((have - want) ** 2).mean()) / want.std()),
            "meaning": found if isinstance(found, str) else "", "seconds": time.monotonic() - began, "passed": passed,
            "basis": {"cycles": "rtl", "compared": "rtl", "predicted_cycles": "exact", "rms_error": "measured"}}


def told(row):
    lines = [f"{row['model']} on gates: {row['meaning'] or 'a vector'}; rms error {100 * row['rms_error']:.2f} % of the "
             f"deviation (measured), {row['seconds']:.0f} s"]
    for engine, count in row["engines"].items():
        lines.append(f"  {engine:13} {count['jobs']:3} operations, {count['compared']:,} results, {count['wrong']} wrong; "
                     f"{count['cycles']:,} cycles (rtl), closed forms {count['predicted_cycles']:,} (exact)")
    return "\n".join(lines)


def main():
    known = {name: case for name, case in cases().items() if not case[2]}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(known))
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = parser.parse_args()
    if unknown := [name for name in args.models if name not in known]:
        parser.error(f"MODEL must be one of {', '.join(known)}, got {unknown[0]!r}")
    rows = []
    for name in args.models or ["svtr-ocr"]:
        rows.append(measure(name, *known[name][:2]))
        if not args.json:
            print(told(rows[-1]), "" if rows[-1]["passed"] else "\nNOT EQUAL", flush=True)
    if args.json:
        print(json.dumps({"rows": rows}))
    return int(not all(row["passed"] for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
