"""Gates of the sparse chain engine by Yosys: DSP slices, LUT and FF a multiplier, part by part.

python benchmarks/cost_sparse.py [--chains 4 16] [--json] [--check]
python benchmarks/cost_sparse.py --write

A multiplier of the DSP48E2 build makes two int8 products a cycle, one for each of two tokens. ``lanes``: decoders, sparse
multiplexers, chains; ``store``: the ring of bit planes; ``scale``: segment sums, scales, 64-bit sums; ``results``: shift,
rounding, queue; ``rest``: what the whole engine has beyond them (order of the stream, order of the steps, headers, job shell).
"""

import argparse
import json
import os
import re
import sys

from sparseloom.fpga.synth import synthesise
from sparseloom.hdl.engines import component
from sparseloom.hdl.export import export
from sparseloom.models.spec.sparse_chain import SparseChain
from sparseloom.perfmodel.cost import sparse_chain as model

CHAINS = (4, 16)
NAME = "engine"
PRODUCTS = 2.0
"""int8 products a cycle of a DSP48E2 in the chains, exactly."""
FAMILY = "xcup"
FITTED = (
    {"chains": 4}, {"chains": 16}, {"chains": 4, "window": 8}, {"chains": 4, "tokens": 1}, {"chains": 4, "target": "portable"},
    {"chains": 16, "window": 8}, {"chains": 2, "window": 8, "tokens": 1},
)
HELD_OUT = ({"chains": 8}, {"chains": 6, "window": 8})
HEADER = """                                 DSP     DSP      products   a multiplier: LUT                              FF of LUT,
chains window tokens  target   chains scalers a DSP of chains  lanes store scale results  rest   all             memory"""
LINE = ("{chains:6} {window:6} {tokens:6}  {target:8} {dsp_chains:6} {dsp_scalers:7} {products:15.2f} {lanes:6.1f} {store:5.1f} "
        "{scale:5.1f} {results:7.1f} {rest:5.1f} {lut:5.1f} {ff:6.1f} {lut_memory:10.1f}")


def build_of(settings):
    """The build of a row: DSP48E2 slices unless the settings say otherwise."""
    return SparseChain(**{"target": "dsp48e2", **settings})


def measure(settings):
    """A row of the cost table: what each part takes by itself, and the whole engine."""
    build = build_of(settings)
    design = export(component(build), NAME)
    made = {part: synthesise(design, FAMILY, top=_top(design, part)) for part in model.PARTS}
    whole = made["engine"]
    return {"family": FAMILY, "build": settings | {"target": build.target}, "tool": whole.tool, "command": whole.command,
            **{part: synthesis.resources.counts() for part, synthesis in made.items()}}


def _top(design, part):
    """The name of a part's module: the writer of Verilog may have put a number behind it."""
    if part == "engine":
        return NAME
    found, = re.findall(rf"^module ({NAME}_{part}(?:_\d+)?)\s*\(", design.verilog, re.MULTILINE)
    return found


def per_multiplier(row):
    """The figures of a row: DSP slices, products a cycle for each of those in the chains, and counts a multiplier."""
    build = SparseChain(**row["build"])
    multipliers = model.multipliers(build)
    pieces = {part: row[part]["lut"] / multipliers for part in model.PIECES}
    in_chains = row["lanes"]["dsp"]
    return {
        "family": row["family"], "chains": build.chains, "window": build.window, "tokens": build.tokens,
        "max_bits": build.max_bits, "target": build.target,
        "dsp_chains": in_chains, "dsp_scalers": row["engine"]["dsp"] - in_chains,
        "products": multipliers * build.tokens / in_chains, **pieces,
        "rest": row["engine"]["lut"] / multipliers - sum(pieces.values()),
        **{name: row["engine"][name] / multipliers for name in ("lut", "ff", "lut_memory")},
    }


def write_model():
    """Measure the builds that the table lacks and write it after each."""
    rows = json.loads(model.TABLE.read_text()) if model.TABLE.exists() else []
    for settings in (*FITTED, *HELD_OUT):
        if build_of(settings) in [SparseChain(**row["build"]) for row in rows]:
            continue
        print(settings, file=sys.stderr, flush=True)
        rows.append(measure(settings) | {"held_out": settings in HELD_OUT})
        lines = ",\n".join(json.dumps(row) for row in rows)
        temporary = model.TABLE.with_suffix(".new")
        temporary.write_text(f"[\n{lines}\n]\n")
        os.replace(temporary, model.TABLE)


def differs(row):
    """Whether the cost model ships other counts for the build of ``row``, or none."""
    shipped = model.cost(SparseChain(**row["build"]), row["family"])
    wrong = shipped.basis != "yosys" or shipped.counts() != row["engine"]
    if wrong:
        print(f"measured {row}, shipped {shipped}", file=sys.stderr)
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chains", type=int, nargs="+", default=CHAINS)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--check", action="store_true", help="fail where the cost model ships other counts")
    parser.add_argument("--write", action="store_true", help="measure the builds that the table of the cost model lacks; an hour")
    args = parser.parse_args()
    if args.write:
        return write_model()
    if not args.json:
        print(HEADER)
    figures, wrong = [], 0
    for chains in args.chains:
        row = measure({"chains": chains})
        figures.append(per_multiplier(row))
        wrong += figures[-1]["products"] != PRODUCTS or (args.check and differs(row))
        if not args.json:
            print(LINE.format(**figures[-1]), flush=True)
    if args.json:
        print(json.dumps({"basis": "yosys", "cost": figures}))
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
