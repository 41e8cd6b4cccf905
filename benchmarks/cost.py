"""Gates and efficiency of the same ternary engines: LUT and FF per trit lane by Yosys, useful stream fraction by the closed form.

python benchmarks/cost.py [--family xcup] [--rows 4 16 32] [--json] [--check] [--place]
python benchmarks/cost.py --write

The dot product is the decoding of the stream, the datapath and the accumulators (with the table datapath also what fills the
tables), without the registers that catch a beat; the engine is everything between its ports. Default builds: raw results, no
requantisation, no statistics, k to 4096, n to 16384, up to 8 tokens.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict

from sparseloom.fpga.place import place
from sparseloom.fpga.synth import synthesise
from sparseloom.hdl.engines import component
from sparseloom.hdl.export import export
from sparseloom.models.spec.ternary import TernaryEngine
from sparseloom.perfmodel.cost import ternary as model

ROWS = (4, 16, 32)
LANES = 20
FAMILIES = ("xcup", "ecp5")
LIMITS = {"tree": (1, 15.0), "table": (16, 9.0)}  # on xcup, from so many rows on: at most so many LUT a lane
SIZES = (1024, 256)
PLACED = (  # on ECP5, and the clock to reach there in MHz
    ({"datapath": "tree", "rows": 4, "lanes": LANES, "max_m": 1}, 150),
    ({"datapath": "tree", "rows": 4, "lanes": LANES}, 125),
    ({"datapath": "table", "rows": 4, "lanes": LANES}, 100),
)
# What the cost model's formula is fitted to beside the table above, and what it is judged by.
FITTED = {
    "tree": (
        {"rows": 1, "lanes": 80}, {"rows": 8, "lanes": 10}, {"rows": 6, "lanes": 5, "result_lanes": 2},
        {"rows": 4, "lanes": 20, "act_bits": 4}, {"rows": 8, "lanes": 10, "max_m": 1}, {"rows": 2, "lanes": 40, "max_k": 256},
        {"rows": 4, "lanes": 10, "max_k": 16384, "max_n": 65536, "max_m": 32},
        {"rows": 8, "lanes": 5, "max_n": 256, "result_lanes": 1},
        {"rows": 4, "lanes": 10, "requantise": True},
        {"rows": 4, "lanes": 5, "requantise": True, "result_lanes": 1, "max_k": 256},
        {"rows": 4, "lanes": 10, "statistics": True},
        {"rows": 4, "lanes": 5, "statistics": True, "result_lanes": 1, "max_n": 256},
        {"rows": 8, "lanes": 5, "statistics": True, "requantise": True, "max_k": 1024},
    ),
    "table": (
        {"rows": 1, "lanes": 80}, {"rows": 8, "lanes": 10}, {"rows": 6, "lanes": 5},
        {"rows": 4, "lanes": 20, "act_bits": 4}, {"rows": 8, "lanes": 10, "max_m": 1}, {"rows": 2, "lanes": 40, "max_k": 256},
        {"rows": 4, "lanes": 10, "max_k": 16384, "max_n": 32768, "max_m": 32}, {"rows": 7, "lanes": 20, "max_n": 2048},
        {"rows": 4, "lanes": 10, "requantise": True}, {"rows": 2, "lanes": 5, "requantise": True, "max_k": 256},
        {"rows": 4, "lanes": 10, "statistics": True}, {"rows": 2, "lanes": 5, "statistics": True, "max_n": 2048},
        {"rows": 4, "lanes": 5, "statistics": True, "requantise": True, "max_k": 1024},
    ),
}
HELD_OUT = (
    {"rows": 8, "lanes": 20}, {"rows": 12, "lanes": 10, "max_n": 2048, "max_m": 4}, {"rows": 2, "lanes": 60, "act_bits": 6},
    {"rows": 4, "lanes": 15, "requantise": True, "statistics": True, "max_k": 2048},
)
HEADER = """                           dot product      whole engine                   useful stream
family rows beat  path   LUT/lane FF/lane   LUT/lane FF/lane  dot DSP BRAM18   K=N=1024 K=N=256"""
LINE = ("{family:6} {rows:4} {beat_bits:4}  {datapath:5} {dot_lut_per_lane:9.2f} {dot_ff_per_lane:7.2f}  "
        "{engine_lut_per_lane:9.2f} {engine_ff_per_lane:7.2f}  {dot_dsp:7} {engine_bram:6}   {useful_1024:8.1%} "
        "{useful_256:7.1%}")


def measure(settings, family):
    """A row of the cost table: what the dot product and the whole engine ``TernaryEngine(**settings)`` take."""
    design = export(component(TernaryEngine(**settings)), "engine")
    datapath, accumulator, engine = (synthesise(design, family, top=top)
                                     for top in ("engine_datapath", "engine_accumulator", "engine"))
    dot = datapath.resources + accumulator.resources
    return {"family": family, "build": settings, "tool": engine.tool, "command": engine.command,
            "dot": dot.counts(), "engine": engine.resources.counts()}


def per_lane(row):
    """The figures of a row: counts a lane, and the useful fraction of the stream for square products of one token."""
    build = TernaryEngine(**row["build"])
    lanes = build.rows * build.lanes
    jobs = {size: build.job(k=size, n=size) for size in SIZES}
    return {
        "family": row["family"], "datapath": build.datapath, "rows": build.rows, "lanes": build.lanes,
        "beat_bits": 8 * build.beat_bytes,
        **{f"{part}_{name}_per_lane": row[part][name] / lanes for part in model.PARTS for name in ("lut", "lut_route", "ff")},
        "dot_dsp": row["dot"]["dsp"], "engine_bram": row["engine"]["bram"],
        **{f"useful_{size}": build.useful_fraction(job, build.cycles(job))["stream"] for size, job in jobs.items()},
    }


def too_large(figures):
    """Whether the dot product has a multiplier or is larger than its limit."""
    rows, limit = LIMITS[figures["datapath"]]
    limited = figures["family"] == "xcup" and figures["rows"] >= rows
    return bool(figures["dot_dsp"]) or (limited and figures["dot_lut_per_lane"] > limit)


def write_model():
    """Measure every build of the cost model, in both families, and write its table."""
    rows = []
    for family in FAMILIES:
        for datapath in LIMITS:
            table = [{"rows": number, "lanes": LANES} for number in ROWS]
            for settings in (*table, *FITTED[datapath], *HELD_OUT):
                print(family, datapath, settings, file=sys.stderr, flush=True)
                row = measure({"datapath": datapath, **settings}, family)
                rows.append(row | {"held_out": settings in HELD_OUT})
    lines = ",\n".join(json.dumps(row) for row in rows)
    temporary = model.TABLE.with_suffix(".new")
    temporary.write_text(f"[\n{lines}\n]\n")
    os.replace(temporary, model.TABLE)


def differs(row):
    """Whether the cost model ships other counts for the build of ``row``, or none."""
    build = TernaryEngine(**row["build"])
    shipped = {part: model.cost(build, row["family"], part) for part in model.PARTS}
    wrong = any(counts.basis != "yosys" or counts.counts() != row[part] for part, counts in shipped.items())
    if wrong:
        print(f"measured {row}, shipped {shipped}", file=sys.stderr)
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", choices=FAMILIES, nargs="+", default=FAMILIES)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--check", action="store_true", help="fail where the cost model ships other counts")
    parser.add_argument("--place", action="store_true", help="also place and route engines of 80 lanes on ECP5")
    parser.add_argument("--write", action="store_true", help="measure all builds of the cost model and write its table; an hour")
    args = parser.parse_args()
    if args.write:
        return write_model()
    if not args.json:
        print(HEADER)
    figures, clocks, wrong = [], [], 0
    for family in args.family:
        for settings in ({"datapath": datapath, "rows": rows, "lanes": LANES} for datapath in LIMITS for rows in args.rows):
            row = measure(settings, family)
            figures.append(per_lane(row))
            wrong += too_large(figures[-1]) or (args.check and differs(row))
            if not args.json:
                print(LINE.format(**figures[-1]), flush=True)
    for settings, wanted in PLACED if args.place else ():
        clock = {"build": settings, **asdict(place(export(component(TernaryEngine(**settings)), "engine")))}
        clocks.append(clock)
        wrong += clock["mhz"] < wanted
        if not args.json:
            print("{part}, {tool}, seed {seed}, {build}: {mhz:.1f} MHz; slowest path {critical}".format(**clock))
    if args.json:
        print(json.dumps({"basis": "yosys", "cost": figures, "place": clocks}))
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
