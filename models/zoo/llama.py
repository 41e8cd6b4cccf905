"""Language models of the Llama architecture at run time: float32 NumPy around matrix products that somebody else may compute.

The forward pass is llama.cpp's for GGUF files of architecture ``llama``: x += Wo attention(rope(q), rope(k), v) and
x += Wdown (silu(Wgate h) * Wup h) with h the RMSNorm of x; RoPE on interleaved pairs (2i, 2i + 1), as the rows of Wq and Wk are
permuted in such files; key/value head j serves query heads j * r to j * r + r - 1 with r = heads / kv_heads.

Every matrix product goes through a hook ``matmul(name, x float32 [m, k]) -> float32 [m, n]``, with ``name`` as in the file:
``blk.0.attn_q.weight`` ... ``output.weight`` (the head, also where it is tied to the embedding). The default hook multiplies by
the dequantised weights; golden, a simulator or a board can stand in its place. Lookups, norms, RoPE, attention and the
activation are NumPy.
"""

import numpy as np

from sparseloom.models.importers.gguf_floats import read_floats
from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo.llama_config import EMBEDDING, HEAD, read_config
from sparseloom.models.zoo.matmulfree import choose, swish

__all__ = ["HEAD", "KVCache", "LlamaLM", "watched"]

CHUNK = 512  # positions a forward pass; bounds the memory for scores and logits


class KVCache:
    """Keys (after RoPE) and values of the ``length`` positions so far, float32 [layers, kv_heads, length, head_width] each."""

    def __init__(self, config):
        self.length, self._shape = 0, (2, config.layers, config.kv_heads)
        self._rows = np.empty((*self._shape, 0, config.head_width), np.float32)

    def put(self, layer, keys, values):
        """Store rows [kv_heads, m, head_width] from position ``length`` on; returns all keys and values of the layer."""
        end = self.length + keys.shape[1]
        if end > self._rows.shape[3]:
            rows = np.empty((*self._shape, max(end, 2 * self._rows.shape[3]), keys.shape[2]), np.float32)
            rows[..., : self.length, :] = self._rows[..., : self.length, :]
            self._rows = rows
        self._rows[0, layer, :, self.length : end], self._rows[1, layer, :, self.length : end] = keys, values
        return self._rows[0, layer, :, :end], self._rows[1, layer, :, :end]


