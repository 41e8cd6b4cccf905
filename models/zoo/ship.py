"""Chooses among trained runs and writes what ships: ``python -m sparseloom.models.zoo.ship --help``.

Of the ternary runs, and apart from them of the float runs, the one with the lowest validation perplexity is taken; the test
split decides nothing. The numbers of the ternary model are measured again here, by the NumPy model on the shipped file.
"""

import argparse
import hashlib
import json
import math
import sys
from pathlib import Path

from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo.checkpoint import read_packed, write_checkpoint
from sparseloom.models.zoo.matmulfree import SHIPPED, MatmulFreeLM
from sparseloom.models.zoo.ngram import Bigram
from sparseloom.models.zoo.text import LICENCE, PACKAGE, clean, extract, fetch, split
from sparseloom.models.zoo.tokenizer import load_tokenizer, streams

__all__ = ["main"]

DISCOUNTS = tuple(step / 20 for step in range(8, 20))
HELDOUT_VERSES = 40  # of the test split, shipped so that the perplexity can be checked without a download


def read_runs(folder):
    """The results of every run in ``folder``, best validation first; InputError if a kind is missing."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json")) if path.stem != "tokenizer"]
    runs.sort(key=lambda run: run["validation"]["perplexity"])
    for kind in ("ternary", "float"):
        if not any(run["weights"] == kind for run in runs):
            raise InputError(folder, f"{kind} run", "be among the results", [run["name"] for run in runs])
    return runs


def digest(data):
    """sha256 of bytes, or of anything JSON can hold, in hexadecimal."""
    return hashlib.sha256(data if isinstance(data, bytes) else json.dumps(data, sort_keys=True).encode()).hexdigest()


def score(nll, stream, text):
    """Perplexity a token and bits a byte from a sum of -ln P over a stream (its first token is context)."""
    count = len(stream) - 1
    return {"tokens": count, "perplexity": math.exp(nll / count), "bits_per_byte": nll / math.log(2) / len(text.encode())}


def baseline(data, splits, vocabulary):
    """Scores of the interpolated bigram, its discount chosen on the validation split."""
    models = [Bigram(data["train"], vocabulary, discount) for discount in DISCOUNTS]
    best = min(models, key=lambda model: model.nll(data["validation"]))
    scores = {name: score(best.nll(data[name]), data[name], getattr(splits, name)) for name in ("validation", "test")}
    return {"kind": "interpolated Kneser-Ney bigram", "discount": best.discount, **scores}


def ship(runs, folder, text, tokenizer_bytes, target):
    """Write checkpoint, tokenizer, held-out slice and results; returns the results."""
    chosen = {kind: next(run for run in runs if run["weights"] == kind) for kind in ("ternary", "float")}
    best = chosen["ternary"]
    tokenizer_path = target.with_suffix(".tokenizer.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    tokenizer_path.write_bytes(tokenizer_bytes)
    splits, tokenizer = split(text), load_tokenizer(tokenizer_path)
    data = streams(tokenizer, splits)
    slice_ = "".join(splits.test.splitlines(keepends=True)[:HELDOUT_VERSES])
    target.with_suffix(".heldout.txt").write_text(slice_, encoding="utf-8")
    source = {"package": PACKAGE, "licence": LICENCE, "sha256_of_cleaned_text": digest(text.encode())}
    recipe = {"options": best["options"], "config": best["config"], "text": source, "tokenizer": digest(tokenizer_bytes)}
    metadata = {"config": best["config"], "training": best["options"], "recipe_sha256": digest(recipe), "text": source}
    tensors = read_packed(folder / f"{best['name']}.safetensors")
    write_checkpoint(target, tensors, metadata)
    model = MatmulFreeLM.load(target)
    measured = {name: score(model.nll(data[name]), data[name], getattr(splits, name)) for name in ("validation", "test")}
    start = model.encode(slice_)
    scores = {"ternary": {"run": best["name"], **measured},
              "float": {"run": chosen["float"]["name"], **{name: chosen["float"][name] for name in ("validation", "test")}},
              "bigram": baseline(data, splits, best["config"]["vocabulary"])}
    write_checkpoint(target, tensors, metadata | {"perplexity": scores})  # again, with what was measured on it
    files = [target, tokenizer_path, target.with_suffix(".heldout.txt")]
    return {
        "scores": scores, "heldout_slice": score(model.nll(start), start, slice_), "recipe": recipe,
        "recipe_sha256": digest(recipe), "ternary_weights": sum(w.trits.size for w in model.layers.values()),
        "sha256": {path.name: digest(path.read_bytes()) for path in files},
        "torch": best["torch"], "trained_on": best["device"],
        "curves": {kind: run["curve"] for kind, run in chosen.items()},
        "runs": [{key: run[key] for key in ("name", "weights", "config", "options", "seconds")}
                 | {name: run[name]["perplexity"] for name in ("validation", "test")} for run in runs],
    }


def main(argv=None):
    """Choose and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sparseloom.models.zoo.ship", description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, help="folder with the results of python -m sparseloom.models.zoo.train")
    parser.add_argument("--tokenizer", type=Path, help="the tokenizer JSON of the runs (default: tokenizer.json among them)")
    parser.add_argument("--text", type=Path, help="cleaned text (default: downloaded)")
    parser.add_argument("--to", type=Path, default=SHIPPED, help="checkpoint to write (default: the one of the package)")
    options = parser.parse_args(argv)
    try:
        text = options.text.read_text(encoding="utf-8") if options.text else clean(extract(fetch()))
        tokenizer = (options.tokenizer or options.runs / "tokenizer.json").read_bytes()
        results = ship(read_runs(options.runs), options.runs, text, tokenizer, options.to)
    except (OSError, InputError) as error:
        print(f"ship: {error}", file=sys.stderr)
        return 2
    path = options.to.with_suffix(".results.json")
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results["scores"], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
