"""The recipe of the distilled rows: kept weights trained on a GPU so that the pruned model speaks as the float model does.

Needs PyTorch (``pip install 'sparseloom[train]'``). Not part of ``compress``, which is one shot on a CPU. The masks are those of
a container and stay; its weights are the start. The texts are the float model's own: half of them begin with the chat template's
first user turn, so that the model asks, too, and half with the end-of-text token. The loss is the KL divergence of next-token
distributions. Quantised rows train through the rounding (straight-through), scales included (LSQ, Esser et al. 2020).
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional

from sparseloom.models.compress.apply import apply
from sparseloom.models.graph import GroupedWeight
from sparseloom.models.importers.nm_file import save_nm
from sparseloom.models.zoo.llama import EMBEDDING
from sparseloom.models.zoo.smollm2 import chat, load_smollm2

__all__ = ["Network", "QuantisedWeights", "distil", "sample"]

LENGTH, WARM_UP = 512, 30
END_OF_TEXT = 0


class Network:
    """The forward pass of :mod:`sparseloom.models.zoo.llama` in PyTorch: norms and embedding are the float model's."""

    def __init__(self, model, device, length=LENGTH):
        self.config, self.device = model.config, device
        self.tensors = {name: torch.tensor(value, device=device) for name, value in model.weights.items()}
        width = model.config.head_width
        turns = torch.outer(torch.arange(length, dtype=torch.float64),
                            model.config.rope_base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width))
        self.cos, self.sin = turns.cos().float().to(device), turns.sin().float().to(device)

    def logits(self, weights, ids, kind=torch.bfloat16, last=False):
        """[batch, length, vocabulary] of ids [batch, length], with ``weights`` by matrix name and products in ``kind``; with
        ``last`` of the last position alone."""
        x = self.tensors[EMBEDDING][ids]
        for layer in range(self.config.layers):
            x = self._block(weights, f"blk.{layer}.", x, kind)
        x = x[:, -1:] if last else x
        return functional.linear(self._norm("output_norm.weight", x).to(kind), self.tensors[EMBEDDING].to(kind))

    def _block(self, weights, at, x, kind):
        def product(name, h):
            return functional.linear(h.to(kind), weights[f"{at}{name}.weight"].to(kind))

        config = self.config
        h = self._norm(f"{at}attn_norm.weight", x)
        q, k, v = (product(f"attn_{part}", h).unflatten(-1, (-1, config.head_width)).transpose(1, 2) for part in "qkv")
        shared = config.heads // config.kv_heads
        q, k, v = self._rope(q).to(kind), self._rope(k).to(kind).repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + product("attn_output", mixed).float()
        h = self._norm(f"{at}ffn_norm.weight", x)
        return x + product("ffn_down", functional.silu(product("ffn_gate", h)) * product("ffn_up", h)).float()

    def _norm(self, name, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.config.eps) * self.tensors[name]

    def _rope(self, x):
        cos, sin = self.cos[: x.shape[2]], self.sin[: x.shape[2]]
        a, b = x.float()[..., 0::2], x.float()[..., 1::2]
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


@torch.no_grad()
def sample(network, prompt, count, seed, length=LENGTH):
    """``count`` sequences [count, length] of the float model, which continue the ids ``prompt`` at temperature 1.

    Without a cache of keys: every step is a pass over all tokens so far.
    """
    draw = torch.Generator(network.device).manual_seed(seed)
    ids = torch.tensor(prompt, device=network.device).repeat(count, 1)
    while ids.shape[1] < length:
        last = network.logits(network.tensors, ids, last=True)[:, 0].float()
        ids = torch.cat([ids, torch.multinomial(last.softmax(-1), 1, generator=draw)], 1)
    return ids


class QuantisedWeights:
    """The trained parameters of N:M matrices {name: GroupedWeight}: kept weights and scales; masks are constants."""

    def __init__(self, stored, device):
        self.stored = stored
        self.masks = {name: torch.tensor(one.mask, device=device) for name, one in stored.items()}
        self.weights = {name: torch.tensor(one.dequantise(), device=device, requires_grad=True) for name, one in stored.items()}
        self.scales = {name: torch.tensor(one.scale, device=device, requires_grad=True) for name, one in stored.items()}

    def matrices(self):
        """The matrices as they are stored, through which gradients flow."""
        return {name: (codes * self.scales[name][..., None]).flatten(1) for name, codes in self._codes()}

    def _codes(self):
        for name, one in self.stored.items():
            top = 1 << (one.bits - 1)
            groups = (self.weights[name] * self.masks[name]).unflatten(1, (-1, one.scale_group))
            places = (groups / self.scales[name][..., None]).clamp(-top, top - 1)
            yield name, places + (places.round() - places).detach()

    def store(self):
        """{name: GroupedWeight} of the state now."""
        found = {}
        with torch.no_grad():
            for name, codes in self._codes():
                one = self.stored[name]
                codes = codes.flatten(1).round().cpu().numpy() + (1 << (one.bits - 1))
                found[name] = GroupedWeight(codes=codes.astype(np.uint8), bits=one.bits, scale=self.scales[name].cpu().numpy(),
                                            scale_group=one.scale_group, mask=one.mask, nnz=one.nnz, group=one.group)
        return found


def distil(network, trained, data, epochs, rate, batch=32, report=print):
    """Train in place on ids ``data`` [sequences, length] for whole epochs, Adam with a cosine; ``rate / 10`` for scales."""
    groups = [{"params": [*trained.weights.values()], "lr": rate}, {"params": [*trained.scales.values()], "lr": rate / 10}]
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)
    steps = epochs * len(data) // batch
    pace = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda step: min((step + 1) / WARM_UP, 1) * (1 + math.cos(math.pi * step / steps)) / 2)
    draw = torch.Generator().manual_seed(1)
    order = torch.cat([torch.randperm(len(data), generator=draw) for _ in range(epochs)])
    for step in range(steps):
        ids = data[order[step * batch : (step + 1) * batch].to(data.device)]
        with torch.no_grad():
            wanted = network.logits(network.tensors, ids).float().log_softmax(-1)
        mine = network.logits(trained.matrices(), ids).float().log_softmax(-1)
        loss = (wanted.exp() * (wanted - mine)).sum(-1).mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        pace.step()
        if step % 100 == 0:
            report(f"step {step}/{steps}: KL {loss.item():.4f}")


def main(argv=None):
    """Distil SmolLM2 into the masks of a container that ``sparseloom compress`` wrote."""
    parser = argparse.ArgumentParser(prog="python -m sparseloom.models.compress.distil", description=main.__doc__)
    parser.add_argument("container", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--sequences", type=int, default=6144, help="of 512 tokens (default 6144)")
    parser.add_argument("--chunk", type=int, default=256, help="sequences sampled at a time (default 256)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args(argv)
    start, model = time.monotonic(), load_smollm2()
    network = Network(model, options.device)
    prompts = (list(model.encode(chat("\0").split("\0")[0])), [END_OF_TEXT])
    data = torch.cat([sample(network, prompts[i % 2], options.chunk, i) for i in range(options.sequences // options.chunk)])
    print(f"{data.numel()} tokens sampled in {time.monotonic() - start:.0f} s", flush=True)
    trained = QuantisedWeights(apply(model, options.container)[1], options.device)
    distil(network, trained, data, options.epochs, options.rate)
    save_nm(options.output, trained.store(), metadata={"base": "SmolLM2-135M-Instruct", "made": "distilled"})
    print(f"{options.output.name} after {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
