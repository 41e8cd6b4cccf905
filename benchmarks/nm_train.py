"""Training steps on N:M arrays: the model beside its bound, other shapes of the array, scaled steps on gates, gates by Yosys.

python benchmarks/nm_train.py steps [--json]          dense and sparse steps on both presets beside bound and published mean
python benchmarks/nm_train.py shapes [--json]         arrays of 1,024 PEs in other shapes: how near each comes to the bound
python benchmarks/nm_train.py gates [--json]          every product of two scaled networks on simulated gates, dense and 2:8
python benchmarks/nm_train.py cost [--write] [--json] LUT, FF, DSP and BRAM of training engines by Yosys; some minutes each

Without a name: steps, shapes and gates. Bounds are of products a second and bytes a second alone (perfmodel/training_bound.py).
"""

import argparse
import json
import os
import sys
from dataclasses import asdict, replace

import numpy as np

from sparseloom.models.spec.nm_pattern import PATTERNS
from sparseloom.models.spec.nm_presets import NM_PRESETS
from sparseloom.models.spec.nm_train import NmTrain
from sparseloom.perfmodel.cost.nm_train import FAMILY, HELD_OUT, PARTS, TABLE, builds_to_measure
from sparseloom.perfmodel.published.nm import published
from sparseloom.perfmodel.training import TrainingMachine, compare, step_groups
from sparseloom.perfmodel.training_bound import bound_seconds, speedup_limit
from sparseloom.perfmodel.training_tables import TABLES, Conv, Linear, Table, attention_layers

OURS = "sparseloom-vcu1525"
FLOOR = 0.93
"""The least share of the bound: of its speed-up, and of its time, dense and sparse."""
PATTERN = (2, 8)
SHAPES = ((1, 32, 32, 2), (1, 64, 16, 4), (1, 128, 8, 8), (2, 32, 16, 2), (2, 64, 8, 4), (4, 16, 16, 2), (4, 32, 8, 4),
          (8, 16, 8, 2))
"""Arrays, rows, columns and words a beat: 1,024 PEs, beats as narrow as keeps the rows busy."""
SMALL = NmTrain(rows=8, cols=4, slots=16, words=2, ws_rows=64, max_m=1024, max_n=1024, max_k=1024)
"""The array of ``gates``: 64 channels are to 16 columns of PEs what 16 are to 4."""
SCALED = (
    Table(name="resnet18 / 4", about="four layers, a quarter of the channels", batch=2, layers=(
        Conv(name="conv1", c_in=3, c_out=16, size=16, kernel=3, pad=1, first=True),
        Conv(name="conv2", c_in=16, c_out=16, size=16, kernel=3, pad=1),
        Conv(name="down", c_in=16, c_out=32, size=16, kernel=3, stride=2, pad=1),
        Conv(name="conv3", c_in=32, c_out=32, size=8, kernel=3, pad=1), Linear(name="fc", c_in=32, c_out=40))),
    Table(name="deit-s / 6", about="a block, a sixth of the features", batch=2, layers=(
        Linear(name="patches", c_in=48, c_out=64, rows=48, first=True), *attention_layers("block", 49, 64, 2, 256),
        Linear(name="head", c_in=64, c_out=40))),
)


def steps():
    """A row for each preset, network and pattern."""
    return [compare(TrainingMachine.of(preset), table, *pattern) | {"preset": name, "assumed": preset.assumed}
            for name, preset in NM_PRESETS.items() for table in TABLES.values() for pattern in PATTERNS[1:]]


def shapes():
    """A row for each shape: the least share of the bound over all networks at 2:8, and where it is."""
    machine, rows = TrainingMachine.of(NM_PRESETS[OURS]), []
    for engines, height, width, words in SHAPES:
        array = replace(machine.array, rows=height, cols=width, words=words)
        found = [compare(replace(machine, engines=engines, array=array), table, *PATTERN) for table in TABLES.values()]
        rows.append({"engines": engines, "rows": height, "cols": width, "words": words, **{
            f"{step['table']}_{name}": step[name] for step in found for name in ("speedup", "sparse_of_bound")}})
    return rows


def gates(seed=1):
    """Every different product of the scaled networks on gates; a row for each network and pattern."""
    from sparseloom.models.golden.engines import draw_operands
    from sparseloom.sim.checked_run import CheckedRun, Seen

    machine = replace(TrainingMachine.of(NM_PRESETS[OURS]), array=SMALL, engines=1)
    rng, rows = np.random.default_rng(seed), []
    for table in SCALED:
        for nnz, group in ((1, 1), PATTERN):
            row = {"table": table.name, "nnz": nnz, "group": group, "cycles": 0, "macs": 0}
            with CheckedRun() as run:
                for one in (one for stage, _ in step_groups(machine, table, nnz, group) for one in stage):
                    m, n, k, count = one.share
                    job = SMALL.job(m=m, n=n, k=k, nnz=one.nnz, group=one.group, dataflow=one.dataflow)
                    before = run.seen.get(SMALL.name, Seen()).cycles
                    run(SMALL, job, draw_operands(SMALL, job, rng))
                    row["cycles"] += count * (run.seen[SMALL.name].cycles - before)
                    row["macs"] += one.macs
                rows.append(row | asdict(run.seen[SMALL.name]) | {"cycles": row["cycles"]})
            rows[-1]["of_bound"] = rows[-1]["macs"] / (SMALL.rows * SMALL.cols * rows[-1]["cycles"])
            print(f"  {table.name}, {nnz}:{group}: {rows[-1]['jobs']} jobs", file=sys.stderr, flush=True)
        peak = SMALL.rows * SMALL.cols
        rows[-1]["speedup"] = rows[-2]["cycles"] / rows[-1]["cycles"]
        rows[-1]["speedup_bound"] = bound_seconds(table, 1, 1, peak, 1e18) / bound_seconds(table, *PATTERN, peak, 1e18)
    return rows


