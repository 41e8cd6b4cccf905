"""Gates of the vector engine by Yosys on UltraScale+, one build of each kind of function.

python benchmarks/cost_vector.py [--functions gelu layernorm ...] [--lanes 8] [--json]

Some minutes each. The figures are those of docs/vector.md.
"""

import argparse
import json

from sparseloom.fpga.synth import synthesise
from sparseloom.hdl.engines import component
from sparseloom.hdl.export import export
from sparseloom.models.spec.vector import Vector
from sparseloom.models.spec.vector_job import FUNCTIONS

FAMILY, KINDS = "xcup", ("gelu", "layernorm", "shiftmax", "shiftgelu", "ilayernorm")


def measure(function, lanes):
    """A row of the table."""
    made = synthesise(export(component(Vector(function=function, lanes=lanes)), "engine"), FAMILY)
    cost = made.resources
    return {"function": function, "lanes": lanes, "lut": cost.lut, "lut_memory": cost.lut_memory, "ff": cost.ff, "dsp": cost.dsp,
            "bram": cost.bram, "tool": made.tool, "basis": cost.basis}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--functions", nargs="+", choices=FUNCTIONS, default=KINDS)
    parser.add_argument("--lanes", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    rows = []
    if not options.json:
        print(f"{'function':12}{'lanes':>6}{'LUT':>8}{'memory':>8}{'FF':>8}{'DSP':>6}{'BRAM18':>8}")
    for function in options.functions:
        rows.append(measure(function, options.lanes))
        if not options.json:
            print("{function:12}{lanes:6}{lut:8,}{lut_memory:8,}{ff:8,}{dsp:6}{bram:8}".format(**rows[-1]), flush=True)
    if options.json:
        print(json.dumps({"family": FAMILY, "rows": rows}))


if __name__ == "__main__":
    main()