class LlamaLM:
    """``weights``: tensor name -> float32 array, as :meth:`.LlamaConfig.shapes` names and sizes them, and the embedding.
    ``metadata``: the file's keys, from which ``encode`` and ``decode`` make the tokenizer.

    Ids are 1-D integer sequences. ``x`` is float32 [m, width], one row a position of one sequence.
    """

    def __init__(self, config, weights, metadata=None):
        self.config, self.weights, self.metadata, self._tokenizer = config, dict(weights), dict(metadata or {}), None
        self.weights.setdefault(HEAD, self.weights[EMBEDDING])
        self.products = tuple(config.shapes()[0])
        exponents = np.arange(0, config.head_width, 2) / config.head_width
        self._frequencies = np.float64(config.rope_base) ** -exponents

    @classmethod
    def load(cls, path):
        """The model of a GGUF file; InputError if it is unsound, of another architecture, or needs what this pass has not."""
        metadata, weights = read_floats(path)
        config = read_config(metadata, weights, path)
        products, vectors = config.shapes()
        shapes = products | vectors | {EMBEDDING: products[HEAD]}
        if HEAD not in weights:
            del shapes[HEAD]
        for name in [*shapes, *weights]:
            found = weights[name].shape if name in weights else None
            if found != shapes.get(name):
                rule = f"have the shape {shapes[name]}" if name in shapes else "be a tensor of this architecture"
                raise InputError(path, name, rule, found)
        return cls(config, weights, metadata)

    def replaced(self, weights):
        """The same model with other float32 matrices under some names, HEAD among them; arrays are shared, not copied."""
        for name, value in weights.items():
            if name not in self.products or value.shape != self.weights[name].shape:
                raise ValueError(f"weights must have a product's name and shape, got {name} {value.shape}")
        model = LlamaLM(self.config, {**self.weights, **weights}, self.metadata)
        model._tokenizer = self._tokenizer
        return model

    def product(self, name, x):
        """The default hook: x [m, k] times the float32 matrix ``name`` [n, k], transposed."""
        return x @ self.weights[name].T

    def embed(self, ids):
        """x of token ids: their rows of the embedding."""
        return self.weights[EMBEDDING][np.asarray(ids, np.int64)]

    def block(self, number, x, cache, matmul=None):
        """x after layer ``number``, for positions ``cache.length`` on; their keys and values enter the cache.

        ``cache.length`` is moved by the caller, once all layers have seen the positions (:meth:`step` does).
        """
        matmul, at = matmul or self.product, f"blk.{number}"
        h = self._norm(f"{at}.attn_norm.weight", x)
        q, k, v = (self._heads(matmul(f"{at}.attn_{part}.weight", h)) for part in "qkv")
        keys, values = cache.put(number, self._rope(k, cache.length), v)
        x = x + matmul(f"{at}.attn_output.weight", self._attend(self._rope(q, cache.length), keys, values))
        h = self._norm(f"{at}.ffn_norm.weight", x)
        gate, up = (matmul(f"{at}.ffn_{part}.weight", h) for part in ("gate", "up"))
        return x + matmul(f"{at}.ffn_down.weight", swish(gate) * up)

    def head(self, x, matmul=None):
        """Logits [m, vocabulary] of x after the last layer."""
        return (matmul or self.product)(HEAD, self._norm("output_norm.weight", x))

    def step(self, ids, cache, matmul=None, last=False):
        """Logits of m tokens after those in ``cache``, which takes them in; each product is one call for all m rows.

        Float32 [m, vocabulary]; with ``last`` [1, vocabulary], of the last token alone. One id is a decode step, several are a
        prefill. ValueError beyond the context.
        """
        if not 0 < len(ids) <= self.config.context - cache.length:
            raise ValueError(f"ids must be 1..{self.config.context - cache.length} more tokens, got {len(ids)}")
        x = self.embed(ids)
        for number in range(self.config.layers):
            x = self.block(number, x, cache, matmul)
        cache.length += len(x)
        return self.head(x[-1:] if last else x, matmul)

    def forward(self, ids, matmul=None):
        """Logits [m, vocabulary] of a whole sequence, in chunks of 512 positions."""
        cache = KVCache(self.config)
        return np.concatenate([self.step(ids[at : at + CHUNK], cache, matmul) for at in range(0, len(ids), CHUNK)])

    def generate(self, prompt, count, temperature=0.0, seed=0, matmul=None):
        """Yield up to ``count`` ids that continue the ids ``prompt``, the file's end-of-text id being the last of them.

        The most probable one each, or drawn at a ``temperature`` with ``seed``. The prompt is one prefill, each id a decode step.
        """
        if not len(prompt) or not temperature >= 0:
            raise ValueError(f"prompt must not be empty and temperature not negative, got {len(prompt)} ids and {temperature}")
        draw, cache, ids = np.random.Generator(np.random.PCG64(seed)), KVCache(self.config), list(prompt)
        for _ in range(count):
            ids = [choose(self.step(ids, cache, matmul, last=True)[0], temperature, draw)]
            yield ids[0]
            if ids[0] == self.metadata.get("tokenizer.ggml.eos_token_id"):
                return

    def encode(self, text):
        """Token ids of ``text``, in which the names of control tokens are these tokens; no start token is added."""
        return self._bpe().encode(text, add_special_tokens=False).ids

    def decode(self, ids):
        """The text of token ids, control tokens by their names."""
        return self._bpe().decode([int(i) for i in ids], skip_special_tokens=False)

    def _bpe(self):
        if self._tokenizer is None:
            from sparseloom.models.zoo.tokenizer import gguf_tokenizer

            self._tokenizer = gguf_tokenizer(self.metadata)
        return self._tokenizer

    def _norm(self, name, x):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(self.config.eps)) * self.weights[name]

    def _heads(self, x):
        """[m, heads * head_width] -> [heads, m, head_width]."""
        return x.reshape(len(x), -1, self.config.head_width).transpose(1, 0, 2)

    def _rope(self, x, start):
        """Pairs (2i, 2i + 1) of [heads, m, head_width] turned by position * base^(-2i / head_width), positions from ``start``."""
        angles = np.arange(start, start + x.shape[1])[:, None] * self._frequencies
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        turned = np.empty_like(x)
        turned[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
        turned[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
        return turned

    def _attend(self, q, keys, values):
        """Causal attention of the last m positions: q [heads, m, d], keys and values [kv_heads, length, d] -> [m, heads * d]."""
        heads, m, d = q.shape
        length = keys.shape[1]
        q = q.reshape(len(keys), -1, d)  # the query heads of one key/value head under one another
        scores = (q @ keys.transpose(0, 2, 1) / np.float32(np.sqrt(d))).reshape(heads, m, length)
        later = np.arange(length) > np.arange(length - m, length)[:, None]
        scores[:, later] = -np.inf
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = scores.reshape(len(keys), -1, length) @ values
        return mixed.reshape(heads, m, d).transpose(1, 0, 2).reshape(m, heads * d)


def watched(see, matmul):
    """The hook ``matmul`` that first shows each product's input: ``see(name, x)``. For calibration statistics."""

    def hook(name, x):
        see(name, x)
        return matmul(name, x)

    return hook
