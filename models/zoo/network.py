"""The MatMul-free language model in PyTorch, for training only (arXiv 2406.02528, arithmetic as its released code runs it).

BitLinear with straight-through gradients, MLGRU token mixer, GLU channel mixer, no biases, embeddings not tied. With
``ternary=False`` the same network multiplies by its float weights and does not quantise: the float model of the same shape.
Parameter names are those of the released checkpoints. Importing this module needs torch.
"""

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["MatmulFree", "scan"]

EPS = 1e-6  # what the released fused kernel runs with, although the module is built with 1e-8
FLOOR = 1e-5
INIT_STD = 0.02


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + 1e-6) * gain over the last dimension."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * self.weight


def through(exact, smooth):
    """The value of ``exact`` with the gradient of ``smooth`` (exact in float32 for the roundings used here)."""
    return smooth + (exact - smooth).detach()


class BitLinear(nn.Module):
    """int8 codes per token times trits with one scale a tensor; both rounded half to even, gradients straight through."""

    def __init__(self, inputs, outputs, ternary):
        super().__init__()
        self.norm = RMSNorm(inputs)
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * INIT_STD)
        self.ternary = ternary

    def forward(self, x):
        x = self.norm(x)
        if not self.ternary:
            return F.linear(x, self.weight)
        s_x = 127 / x.detach().abs().amax(-1, keepdim=True).clamp(min=FLOOR)
        s_w = 1 / self.weight.detach().abs().mean().clamp(min=FLOOR)
        x, w = x * s_x, self.weight * s_w
        # Codes and trits are small integers: the product is exact in tf32 with float32 accumulation.
        return F.linear(through(x.round().clamp(-128, 127), x), through(w.round().clamp(-1, 1), w)) / (s_x * s_w)


def _doubling(f, i):
    """h[t] = f[t] h[t-1] + i[t] along dimension 1, in log2(length) passes."""
    step = 1
    while step < f.shape[1]:
        i = i + f * F.pad(i[:, :-step], (0, 0, step, 0))
        f = f * F.pad(f[:, :-step], (0, 0, step, 0))
        step *= 2
    return i


class _Scan(torch.autograd.Function):
    """The recurrence forward, and its adjoint (the same recurrence, reversed in time) backward."""

    @staticmethod
    def forward(ctx, f, i):
        h = _doubling(f, i)
        ctx.save_for_backward(f, h)
        return h

    @staticmethod
    def backward(ctx, grad):
        f, h = ctx.saved_tensors
        later = F.pad(f[:, 1:], (0, 0, 0, 1))
        grad = _doubling(later.flip(1), grad.flip(1)).flip(1)
        return grad * F.pad(h[:, :-1], (0, 0, 1, 0)), grad


def scan(f, i):
    """h[t] = f[t] * h[t-1] + i[t] with h[-1] = 0; f, i [batch, time, width], differentiable in both."""
    return _Scan.apply(f, i)


class TokenMixer(nn.Module):
    """MLGRU: element-wise recurrence over time; the norm acts on g, the Swish on h."""

    def __init__(self, width, ternary):
        super().__init__()
        self.i_proj, self.f_proj, self.g_proj, self.o_proj = (BitLinear(width, width, ternary) for _ in range(4))
        self.g_norm = RMSNorm(width)

    def forward(self, x, bound, state):
        f = bound + (1 - bound) * torch.sigmoid(self.f_proj(x))
        i = F.silu(self.i_proj(x)) * (1 - f)
        if state is not None:
            i = torch.cat([i[:, :1] + f[:, :1] * state[:, None], i[:, 1:]], 1)
        h = scan(f, i)
        return self.o_proj(self.g_norm(self.g_proj(x)) * F.silu(h)), h[:, -1]


class ChannelMixer(nn.Module):
    """GLU: gate and up are one layer with one norm and one weight scale."""

    def __init__(self, width, inner, ternary):
        super().__init__()
        self.gate_proj, self.down_proj = BitLinear(width, 2 * inner, ternary), BitLinear(inner, width, ternary)

    def forward(self, x):
        gate, up = self.gate_proj(x).chunk(2, -1)
        return self.down_proj(F.silu(gate) * up)


class Block(nn.Module):
    """Token mixer and channel mixer, each normed before and added to the residual stream after."""

    def __init__(self, width, inner, dropout, ternary):
        super().__init__()
        self.attn_norm, self.mlp_norm = RMSNorm(width), RMSNorm(width)
        self.attn, self.mlp = TokenMixer(width, ternary), ChannelMixer(width, inner, ternary)
        self.drop = nn.Dropout(dropout)

    def forward(self, x, bound, state):
        y, state = self.attn(self.attn_norm(x), bound, state)
        x = x + self.drop(y)
        return x + self.drop(self.mlp(self.mlp_norm(x))), state


class MatmulFree(nn.Module):
    """ids [batch, time] and an optional state (one [batch, width] a layer) -> logits [batch, time, vocabulary], new state."""

    def __init__(self, *, vocabulary, width, inner, layers, dropout, ternary):
        super().__init__()
        self.embeddings = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embeddings.weight, std=INIT_STD)
        self.lower_bounds = nn.Parameter(torch.zeros(layers, width))
        self.layers = nn.ModuleList(Block(width, inner, dropout, ternary) for _ in range(layers))
        self.norm = RMSNorm(width)
        self.lm_head = BitLinear(width, vocabulary, ternary)
        with torch.no_grad():
            for block in self.layers:  # residual branches start smaller, as in GPT-2 and the released code
                block.attn.o_proj.weight *= (2 * layers) ** -0.5
                block.mlp.down_proj.weight *= (2 * layers) ** -0.5

    def forward(self, ids, state=None):
        shares = self.lower_bounds.softmax(0)
        bounds = shares.cumsum(0) - shares[0]  # row 0 is exactly 0: the first layer has no lower bound
        x, states = self.embeddings(ids), []
        for number, block in enumerate(self.layers):
            x, last = block(x, bounds[number], None if state is None else state[number])
            states.append(last)
        return self.lm_head(self.norm(x)), states