def cost(sizes=None):
    """Resources of each build, a row of the cost table each; of an array those of its parts too. ``sizes``: measure just the
    arrays of these (rows, columns)."""
    from sparseloom.fpga.synth import synthesise
    from sparseloom.hdl.engines import component
    from sparseloom.hdl.export import export
    from sparseloom.hdl.nm_train.float_add import FloatAdd
    from sparseloom.hdl.nm_train.float_product import FloatProduct
    from sparseloom.hdl.nm_train.pe import Pe
    from sparseloom.hdl.nm_train.row import Row

    rows = []
    for build in builds_to_measure():
        if sizes and (getattr(build, "rows", 0), getattr(build, "cols", 0)) not in sizes:
            continue
        made = synthesise(export(component(build), "engine"), FAMILY, seconds=3600)
        rows.append({"engine": build.name, "build": asdict(build), "family": FAMILY, "tool": made.tool, "command": made.command,
                     "counts": made.resources.counts()})
        if (getattr(build, "rows", 0), getattr(build, "cols", 0)) == HELD_OUT:
            parts = zip(PARTS, (Pe(build, last=False), FloatAdd(), FloatProduct(), Row(build, 1)), strict=True)
            rows[-1]["parts"] = {part: synthesise(export(made, "part"), FAMILY).resources.counts() for part, made in parts}
        print(build, rows[-1]["counts"], rows[-1].get("parts", ""), file=sys.stderr, flush=True)
    return rows


def write_table(rows):
    """Put rows into the cost table in the place of those of the same build."""
    part = TABLE.with_suffix(".new")
    part.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    os.replace(part, TABLE)


def print_steps(rows):
    (mean,) = published(metric="training_speedup_over_dense")
    for row in rows:
        print(f"{row['preset']:18} {row['table']:9} {row['nnz']}:{row['group']:<3} {row['sparse_array_cycles']:13,} cycles of "
              f"arrays (exact), {1e3 * row['sparse_seconds']:9,.2f} ms; speed-up {row['speedup']:.3f}x, bound "
              f"{row['speedup_bound']:.3f}x ({row['speedup_of_bound']:.1%}), limit {row['speedup_limit']:.2f}x; time at "
              f"{row['sparse_of_bound']:.1%} of the bound, dense {row['dense_of_bound']:.1%}")
    print(f"published, {mean.kind}: {mean.system}, {mean.device}, {mean.model}: {mean.value}x at 2:8, {mean.covers}; "
          f"limit {speedup_limit(2, 8)}x")


def print_shapes(rows):
    for row in rows:
        cells = ", ".join(f"{name} {row[f'{name}_speedup']:.3f}x at {row[f'{name}_sparse_of_bound']:.1%}" for name in TABLES)
        print(f"{row['engines']} of {row['rows']:3} x {row['cols']:2}, {row['words']} words a beat: {cells}")


def print_gates(rows):
    for row in rows:
        speed = f"; speed-up {row['speedup']:.3f}x, bound {row['speedup_bound']:.3f}x" if "speedup" in row else ""
        print(f"{row['table']}, {row['nnz']}:{row['group']}: {row['cycles']:,} cycles (rtl), {row['of_bound']:.1%} of the peak"
              f"{speed}; {row['jobs']} jobs, {row['off']} with other cycles than the closed form; {row['values']:,} results, "
              f"{row['wrong']} wrong")


def print_cost(rows):
    for row in rows:
        print(row["engine"], row["build"], row["counts"], f"({row['tool']})")


def fails(what, rows):
    """Whether a part misses what it must reach."""
    if what == "steps":
        return any(row[name] < FLOOR for row in rows if row["preset"] == OURS
                   for name in ("speedup_of_bound", "sparse_of_bound", "dense_of_bound"))
    if what == "gates":
        return any(row["wrong"] or row["off"] or not row["values"] for row in rows)
    return not rows


WHAT = {"steps": (steps, print_steps), "shapes": (shapes, print_shapes), "gates": (gates, print_gates),
         "cost": (cost, print_cost)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", choices=[*WHAT, []], help="parts; without: steps, shapes, gates")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--write", action="store_true", help="with cost: put the rows into the cost table")
    args = parser.parse_args()
    found, failed = {}, False
    for what in args.what or ("steps", "shapes", "gates"):
        measure, show = WHAT[what]
        found[what] = measure()
        failed |= fails(what, found[what])
        if what == "cost" and args.write:
            write_table(found[what])
        if not args.json:
            show(found[what])
    if args.json:
        print(json.dumps({"figures": found}))
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
