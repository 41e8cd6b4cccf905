"""Speed of the weight formats: MB/s of unpacked int8 weights, pack and unpack, one core, best of several runs.

python benchmarks/formats.py [--json] [--weights N]
"""

import argparse
import json
import time

import numpy as np

from sparseloom.models.formats import bitnet, i2_s, tq1_0, tq2_0

ROW = 4096
FLOOR = 200.0  # MB/s that every format must reach


def best_seconds(work, runs=5):
    """Shortest of ``runs`` timings of ``work()``, after one that is not counted."""
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(weights):
    """Rows ``{format, pack_mb_s, unpack_mb_s}`` for a matrix of about ``weights`` random trits."""
    shape = (max(4, weights // ROW // 4 * 4), ROW)
    trits = np.random.default_rng(0).integers(-1, 2, shape, np.int8)
    formats = {
        "TQ1_0": (lambda: tq1_0.pack(trits, 0.5), lambda data: tq1_0.unpack(data, shape)[0]),
        "TQ2_0": (lambda: tq2_0.pack(trits, 0.5), lambda data: tq2_0.unpack(data, shape)[0]),
        "I2_S": (lambda: i2_s.pack(trits, 0.5), lambda data: i2_s.unpack(data, shape)[0]),
        "HF BitNet": (lambda: bitnet.pack(trits), lambda data: bitnet.unpack(data, shape)),
    }
    rows = []
    for name, (pack, unpack) in formats.items():
        data = pack()
        if not np.array_equal(unpack(data), trits):
            raise RuntimeError(f"{name} does not round-trip")
        mb = trits.size / 1e6
        rows.append(
            {
                "format": name,
                "pack_mb_s": mb / best_seconds(pack),
                "unpack_mb_s": mb / best_seconds(lambda u=unpack, d=data: u(d)),
            }
        )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=int, default=1 << 24, help="weights in the matrix (default 16 Mi)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = parser.parse_args()
    rows = measure(args.weights)
    if args.json:
        print(json.dumps({"basis": "measured", "weights": args.weights, "floor_mb_s": FLOOR, "formats": rows}))
    else:
        print(f"{'format':10} {'pack MB/s':>10} {'unpack MB/s':>12}")
        for row in rows:
            print(f"{row['format']:10} {row['pack_mb_s']:10.0f} {row['unpack_mb_s']:12.0f}")
    return int(any(min(row["pack_mb_s"], row["unpack_mb_s"]) < FLOOR for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
