"""The MatMul-free language model at run time: float32 NumPy around matrix products that somebody else may compute.

Arithmetic as the released code of arXiv 2406.02528 runs it: RMSNorm with eps 1e-6 inside and outside BitLinear, int8 absmax
codes per token, one weight scale a tensor (gate and up are one tensor), lower bounds on the forget gate of every layer but
the first, the norm of the token mixer on g and the Swish on h, a head that is a BitLinear with a norm of its own.

Every matrix product goes through a hook ``matmul(layer_name, codes int8 [m, k]) -> int32 [m, n]``: raw accumulators of
codes times trits, exact. The default hook computes them in NumPy; a simulator or a board can stand in its place.
"""

from pathlib import Path

import numpy as np

from sparseloom.models.formats.quantize import quantize
from sparseloom.models.zoo.checkpoint import read_model
from sparseloom.models.zoo.tokenizer import START, load_tokenizer

__all__ = ["MatmulFreeLM"]

SHIPPED = Path(__file__).parent / "checkpoints" / "kjv-matmulfree.safetensors"
EPS = np.float32(1e-6)
CHUNK = 512  # positions a forward pass; bounds the memory for logits


def sigmoid(x):
    """1 / (1 + exp(-x)) by one exponential of a non-positive argument: no overflow in either tail."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, np.float32(1), e) / (1 + e)


def swish(x):
    """x * sigmoid(x)."""
    return x * sigmoid(x)


def rms_norm(x, gain):
    """x / sqrt(mean(x^2) + 1e-6) * gain over the last dimension."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + EPS) * gain


def choose(logits, temperature, draw):
    """An id from logits [vocabulary]: the first of the largest at temperature 0, else one draw from softmax(logits / T)."""
    if temperature == 0:
        return int(np.argmax(logits))
    weights = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    return int(np.searchsorted(np.cumsum(weights), draw.random() * weights.sum(), side="right").clip(max=len(logits) - 1))


