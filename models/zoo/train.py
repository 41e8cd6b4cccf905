"""Trains one MatMul-free language model on the King James text: ``python -m sparseloom.models.zoo.train --help``.

Writes ``NAME.json`` (options, loss curve, held-out perplexity) and, for a ternary model, ``NAME.safetensors`` (the
packed weights at the best validation loss). ``checkpoints/*.recipe.txt`` lists the runs behind the checkpoint that ships and
``python -m sparseloom.models.zoo.ship`` chooses among them. Needs PyTorch, which nothing else in the package needs.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo.checkpoint import ternary_tensors, write_checkpoint
from sparseloom.models.zoo.text import clean, extract, fetch, split
from sparseloom.models.zoo.tokenizer import load_tokenizer, streams, train_tokenizer

__all__ = ["inner_width", "main", "parse"]

PACKED_ROWS = 4  # the file packs so many rows into one
BYTES = 256  # the tokens that every byte-level vocabulary has
WARMUP = 100  # steps
BETAS = (0.9, 0.98)
CLIP = 1.0
EVALUATION_CHUNK = 8192  # tokens a forward pass; the state is carried from chunk to chunk


def parse(argv=None):
    """Command line -> options."""
    parser = argparse.ArgumentParser(prog="python -m sparseloom.models.zoo.train", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for the results")
    add("--name", default="run", help="file name of the results (default: run)")
    add("--text", type=Path, help="cleaned text (default: downloaded; python -m sparseloom.models.zoo.text writes it)")
    add("--tokenizer", type=Path, help="tokenizer JSON (default: trained on the training split)")
    add("--weights", choices=("ternary", "float"), default="ternary")
    add("--vocabulary", type=int, default=4096)
    add("--width", type=int, default=256)
    add("--layers", type=int, default=6)
    add("--context", type=int, default=256, help="tokens a training sequence")
    add("--batch", type=int, default=32, help="sequences a step")
    add("--epochs", type=float, default=8, help="passes over the training split, in tokens")
    add("--lr", type=float, default=2e-3, help="peak learning rate; linear to 0 after the warm-up")
    add("--decay", type=float, default=0.1, help="weight decay of matrices and embedding")
    add("--dropout", type=float, default=0.1, help="on what each mixer adds to the residual stream")
    add("--seed", type=int, default=1)
    add("--device", default="cpu")
    add("--compile", action="store_true", help="torch.compile the training step")
    options = parser.parse_args(argv)
    for name, least in (("vocabulary", BYTES), ("width", PACKED_ROWS), ("layers", 1)):
        value, step = getattr(options, name), 1 if name == "layers" else PACKED_ROWS
        if value < least or value % step:
            parser.error(f"{name} must be a multiple of {step} from {least}, got {value}")
    return options


def inner_width(width):
    """Inner width of the channel mixer by the paper's rule."""
    return 256 * math.ceil(int(width * 4 * 2 / 3) / 256)


def evaluate(model, stream, torch, device):
    """Sum of -ln P over the whole stream as one sequence, its state carried from the first token on."""
    total, state = 0.0, None
    ids = torch.from_numpy(stream).to(device)
    model.eval()
    with torch.no_grad():
        for start in range(0, len(ids) - 1, EVALUATION_CHUNK):
            chunk = ids[start : start + EVALUATION_CHUNK + 1]
            logits, state = model(chunk[None, :-1], state)
            total += torch.nn.functional.cross_entropy(logits[0], chunk[1:], reduction="sum").item()
    model.train()
    return total


