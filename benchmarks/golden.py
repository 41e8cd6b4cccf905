"""Speed of the golden ternary product: int8 codes times int8 trits, compiled, against NumPy on operands cast to int32 beforehand.

python benchmarks/golden.py [--json] [--n N] [--k K] [--m M] [--runs R]

One thread. NumPy gets every favour: its casts and copies are not timed, and of three ways to write the product the fastest
counts. The ways take turns within a run, so that a busy machine slows all of them alike. Exits with 1 below the target.
"""

import argparse
import json
import statistics
import time
from importlib import metadata

import numpy as np

from sparseloom.models.golden import ternary

TARGET = 3.0
"""How many times faster than the fastest NumPy way the golden product must be."""
PEAK = 128


def ways(x, w):
    """The contestants by name, each a function of nothing that returns y [m, n]: golden first, then NumPy on int32 copies."""
    x32, w32 = x.astype(np.int32), w.astype(np.int32)
    turned = np.ascontiguousarray(w32.T)
    return {
        "golden": lambda: ternary.matmul(x, w),
        "x @ w.T": lambda: x32 @ w32.T,
        "x @ transposed copy": lambda: x32 @ turned,
        "einsum": lambda: np.einsum("mk,nk->mn", x32, w32),
    }


def measure(n, k, m, runs):
    """``{name: [seconds of each run]}``; RuntimeError if two ways differ in a single result."""
    rng = np.random.default_rng(0)
    x = rng.integers(-PEAK, PEAK, (m, k), dtype=np.int8)
    contest = ways(x, rng.integers(-1, 2, (n, k), dtype=np.int8))
    results = {name: way() for name, way in contest.items()}  # compiles, too
    for name, result in results.items():
        if not np.array_equal(result, results["golden"]):
            raise RuntimeError(f"{name} and golden differ")
    seconds = {name: [] for name in contest}
    for _ in range(runs):
        for name, way in contest.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options = (("n", 11008, "outputs"), ("k", 4096, "inputs"), ("m", 1, "tokens"), ("runs", 9, "timings of each way"))
    for name, default, text in options:
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (default {default})")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = parser.parse_args()
    medians = {name: statistics.median(times) for name, times in measure(args.n, args.k, args.m, args.runs).items()}
    golden = medians.pop("golden")
    rival = min(medians, key=medians.get)
    ratio = medians[rival] / golden
    if args.json:
        print(json.dumps({
            "basis": "measured", "n": args.n, "k": args.k, "m": args.m, "runs": args.runs, "threads": 1,
            "golden_ms": 1e3 * golden, "numpy_int32_ms": {name: 1e3 * seconds for name, seconds in medians.items()},
            "fastest_numpy": rival, "ratio": ratio, "target": TARGET, "gigabytes_per_second": args.n * args.k / golden / 1e9,
            "versions": {name: metadata.version(name) for name in ("numpy", "numba")},
        }))
    else:
        print(f"{args.n} x {args.k}, m = {args.m}; medians of {args.runs} runs, one thread (measured)")
        print(f"{'golden, int8 x trits':28} {1e3 * golden:8.2f} ms  {args.n * args.k / golden / 1e9:.1f} GB/s of weights")
        for name, seconds in medians.items():
            print(f"{'NumPy int32, ' + name:28} {1e3 * seconds:8.2f} ms  {seconds / golden:.1f} times golden")
        print(f"golden is {ratio:.1f} times as fast as the fastest of them; target {TARGET:.0f}")
    return int(ratio < TARGET)


if __name__ == "__main__":
    raise SystemExit(main())