class MatmulFreeLM:
    """``layers``: tensor name -> ``TernaryWeight`` (trits int8 [n, k], scale), in the order of execution; these names are the
    hook's. ``floats``: tensor name -> float32 array (embedding, gains, lower bounds). ``config``: vocabulary, width, inner,
    layers. ``tokenizer``: a ``tokenizers.Tokenizer`` or the path of its JSON, for ``encode`` and ``decode``.

    A state is float32 [layers, width]: the memory of the recurrence, and all there is. Ids are 1-D integer sequences.
    """

    def __init__(self, layers, floats, config, tokenizer=None):
        self.layers, self.floats, self.config, self.tokenizer = dict(layers), dict(floats), dict(config), tokenizer
        self._transposed = {name: np.ascontiguousarray(layer.trits.T, np.float32) for name, layer in self.layers.items()}
        bounds = np.stack([self.floats[f"lower_bounds.{number}"] for number in range(config["layers"])])
        shares = np.exp(bounds - bounds.max(axis=0))
        shares = shares / shares.sum(axis=0)
        self.bounds = np.cumsum(shares, axis=0, dtype=np.float32) - shares[0]  # row 0 is exactly 0

    @classmethod
    def load(cls, path=None):
        """The model of a checkpoint ``X.safetensors`` with ``X.tokenizer.json`` beside it; without a path, the one that ships."""
        path = SHIPPED if path is None else Path(path)
        layers, floats, metadata = read_model(path)
        return cls(layers, floats, metadata["config"], path.with_suffix(".tokenizer.json"))

    def encode(self, text):
        """Token ids of ``text``, behind the start token that every stream begins with."""
        return self._bpe().encode(START).ids + self._bpe().encode(text).ids

    def decode(self, ids):
        """The text of token ids."""
        return self._bpe().decode([int(i) for i in ids])

    def _bpe(self):
        if isinstance(self.tokenizer, (str, Path)):
            self.tokenizer = load_tokenizer(self.tokenizer)
        return self.tokenizer

    def state(self):
        """The state before the first token: zeros."""
        return np.zeros((self.config["layers"], self.config["width"]), np.float32)

    def product(self, name, codes):
        """The exact product of the hook's contract: codes int8 [m, k] times the trits of layer ``name``, int32 [m, n]."""
        # Every partial sum is an integer below 128 * k, which float32 holds exactly up to k = 131072: BLAS may sum in any order.
        return (codes.astype(np.float32) @ self._transposed[name]).astype(np.int32)

    def step(self, ids, state, matmul=None):
        """(logits float32 [m, vocabulary], new state) of m tokens after ``state``; each product is one call for all m rows."""
        matmul, gain = matmul or self.product, self.floats
        x, after = gain["embeddings.weight"][np.asarray(ids, np.int64)], np.empty_like(state)
        for number, bound in enumerate(self.bounds):
            at = f"layers.{number}"
            y = rms_norm(x, gain[f"{at}.attn_norm.weight"])
            i = swish(self._bit_linear(f"{at}.attn.i_proj", y, matmul))
            f = bound + (1 - bound) * sigmoid(self._bit_linear(f"{at}.attn.f_proj", y, matmul))
            i = i * (1 - f)
            g = rms_norm(self._bit_linear(f"{at}.attn.g_proj", y, matmul), gain[f"{at}.attn.g_norm.weight"])
            h, last = np.empty_like(i), state[number]
            for t in range(len(i)):
                h[t] = last = f[t] * last + i[t]
            after[number] = last
            x = x + self._bit_linear(f"{at}.attn.o_proj", g * swish(h), matmul)
            y = rms_norm(x, gain[f"{at}.mlp_norm.weight"])
            gate, up = np.split(self._bit_linear(f"{at}.mlp.gate_proj", y, matmul), 2, axis=-1)
            x = x + self._bit_linear(f"{at}.mlp.down_proj", swish(gate) * up, matmul)
        return self._bit_linear("lm_head", rms_norm(x, gain["norm.weight"]), matmul), after

    def _bit_linear(self, name, x, matmul):
        codes, scale = quantize(rms_norm(x, self.floats[f"{name}.norm.weight"]))
        weight = f"{name}.weight"
        return matmul(weight, codes).astype(np.float32) * (np.float32(self.layers[weight].scale) / scale)

    def forward(self, ids, matmul=None):
        """Logits float32 [m, vocabulary] of a whole sequence, in chunks of 512 positions."""
        return np.concatenate([logits for logits in self._chunks(ids, matmul)])

    def _chunks(self, ids, matmul):
        state = self.state()
        for start in range(0, len(ids), CHUNK):
            logits, state = self.step(ids[start : start + CHUNK], state, matmul)
            yield logits

    def nll(self, ids, matmul=None):
        """Sum of -ln P(token) over ``ids`` after the first, which is context only; one stream from a zero state."""
        total, targets = 0.0, np.asarray(ids[1:], np.int64)
        for number, logits in enumerate(self._chunks(ids[:-1], matmul)):
            target = targets[number * CHUNK : number * CHUNK + len(logits)]
            logits = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
            total += np.log(np.exp(logits).sum(axis=-1)).sum() - logits[np.arange(len(target)), target].sum()
        return float(total)

    def perplexity(self, ids, matmul=None):
        """exp of the mean of ``nll`` over the predicted tokens."""
        return float(np.exp(self.nll(ids, matmul) / (len(ids) - 1)))

    def generate(self, prompt, count, temperature=0.0, seed=0, matmul=None):
        """Yield ``count`` ids that continue the ids ``prompt``: the most probable one each, or drawn at a ``temperature``.

        ``seed`` fixes the draws; the prompt is one chunk of products, each id after it a chunk of one row.
        """
        if not len(prompt) or not temperature >= 0:
            raise ValueError(f"prompt must not be empty and temperature not negative, got {len(prompt)} ids and {temperature}")
        draw, state, ids = np.random.Generator(np.random.PCG64(seed)), self.state(), list(prompt)
        for _ in range(count):
            logits, state = self.step(ids, state, matmul)
            ids = [choose(logits[-1], temperature, draw)]
            yield ids[0]
