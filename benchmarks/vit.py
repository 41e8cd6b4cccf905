"""Images of two published vision transformers on our engines: a block of each on gates, the whole image by closed forms.

python benchmarks/vit.py image [--json]     cycles and milliseconds of an image, part by part, beside what was published
python benchmarks/vit.py block [--json]     every job of a dense block and of a block with experts on simulated gates
python benchmarks/vit.py cost [--write]     LUT, FF, DSP and BRAM of the machine by Yosys, engine by engine; half an hour
python benchmarks/vit.py search [--json]    the two-stage search beside trying everything, for two budgets of DSP slices

Our images are int8 at an assumed clock; published ones are boards, with 16-bit weights and 32-bit activations.
They are printed side by side with that said, not compared as equals.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict

import numpy as np

from sparseloom.models.formats.engines import collect, pack
from sparseloom.models.golden.engines import draw_operands, results
from sparseloom.models.spec.vit_presets import VIT_PRESETS
from sparseloom.models.zoo.vit_shapes import M3VIT_TINY, SHAPES, VIT_T
from sparseloom.perfmodel import vit_search
from sparseloom.perfmodel.cost.kernels import TABLE, cost
from sparseloom.perfmodel.published.vit import published
from sparseloom.perfmodel.vit import VitMachine, block_steps, image_rows

PRESET = VIT_PRESETS["sparseloom-zcu102"]
CLOCK = PRESET.clock.value
"""Hz: what Edge-MoE and UbiMoE reach on a ZCU102. Ours was not placed there."""
TARGETS = {"m3vit-tiny": 6.0, "vit-t": 8.0}
"""Milliseconds that an image may take."""
BUDGET = {"dsp": 1850, "lut": 123_000}
"""UbiMoE's on the ZCU102."""
BUDGETS = {"zcu102": 1850, "u280": 3413}
PARTS = ("norm", "gate", "linear", "attention")
FAMILY = "xcup"


def machine_of(shape, target="dsp48e2"):
    """The machine, large enough for ``shape``."""
    return VitMachine.of(PRESET, shape, target=target)


def image(name):
    """The figures of one image: closed forms, all of them."""
    shape = SHAPES[name]
    rows = image_rows(machine_of(shape), shape)
    cycles, macs = (sum(row[key] for row in rows) for key in ("cycles", "macs"))
    return {"model": name, "gop": shape.gop, "cycles": cycles, "ms": 1e3 * cycles / CLOCK, "macs": macs, "rows": rows,
            "weight_bytes": sum(row["weight_bytes"] for row in rows),
            "parts": {part: sum(row["cycles"] for row in rows if row["where"] == part) for part in PARTS}}


def resources():
    """Counts of all engines of the machine for M3ViT-tiny, as the cost table has them."""
    machine = machine_of(M3VIT_TINY)
    return sum((cost(getattr(machine, part), FAMILY) for part in PARTS[1:]), start=cost(getattr(machine, PARTS[0]), FAMILY))


def print_image(found):
    print(f"{found['model']}: {found['gop']:.3f} GOP, {found['cycles']:,} cycles (exact), {found['ms']:.2f} ms at "
          f"{CLOCK / 1e6:.0f} MHz (assumed), {found['gop'] / found['ms'] * 1e3:.0f} GOPS; target {TARGETS[found['model']]} ms")
    for row in found["rows"]:
        print(f"  {row['name']:20} {row['where']:10} {row['number']:4} jobs {row['cycles']:10,} cycles "
              f"{row['macs'] / row['cycles']:8.1f} MAC a cycle {row['weight_bytes'] / 1e6:8.2f} MB")
    taken = resources()
    print(f"  engines (yosys, {FAMILY}, those for m3vit-tiny): {taken.dsp:,} DSP, {taken.lut:,} LUT, {taken.ff:,} FF; "
          f"{found['macs'] / found['cycles'] / taken.dsp:.3f} useful MAC a DSP and cycle; int8")
    for row in published(metric="latency"):
        print(f"  published, {row.kind}: {row.system}, {row.device}, {row.model}, {row.precision}, {row.value} {row.unit}")