def fit(model, data, options, torch, report):
    """Train; returns (the curve, the parameters at the best validation loss). One curve row an epoch."""
    decayed = [p for p in model.parameters() if p.ndim == 2 and p is not model.lower_bounds]
    groups = [{"params": decayed, "weight_decay": options.decay},
              {"params": [p for p in model.parameters() if not any(p is q for q in decayed)], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=options.lr, betas=BETAS, fused=options.device != "cpu")
    tokens = torch.from_numpy(data["train"]).to(options.device)
    per_epoch = max(1, (len(tokens) - 1) // (options.batch * options.context))
    steps = max(1, round(options.epochs * per_epoch))
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1, (step + 1) / WARMUP) * max(0, (steps - step) / steps))
    forward = torch.compile(model) if options.compile else model
    span = torch.arange(options.context + 1, device=options.device)
    draw = torch.Generator().manual_seed(options.seed)
    best, kept, curve, running = math.inf, None, [], torch.zeros((), device=options.device)
    started, since = time.monotonic(), 0
    for step in range(1, steps + 1):
        begin = torch.randint(0, len(tokens) - options.context, (options.batch, 1), generator=draw).to(options.device)
        batch = tokens[begin + span]
        logits, _ = forward(batch[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        rate.step()
        running += loss.detach()
        since += 1
        if step % per_epoch == 0 or step == steps:
            nll = evaluate(model, data["validation"], torch, options.device) / (len(data["validation"]) - 1)
            row = {"step": step, "train_nll": running.item() / since, "validation_nll": nll, "lr": rate.get_last_lr()[0]}
            curve.append(row)
            report(f"{options.name}: step {step}/{steps} train {row['train_nll']:.3f} validation {nll:.3f} "
                   f"(perplexity {math.exp(nll):.2f}) {time.monotonic() - started:.0f} s")
            running.zero_()
            since = 0
            if nll < best:
                best, kept = nll, {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}
    return curve, kept


def main(argv=None):
    """Run one training; returns the exit code."""
    options = parse(argv)
    try:
        import torch

        from sparseloom.models.zoo.network import MatmulFree
    except ImportError as error:
        print(f"train: PyTorch must be installed (pip install torch), got {error}", file=sys.stderr)
        return 2
    try:
        text = options.text.read_text(encoding="utf-8") if options.text else clean(extract(fetch()))
    except (OSError, InputError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    splits = split(text)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.tokenizer:
        tokenizer = load_tokenizer(options.tokenizer)
    else:
        tokenizer = train_tokenizer(splits.train, options.vocabulary)
        tokenizer.save(str(options.out / "tokenizer.json"))
    data = streams(tokenizer, splits)
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")  # tf32: exact for codes times trits, see network.py
    config = {"vocabulary": tokenizer.get_vocab_size(), "width": options.width, "inner": inner_width(options.width),
              "layers": options.layers}
    model = MatmulFree(**config, dropout=options.dropout, ternary=options.weights == "ternary").to(options.device)
    started = time.monotonic()
    curve, kept = fit(model, data, options, torch, lambda line: print(line, file=sys.stderr, flush=True))
    if kept is None:
        print("train: the validation loss was never finite", file=sys.stderr)
        return 1
    model.load_state_dict(kept)
    result = {"name": options.name, "weights": options.weights, "config": config, "options": {
        key: getattr(options, key) for key in ("context", "batch", "epochs", "lr", "decay", "dropout", "seed")}}
    for name in ("validation", "test"):
        nll, count = evaluate(model, data[name], torch, options.device), len(data[name]) - 1
        size = len(getattr(splits, name).encode())
        result[name] = {"tokens": count, "perplexity": math.exp(nll / count), "bits_per_byte": nll / math.log(2) / size}
    result |= {"curve": curve, "seconds": time.monotonic() - started, "torch": torch.__version__,
               "device": torch.cuda.get_device_name() if options.device == "cuda" else options.device}
    (options.out / f"{options.name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.weights == "ternary":
        tensors = ternary_tensors({key: value.numpy() for key, value in kept.items()})
        write_checkpoint(options.out / f"{options.name}.safetensors", tensors, {"config": config})
    print(json.dumps({key: result[key] for key in ("name", "weights", "validation", "test", "seconds")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
