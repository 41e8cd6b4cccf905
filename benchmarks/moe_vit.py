"""The vision transformer with experts that ships, in integers on the engines: its accuracy, and whole images on gates.

python benchmarks/moe_vit.py [PART]... [--json] [--images N] [--model FILE]

Every product, softmax, gate, norm and activation is a job of an engine. Parts (default: both):

accuracy  the held-out images (1000, --images fewer), both tasks, on the golden models, beside the float network
gates     20 of the held-out images (or --images), evenly spread, both tasks, every job on simulated gates; every result
          compared with the golden model, the cycles of every job with its closed form
"""

import argparse
import json
import sys
import time
from dataclasses import asdict

import numpy as np

from sparseloom.models.golden.engines import results
from sparseloom.models.zoo.moe_vit import MoeVit
from sparseloom.models.zoo.moe_vit_accuracy import TARGETS, measure
from sparseloom.models.zoo.moe_vit_int import IntegerVit
from sparseloom.models.zoo.moe_vit_jobs import Engines, make_builds
from sparseloom.models.zoo.registry import MODELS, load
from sparseloom.sim.checked_run import CheckedRun

NAME = "mnist-moe-vit"
LIMITS = {"points_lost": 0.5, "digit": 0.975}
"""Accuracy in percentage points that the integers may lose against the floats, on either task; digits right at least."""
IMAGES = {"accuracy": 1000, "gates": 20}


def report(line):
    print(line, file=sys.stderr, flush=True)


def spread(images, labels, count):
    """``count`` of the images, evenly over all (they lie class by class)."""
    chosen = np.arange(count) * len(images) // count
    return images[chosen], labels[chosen]


def accuracy(model, held, count):
    images, labels = spread(*held, count)
    tasks = {}
    for task in model.tasks:
        began = time.monotonic()
        row = measure(model, images, labels, task, lambda done, total, task=task: report(f"{task}: {done} of {total} images"))
        for kind in ("float", "integer"):
            row[f"{kind}_accuracy"] = row[f"{kind}_right"] / row["images"]
        tasks[task] = row | {"seconds": time.monotonic() - began}
    lost = max(100 * (row["float_accuracy"] - row["integer_accuracy"]) for row in tasks.values())
    passed = lost <= LIMITS["points_lost"] and tasks["digit"]["integer_accuracy"] >= LIMITS["digit"]
    return {"basis": "measured", "tasks": tasks, "points_lost": lost, "passed": passed}


def gates(model, held, count):
    images, labels = spread(*held, count)
    integers, builds = IntegerVit(model), make_builds(model.config)
    rights = dict.fromkeys(model.tasks, 0)
    logits = 0
    with CheckedRun(opt="fast" if count > 4 else "quick") as run:
        engines, golden = Engines(builds, run), Engines(builds, results)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            for task in model.tasks:
                found = integers.forward(image[None], task, engines)
                logits += int((found != integers.forward(image[None], task, golden)).sum())
                rights[task] += int(found.argmax() == TARGETS[task](label))
            report(f"gates: {number + 1} of {count} images")
        seen = {name: asdict(entry) for name, entry in run.seen.items()}
    total = {key: sum(entry[key] for entry in seen.values()) for key in ("jobs", "values", "wrong", "cycles", "predicted", "off")}
    return {"basis": "rtl", "images": count, "engines": seen, "total": total, "wrong_logits": logits, "right": rights,
            "builds": {name: asdict(build) for name, build in builds.items()},
            "passed": total["values"] > 0 and not total["wrong"] and not total["off"] and not logits}


def print_accuracy(found):
    print("task      images  float    integer  same class  rms difference (rms logit)   (measured)")
    for task, row in found["tasks"].items():
        print(f"{task:9} {row['images']:6} {100 * row['float_accuracy']:6.2f} % {100 * row['integer_accuracy']:6.2f} % "
              f"{row['same_class']:10}  {row['rms_difference']:.4f} ({row['rms_logit']:.2f})  {row['seconds']:.0f} s")


def print_gates(found):
    print(f"{found['images']} images, tasks right: {found['right']}; cycles of all images and tasks (rtl)")
    print("engine        jobs     values  wrong       cycles  closed form  jobs off")
    for name, row in (*found["engines"].items(), ("all", found["total"])):
        print(f"{name:11} {row['jobs']:6} {row['values']:10} {row['wrong']:6} {row['cycles']:12} {row['predicted']:12} "
              f"{row['off']:9}")


PARTS = {"accuracy": (accuracy, print_accuracy), "gates": (gates, print_gates)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: both)")
    parser.add_argument("--images", type=int, help="so many held-out images (default: 1000 for accuracy, 20 on gates)")
    parser.add_argument("--model", help="a checkpoint file instead of the one that ships")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = parser.parse_args()
    for part in args.parts:
        if part not in PARTS:
            parser.error(f"PART must be one of {', '.join(PARTS)}, got {part}")
    model = MoeVit.load(args.model) if args.model else load(NAME)
    held = MODELS[NAME].heldout_images()
    if args.images is not None and not 1 <= args.images <= len(held[0]):
        parser.error(f"--images must be 1..{len(held[0])}, got {args.images}")
    found = {part: PARTS[part][0](model, held, args.images or IMAGES[part]) for part in args.parts or PARTS}
    if args.json:
        print(json.dumps({"model": NAME, "limits": LIMITS, **found}))
    else:
        for part, result in found.items():
            PARTS[part][1](result)
    return int(not all(result["passed"] for result in found.values()))


if __name__ == "__main__":
    raise SystemExit(main())