def block(name, index, seed=1):
    """Every job of block ``index`` on gates, compared with golden and with the closed forms."""
    from sparseloom.sim.runner import Simulator, Work

    shape, rng, rows, simulators = SHAPES[name], np.random.default_rng(seed), [], {}
    for step in block_steps(machine_of(shape, target="portable"), shape, index):
        simulator = simulators.get(step.build) or simulators.setdefault(step.build, Simulator(step.build))
        operands = draw_operands(step.build, step.job, rng)
        want, began = results(step.build, step.job, operands), time.monotonic()
        receipt, = simulator.run([Work(step.job, pack(step.build, step.job, operands))], seed=seed)
        got = collect(step.build, step.job, receipt.outputs) | {"saturated": receipt.done["saturated"]}
        rows.append({"name": step.name, "where": step.where, "cycles": receipt.cycles, "predicted": step.cycles,
                     "compared": sum(np.size(value) for value in want.values()),
                     "wrong": sum(int((np.asarray(got[key]) != np.asarray(value)).sum()) for key, value in want.items()),
                     "seconds": time.monotonic() - began})
        print(f"  {step.name:20} {receipt.cycles:9,} cycles counted, {step.cycles:9,} predicted, "
              f"{rows[-1]['compared']:9,} compared, {rows[-1]['wrong']} wrong", file=sys.stderr, flush=True)
    return {"model": name, "block": index, "experts": shape.has_experts(index), "rows": rows,
            **{key: sum(row[key] for row in rows) for key in ("cycles", "predicted", "compared", "wrong")}}


def search(name, device):
    """The choice of the two-stage search and the best there is, for the DSP slices of a device's published design."""
    shape, budget = SHAPES[name], BUDGETS[device]
    found, best = vit_search.search(shape, budget), vit_search.best_of_all(shape, budget)
    choice = {key: {"attention": choice.attention.genes, "linear": choice.linear.genes, "cycles": choice.cycles,
                    "attention_cycles": choice.attention.cycles, "linear_cycles": choice.linear.cycles, "dsp": choice.dsp,
                    "evaluated": choice.evaluated} for key, choice in (("found", found), ("best", best))}
    return {"model": name, "device": device, "budget": budget, **choice}


def print_search(row):
    for key in ("found", "best"):
        one = row[key]
        print(f"{row['model']}, {row['budget']} DSP, {'two stages' if key == 'found' else 'everything'}: an image each "
              f"{one['cycles']:,} cycles (exact): attention {one['attention']} {one['attention_cycles']:,}, "
              f"linear {one['linear']} {one['linear_cycles']:,}; {one['dsp']} DSP; {one['evaluated']} kernels evaluated")


def measure_cost():
    """Resources of each engine of the machine for M3ViT-tiny, a row of the cost table each, and of all together."""
    from sparseloom.fpga.synth import synthesise
    from sparseloom.hdl.engines import component
    from sparseloom.hdl.export import export

    machine, rows = machine_of(M3VIT_TINY), []
    for part in PARTS:
        build = getattr(machine, part)
        made = synthesise(export(component(build), "engine"), FAMILY, seconds=3600)
        rows.append({"engine": build.name, "build": asdict(build), "family": FAMILY, "tool": made.tool, "command": made.command,
                     "counts": made.resources.counts()})
        print(build.name, rows[-1]["counts"], file=sys.stderr, flush=True)
    total = {name: sum(row["counts"][name] for row in rows) for name in rows[0]["counts"]}
    return {"rows": rows, "total": total, "budget": BUDGET, "fits": all(total[name] <= most for name, most in BUDGET.items())}


def write_table(rows):
    """Put rows into the cost table in the place of those of the same build."""
    kept = [row for row in json.loads(TABLE.read_text()) if row["build"] not in [new["build"] for new in rows]]
    part = TABLE.with_suffix(".new")
    part.write_text("[\n" + ",\n".join(json.dumps(row) for row in kept + rows) + "\n]\n")
    os.replace(part, TABLE)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("image", "block", "cost", "search"))
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--write", action="store_true", help="with cost: put the rows into the cost table")
    args = parser.parse_args()
    failed = False
    if args.what == "image":
        found = [image(name) for name in SHAPES]
        failed = any(row["ms"] > TARGETS[row["model"]] for row in found)
        if not args.json:
            for row in found:
                print_image(row)
    elif args.what == "block":
        found = [block(M3VIT_TINY.name, 0), block(M3VIT_TINY.name, 1), block(VIT_T.name, 0)]
        failed = any(row["wrong"] or row["cycles"] != row["predicted"] or not row["compared"] for row in found)
        if not args.json:
            for row in found:
                print(f"{row['model']}, block {row['block']}: {row['cycles']:,} cycles counted, {row['predicted']:,} predicted, "
                      f"{row['compared']:,} results compared, {row['wrong']} wrong")
    elif args.what == "search":
        found = [search(name, device) for name in SHAPES for device in BUDGETS]
        failed = any(row["found"]["cycles"] > row["best"]["cycles"] for row in found)
        if not args.json:
            for row in found:
                print_search(row)
    else:
        found = measure_cost()
        if args.write:
            write_table(found["rows"])
        failed = not found["fits"]
        if not args.json:
            print(f"all engines: {found['total']}; budget {BUDGET}")
    if args.json:
        print(json.dumps({"figures": found}))
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
