"""Worst errors of the integer elementary functions over all their arguments, against float64.

python benchmarks/functions.py [--json]

``line``: what straight lines between the table's values may cost, step**2 / 8 * max |f''|; ``bound``: and all roundings.
"""

import argparse
import json
from dataclasses import asdict

from sparseloom.models.golden.function_errors import FUNCTIONS, worst_error

GELU_FLOOR = 1.1e-4  # absolute error against erf GELU that must not be passed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    rows = [worst_error(name) for name in FUNCTIONS]
    if parser.parse_args().json:
        print(json.dumps({"basis": "measured", "functions": [asdict(row) for row in rows]}))
    else:
        print(f"{'function':12}{'arguments':>10}  {'error':10}{'worst':>10}{'at':>14}{'line':>10}{'bound':>10}")
        for row in rows:
            print(f"{row.name:12}{row.inputs:10}  {row.kind:10}{row.worst:10.2e}{row.at:14.6g}{row.line:10.2e}{row.bound:10.2e}")
    gelu = next(row for row in rows if row.name == "gelu")
    return int(gelu.worst > GELU_FLOOR or any(row.worst > row.bound for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
